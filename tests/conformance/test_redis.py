"""The Redis store against the suite that every store must pass, and a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.redis_server import RedisServer, redis_server

from tidelog.seams import Store
from tidelog.stores.redis import RedisStore
from tidelog.testing.conformance import SharedStoreConformance

SERVERS: dict[str, RedisServer] = {}


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with redis_server() as found:
        SERVERS["one"] = found
        yield


class TestRedis(SharedStoreConformance):
    def make(self, where: Path, *, beat: float | None = None) -> Store:
        prefix = f"t{abs(hash(str(where)))}"
        return RedisStore(f"{SERVERS['one'].url}?prefix={prefix}" + (f"&beat={beat}" if beat else ""))
