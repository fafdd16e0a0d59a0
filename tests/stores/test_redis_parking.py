"""Parked logs, and a Redis that loses them, or what they were parked with."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from math import inf

import pytest
from tests.redis_server import ON_DISK, RedisServer, redis_server

from tidelog.errors import Conflict, StoreError, Unavailable
from tidelog.log import Lease
from tidelog.stores.redis import RedisStore, nodes
from tidelog.testing.conformance import eventually, records, whole

LOG = "run/a"
MINE = Lease("one")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(*ON_DISK) as found:
        yield found


@pytest.fixture
async def one(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url)
    await store.start("one")
    await store.open(LOG, b"h", records=records(0, 1))
    yield store
    await store.aclose()


@pytest.fixture
async def two(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url)
    await store.start("two")
    yield store
    await store.aclose()


def without(redis: RedisServer, behind: int) -> None:
    """Redis dies, and comes back with this much of its file."""
    redis.kill()
    redis.forget(behind)
    redis.start()


async def left_by(store: RedisStore) -> bool:
    """Whether the log is found as one that nobody writes."""
    try:
        return list(await store.orphans(8.0)) == [LOG]
    except StoreError:
        return False


@pytest.mark.anyio
async def test_a_parking_that_was_lost_is_made_again(redis: RedisServer, one: RedisStore, two: RedisStore) -> None:
    """The log is its owner's again, who does not write it: it is a stray."""
    size = redis.written()
    await one.park(LOG, 1, lease=MINE, due=5.0)
    without(redis, size)
    assert await eventually(lambda: left_by(one))
    assert list(await two.parked(inf)) == []
    await one.take(LOG, 1, (), ended=False, due=5.0)
    assert [due.log for due in await two.parked(5.0)] == [LOG] and list(await one.orphans(8.0)) == []
    assert await two.take(LOG, 1, records(1, 1, epoch=3), ended=False) == Lease("two", 3)


@pytest.mark.anyio
async def test_a_log_whose_end_was_lost_is_not_parked(redis: RedisServer, one: RedisStore, two: RedisStore) -> None:
    size = redis.written()
    await one.append(LOG, 1, records(1, 2), lease=MINE)
    without(redis, size)
    with pytest.raises(StoreError):
        await one.park(LOG, 3, lease=MINE, due=inf)

    async def refused() -> bool:
        try:
            await one.park(LOG, 3, lease=MINE, due=inf)
        except Conflict:
            return True
        except Unavailable:
            return False
        raise AssertionError("parked behind its end")

    assert await eventually(refused)
    assert await eventually(lambda: left_by(one))
    tail = await two.tail(LOG)
    assert tail is not None and (tail.last, tail.epoch, tail.owner) == (1, 2, "one")
    assert await one.take(LOG, 1, records(1, 1, epoch=3)) == Lease("one", 3)
    assert await whole(two, LOG) == records(0, 1) + records(1, 1, epoch=3)


@pytest.mark.anyio
async def test_a_taking_that_was_lost_is_told(redis: RedisServer, one: RedisStore, two: RedisStore) -> None:
    """Who has taken it writes under a new epoch, or not at all: it was parked again for a moment."""
    await one.park(LOG, 1, lease=MINE, due=inf)
    size = redis.written()
    told: list[StoreError] = []
    lease = await two.take(LOG, 1, records(1, 1, epoch=2), ended=False)
    lease.lost = told.append
    await two.append(LOG, 2, records(2, 1, epoch=2), lease=lease)
    without(redis, size)

    async def heard() -> bool:
        return bool(told)

    assert await eventually(heard)
    assert isinstance(told[0], Unavailable)
    assert list(await one.parked(inf)) == []
    tail = await one.tail(LOG)
    assert tail is not None and (tail.last, tail.epoch, tail.owner) == (1, 3, "two")
    with pytest.raises(Conflict):
        await one.take(LOG, 1, ())


@pytest.mark.anyio
async def test_a_parking_that_nobody_knows_the_outcome_of_is_repeated(
    redis: RedisServer, one: RedisStore, two: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "SOCKET_TIMEOUT", 0.3)
        redis.pause()
        with pytest.raises(Unavailable):
            await one.park(LOG, 1, lease=MINE, due=5.0)
    redis.go_on()

    async def parked() -> bool:
        return [due.log for due in await two.parked(5.0)] == [LOG]

    assert await eventually(parked)
    await one.park(LOG, 1, lease=MINE, due=5.0)
    assert await two.take(LOG, 1, (), ended=False) == Lease("two", 2)
    with pytest.raises(Conflict):
        await one.park(LOG, 1, lease=MINE, due=5.0)
    assert await two.tail(LOG) == (1, 1, False, 2, b"h", "two")


@pytest.mark.anyio
async def test_the_list_of_parked_logs_is_set_right_and_emptied(one: RedisStore, two: RedisStore) -> None:
    """It names a log until that has ended or is dropped; a time in it that is not the log's is mended when somebody looks."""
    for name in ("run/b", "run/c"):
        await one.open(name, b"", records=records(0, 1))
    for name in (LOG, "run/b", "run/c"):
        await one.park(name, 1, lease=MINE, due=5.0)
    key = one._keys.parked
    await one._link.one("ZADD", key, 900, LOG, 900, "run/gone")
    await two.take("run/b", 1, (), ended=False)
    assert [due.log for due in await two.parked(5.0)] == ["run/c"]
    assert [due.log for due in await two.parked(inf)] == [LOG, "run/c"]
    assert await one._link.one("ZRANGE", key, 0, -1) == [LOG.encode(), b"run/c", b"run/b"]
    assert [due.log for due in await two.parked(5.0)] == [LOG, "run/c"]
    assert await one._link.one("TTL", key) > 0
    await two.append("run/b", 1, (), lease=Lease("two", 2), ended=True)
    await two.take(LOG, 1, ())
    await one.drop("run/c")
    assert list(await two.expire(time.time() - 3600)) == []  # ends are noted before it looks
    assert await one._link.one("EXISTS", key) == 0
    assert await one._link.one("SMEMBERS", one._keys.held("one")) == []
