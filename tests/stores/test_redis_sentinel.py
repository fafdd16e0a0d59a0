"""A master dies, and the sentinels name its replica. Real servers, over HTTP."""

from __future__ import annotations

import pytest
from tests.redis_sentinel import ask, redis_sentinels
from tests.redis_server import wait_for
from tests.stores.redis_views import are_told_all, is_told_of_a_loss, read_to, two, watched

from tidelog.testing import Gate, Script

NUMBERS = [f"{number} " for number in range(9)]


@pytest.mark.parametrize("lost", [False, True], ids=["that has all", "without the last records"])
def test_the_sentinels_name_a_replica(lost: bool) -> None:
    gates = Gate(), Gate()
    script = Script(*NUMBERS[:3], gates[0], *NUMBERS[3:6], gates[1], *NUMBERS[6:])
    with redis_sentinels() as redis, two(redis.url, script) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[2])
        wait_for(redis.has_all, "the replica has all")
        if lost:
            redis.replica.pause()
            ask(redis.master, "CLIENT KILL TYPE replica")
        gates[0].open()
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[5])
        if not lost:
            wait_for(redis.has_all, "the replica has all")
        redis.master.kill()
        if lost:
            redis.replica.go_on()
            is_told_of_a_loss(one, other, (mine, far), kept="".join(NUMBERS[:3]))
        else:
            gates[1].open()
            are_told_all((mine, far), "".join(NUMBERS))
        assert one.watch("/run").run != mine.run, "others begin as ever"
