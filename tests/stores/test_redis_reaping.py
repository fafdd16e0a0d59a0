"""What becomes of logs that are left: many of a process that died, those of one that lived, and one that is dropped while its
end is noted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from math import inf
from typing import Any

import pytest
from redis import Redis
from tests.redis_server import redis_server

from tidelog.errors import Conflict
from tidelog.log import Lease
from tidelog.stores.redis import RedisStore, scripts
from tidelog.stores.redis.wire import Command
from tidelog.testing.conformance import eventually, records

LOGS = 100
PATIENCE = 0.2
LONG = 3600.0


@pytest.fixture
def asked() -> Iterator[Redis]:
    with redis_server() as server, Redis(port=server.port) as client:
        yield client


@pytest.mark.anyio
async def test_each_log_costs_the_same(asked: Redis) -> None:
    """However many there are: a budget of commands for each, so that nobody fences all of them again for every one."""
    url = url_of(asked)
    dead, other = RedisStore(url), RedisStore(url + "?beat=60")
    await dead.start("dead")
    names = {f"run/{number}" for number in range(LOGS)}
    for name in names:
        await dead.open(name, b"h", records=records(0, 1))
    await dead.aclose()
    await other.start("other")

    async def found() -> bool:
        return set(await other.orphans(PATIENCE)) == names

    assert await eventually(found)
    before = asked.info("stats")["total_commands_processed"]
    for name in await other.orphans(PATIENCE):
        await other.take(name, 1, records(1, 1, epoch=2))
    spent = asked.info("stats")["total_commands_processed"] - before
    assert spent / LOGS < 40, spent
    assert await other.orphans(PATIENCE) == []
    assert {(await other.tail(name)).owner for name in names} == {"other"}  # type: ignore[union-attr]
    await other.aclose()


@pytest.mark.anyio
async def test_a_log_that_is_dropped_while_its_end_is_noted_leaves_nothing(asked: Redis) -> None:
    store = RedisStore(url_of(asked))
    await store.start("one")
    await store.open("run/a", b"h", records=records(0, 1))
    await store.append("run/a", 1, records(1, 1), Lease("one"), ended=True)
    dropped, send = asyncio.Event(), store._link.send

    async def late(*stages: Sequence[Command]) -> list[Any]:
        if stages[0][0][0] == "ZADD":
            await dropped.wait()
        return await send(*stages)

    store._link.send = late  # type: ignore[method-assign]
    noting = asyncio.create_task(store._notes.write())
    await asyncio.sleep(0)
    await store.drop("run/a")
    dropped.set()
    await noting
    await store.aclose()
    assert asked.zcard(store._keys.ended) == 0


# Declared dead, and alive: whoever was at it is interrupted anywhere


@pytest.fixture
async def alive(asked: Redis) -> AsyncIterator[RedisStore]:
    """Two logs are its own. It beats, but only once in a long while."""
    store = RedisStore(url_of(asked) + "?beat=3000")
    await store.start("alive")
    for name in ("run/a", "run/b"):
        await store.open(name, b"h", records=records(0, 1))
    yield store
    await store.aclose()


@pytest.fixture
async def reaper(asked: Redis, alive: RedisStore) -> AsyncIterator[RedisStore]:
    """It has found the other dead."""
    store = RedisStore(url_of(asked))
    await store.start("reaper")

    async def found() -> bool:
        return set(await store.orphans(PATIENCE)) == {"run/a", "run/b"}

    assert await eventually(found)
    yield store
    await store.aclose()


@pytest.mark.anyio
async def test_who_died_before_it_had_fenced_them(alive: RedisStore, reaper: RedisStore) -> None:
    """They are still its own, and it knows nothing of them any more."""
    assert await reaper._leases._declare_dead("alive", b"1") is not None
    await alive.open("run/new", b"h", records=records(0, 1))
    assert set(await alive.orphans(LONG)) == {"run/a", "run/b"}
    for name in ("run/a", "run/b"):
        await alive.take(name, 1, records(1, 1, epoch=2))
    assert list(await alive.orphans(LONG)) == []


@pytest.mark.anyio
async def test_who_fences_late_fences_nothing_new(alive: RedisStore, reaper: RedisStore) -> None:
    run = reaper._link.run

    async def late(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        found = await run(script, keys, args)
        if script == scripts.BURY:
            await alive.open("run/new", b"h", records=records(0, 1))
        return found

    reaper._link.run = late  # type: ignore[method-assign]
    await reaper.take("run/a", 1, records(1, 1, epoch=2))
    await alive.append("run/new", 1, records(1, 1), Lease("alive"), ended=True)
    assert list(await alive.orphans(LONG)) == ["run/b"]


@pytest.mark.anyio
async def test_what_it_has_taken_anew_it_is_found_with(alive: RedisStore, reaper: RedisStore) -> None:
    """Whoever parks a log for a worker strikes it from what the dead one holds; that one was the next worker meanwhile."""
    leave = reaper._leases.leave

    async def late(owner: str, *logs: str) -> None:
        with pytest.raises(Conflict):
            await alive.append("run/a", 1, records(1, 1), Lease("alive"))
        await alive.take("run/a", 1, records(1, 1, epoch=3), ended=False)
        await leave(owner, *logs)

    reaper._leases.leave = late  # type: ignore[method-assign]
    await reaper.take("run/a", 1, (), ended=False, due=inf)
    await alive.aclose()
    assert set(await reaper.orphans(LONG)) == {"run/a", "run/b"}


@pytest.mark.anyio
async def test_who_lives_again_is_looked_for(asked: Redis, alive: RedisStore, reaper: RedisStore) -> None:
    """It is forgotten, for it holds nothing, and takes something in that moment."""
    for name in ("run/a", "run/b"):
        await reaper.take(name, 1, records(1, 1, epoch=2))
    run = reaper._link.run

    async def late(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        if script == scripts.FORGET_OWNER:
            await alive.open("run/new", b"h", records=records(0, 1))
        return await run(script, keys, args)

    reaper._link.run = late  # type: ignore[method-assign]
    assert list(await reaper.orphans(LONG)) == []
    await alive.aclose()
    assert list(await reaper.orphans(LONG)) == ["run/new"]


def url_of(asked: Redis) -> str:
    return f"redis://127.0.0.1:{asked.connection_pool.connection_kwargs['port']}/0"
