"""What the tests of the stores share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.redis_server import RedisServer

from tidelog.stores.redis import RedisStore
from tidelog.stores.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A SQLite store of the owner `one`, in `logs.db`."""
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await store.start("one")
    yield store
    await store.aclose()


@pytest.fixture
async def stores(redis: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two stores on one Redis, of the owners `one` and `two`. A file that asks for them has a fixture `redis`."""
    one, two = RedisStore(redis.url), RedisStore(redis.url)
    await one.start("one")
    await two.start("two")
    yield one, two
    await one.aclose()
    await two.aclose()
