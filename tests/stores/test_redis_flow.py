"""What gathers goes together, and each log hears what became of its own. No Redis: the answers are given here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidelog.errors import Conflict, StoreError
from tidelog.log import Lease, Record
from tidelog.stores.redis import calls
from tidelog.stores.redis.flow import Flow
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.lane import Lane
from tidelog.stores.redis.wire import Wire

pytestmark = pytest.mark.anyio
TTL = 1000


def record(seq: int) -> Record:
    return Record(seq, 1.0, b"%d" % seq)


class Asked:
    """A flow, the groups that it sent, and what they are answered."""

    def __init__(self) -> None:
        self.sent: list[Sequence[bytes]] = []
        self.answers: list[asyncio.Future[Sequence[int]]] = []
        self.ended: list[str] = []
        self._sendings = asyncio.Semaphore(0)
        self.flow = Flow(
            self._send,
            self._lane,
            "me",
            ttl=TTL,
            patience=5.0,
            lost=self._lost,
            left=lambda lane: None,
            ended=self.ended.append,
        )

    def _lane(self, log: str, lease: Lease, after: int) -> Lane:
        lane = Lane(log, Keys("t").of(log), lease, base=after)
        lane.prefix = calls.prefix(lane, TTL)
        return lane

    async def _send(self, packed: Sequence[bytes]) -> Sequence[int]:
        self.sent.append(packed)
        self.answers.append(asyncio.get_running_loop().create_future())
        self._sendings.release()
        return await self.answers[-1]

    async def _lost(self, refused: Sequence[tuple[Lane, int]]) -> Sequence[bool]:
        return [False] * len(refused)

    async def flies(self) -> None:
        """Until the next group is sent."""
        await self._sendings.acquire()


async def test_one_of_a_group_is_refused() -> None:
    asked, told = Asked(), list[StoreError]()
    good = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
    bad = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    silent = asked.flow.append("run/c", 0, (record(1),), Lease("me", 1, told.append))
    await asked.flies()
    asked.answers[0].set_result([1, -1, -1])
    await good
    with pytest.raises(Conflict):
        await bad
    await silent  # of many logs: the lease was told before
    assert len(told) == 1
    assert asked.flow.lanes.keys() == {"run/a"}
    assert asked.flow.lanes["run/a"].stored == 1


async def test_what_comes_while_a_group_flies_is_the_next_one() -> None:
    asked, lease = Asked(), Lease("me", 1, lambda error: None)
    first = asked.flow.append("run/a", 0, (record(1),), lease)
    assert asked.flow.append("run/b", 0, (record(1),), lease) is first
    await asked.flies()
    second = asked.flow.append("run/a", 1, (record(2), record(3)), lease, b"head", True)
    assert second is not first
    assert asked.flow.append("run/a", 1, (record(2), record(3)), lease, b"head", True) is second  # repeated
    asked.answers[0].set_result([1, 1])
    await asked.flies()
    lane = asked.flow.lanes["run/a"]
    assert (lane.stored, lane.ended, asked.ended) == (1, False, [])
    asked.answers[1].set_result([1])
    await second
    assert (lane.stored, lane.head, lane.ended, asked.ended) == (3, b"head", True, ["run/a"])
    assert [len(packed) for packed in asked.sent] == [2, 1]


async def test_a_group_of_which_all_logs_were_forgotten_is_not_sent() -> None:
    """Nobody would answer, and everything else would wait for that. One is forgotten while it gathers, one in its last moment."""
    asked = Asked()
    for last_moment in (False, True):
        future = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
        if last_moment:
            await asyncio.sleep(0)
        assert (asked.flow._flying is not None) == last_moment
        asked.flow.forget("run/a")
        with pytest.raises(Conflict):
            await future
    other = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    await asked.flies()
    assert [len(packed) for packed in asked.sent] == [1]
    asked.answers[0].set_result([1])
    await other


async def test_a_log_that_is_forgotten_hears_of_it_and_the_others_go_on() -> None:
    asked = Asked()
    flying = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
    other = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    await asked.flies()
    gathering = asked.flow.append("run/a", 1, (record(2),), Lease("me"))
    asked.flow.forget("run/a")
    asked.answers[0].set_result([1, 1])
    await other
    for future in (flying, gathering):
        with pytest.raises(Conflict):
            await future
    await asked.flow.close()
    assert len(asked.sent) == 1  # nothing is left to send


@pytest.mark.parametrize("cut", range(1, 12))
async def test_answers_come_in_any_pieces(cut: int) -> None:
    transport = SimpleNamespace(set_protocol=lambda protocol: None, write=lambda data: None)
    wire = Wire(cast(Any, SimpleNamespace(_writer=SimpleNamespace(transport=transport))))
    nothing = wire.send([])
    plain, mixed = wire.send([b"a", b"b"], plain=True), wire.send([b"a", b"WAIT"])
    text = b":1\r\n:-1\r\n:1\r\n:1\r\n"
    for start in range(0, len(text), cut):
        wire.data_received(text[start : start + cut])
    assert await nothing == []
    assert await plain == [1, -1]
    assert await mixed == [1, 1]
