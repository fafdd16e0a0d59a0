"""A process that died with many logs: what it costs the others to take them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from tests.redis_server import redis_server

from tidelog.stores.redis import RedisStore
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
