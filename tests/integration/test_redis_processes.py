"""Two processes of `tidelog serve` that share nothing but a Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.crowd import stopped_from_elsewhere, watched_from_both
from tests.redis_server import RedisServer, redis_server

from tidelog.testing import Process, serve_process, transcript, watch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


def start(redis: RedisServer) -> Process:
    env = {"APP_STORE": f"{redis.url}?beat=0.2", "APP_LEASE_PATIENCE": "1.0"}
    return serve_process("tests.integration.apps:app", cwd=ROOT, env=env)


@pytest.fixture
def owner(redis: RedisServer) -> Iterator[Process]:
    with start(redis) as found:
        yield found


@pytest.fixture(scope="module")
def other(redis: RedisServer) -> Iterator[Process]:
    with start(redis) as found:
        yield found


def test_any_process_serves_and_stops_a_run(owner: Process, other: Process) -> None:
    stopped_from_elsewhere(owner, other)


def test_what_a_killed_process_left_is_ended(owner: Process, other: Process) -> None:
    mine, far = watched_from_both(owner, other)
    owner.kill()
    mine.rest()
    far.rest()
    seen, whole = transcript(mine.frames), transcript(far.frames)
    assert whole[: len(seen)] == seen
    assert whole[-1]["error"]["code"] == "interrupted"
    assert far.frames[-1].id == f"{mine.run}.2.{whole[-1]['seq']}", "a new owner, a new epoch"
    with watch(f"{other.url}/runs/{mine.run}/events", last_event_id=far.parser.last_id) as late:
        assert late.status == 204
