"""What becomes of logs that are left: many of a process that died, and one that is dropped while its end is noted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis import Redis
from tests.redis_server import redis_server

from tidelog.log import Lease
from tidelog.stores.redis import RedisStore
from tidelog.stores.redis.wire import Command
from tidelog.testing.conformance import eventually, records

LOGS = 100
PATIENCE = 0.2


@pytest.fixture
def asked() -> Iterator[Redis]:
    with redis_server() as server, Redis(port=server.port) as client:
        yield client


@pytest.mark.anyio
async def test_each_log_costs_the_same(asked: Redis) -> None:
    """However many there are: a budget of commands for each, so that nobody fences all of them again for every one."""
    url = f"redis://127.0.0.1:{asked.connection_pool.connection_kwargs['port']}/0"
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
    store = RedisStore(f"redis://127.0.0.1:{asked.connection_pool.connection_kwargs['port']}/0")
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
