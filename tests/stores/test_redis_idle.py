"""After many short runs there is nothing left: no key, channel, connection or task. And what a run costs in round trips."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from tests.conftest import count
from tests.redis_server import redis_server
from tests.stores.redis_app import make

from tidelog.testing import Server, serve

THREADS = 16
FOREVER = -1  # what TTL tells of a key that has no end


@pytest.fixture(scope="module")
def asked() -> Iterator[Redis]:
    with redis_server() as redis, Redis(port=redis.port) as client:
        yield client


@pytest.fixture(scope="module")
def server(asked: Redis) -> Iterator[Server]:
    port = asked.connection_pool.connection_kwargs["port"]
    with serve(make(f"redis://127.0.0.1:{port}/0")) as found:
        found.client.get("/count?to=2", headers={"Accept": "application/json"})
        yield found


def level(server: Server, asked: Redis) -> dict[str, Any]:
    server.call(gc.collect)  # a bell may be part of a cycle
    return {
        "keys": sorted(key.decode() for key in asked.scan_iter()),
        "channels": len(asked.pubsub_channels()),
        "tasks": server.call(lambda: len(asyncio.all_tasks())),
        "connections": len(asked.client_list()),
    }


def idle(server: Server, asked: Redis, keys: list[str] | None = None) -> dict[str, Any]:
    """The level once no channel is heard, no log is held, and there are these keys."""
    until = time.monotonic() + 20
    while True:
        found = level(server, asked)
        held = any(":held:" in key for key in found["keys"])
        if not found["channels"] and not held and keys in (None, found["keys"]):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.05)


def run(server: Server, number: int) -> str:
    path = f"/count?to=2&pause=0&thread=t{number}"
    answer = server.client.get(path, headers={"Accept": "application/json"})
    assert answer.json()["text"] == "0 1 ", answer.text
    return answer.headers["run-id"]


@pytest.mark.soak
def test_nothing_is_left(server: Server, asked: Redis) -> None:
    with ThreadPoolExecutor(THREADS) as many:
        list(many.map(lambda n: run(server, n), range(THREADS)))  # connections that stay are made
        list(many.map(lambda n: server.client.delete(f"/threads/t{n}"), range(THREADS)))
        before = idle(server, asked)
        done = list(many.map(lambda n: run(server, n), range(count(100, 20_000))))
        assert FOREVER not in {asked.ttl(key) for key in asked.scan_iter()}  # one that is gone meanwhile tells another
        assert len(list(asked.scan_iter(match="*:run:*"))) >= len(done)
        statuses = set(many.map(lambda n: server.client.delete(f"/threads/t{n}").status_code, range(len(done))))
        assert statuses == {204}
    after = idle(server, asked, before["keys"])
    assert after["tasks"] <= before["tasks"]
    assert after["connections"] <= before["connections"] + 1


def test_a_run_costs_few_commands(server: Server, asked: Redis) -> None:
    """A budget, so that nobody adds a round trip unseen: commands of clients for a run that starts and ends."""
    run(server, -1)
    before = asked.info("stats")["total_commands_processed"]
    runs = 50
    for number in range(runs):
        run(server, -2 - number)
    spent = (asked.info("stats")["total_commands_processed"] - before) / runs
    assert spent < 80, spent
