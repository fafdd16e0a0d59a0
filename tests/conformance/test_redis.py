"""The Redis store against the suite that every store must pass, on a real Redis and on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.redis_cluster import redis_cluster
from tests.redis_server import redis_server

from tidelog.seams import Store
from tidelog.stores.redis import RedisStore
from tidelog.testing.conformance import SharedStoreConformance

URLS: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def servers() -> Iterator[None]:
    with redis_server() as one, redis_cluster() as cluster:
        URLS.update(one=one.url, cluster=cluster.url)
        yield


def _store(url: str, where: Path, beat: float | None) -> Store:
    prefix = f"t{abs(hash(str(where)))}"
    return RedisStore(f"{url}?prefix={prefix}" + (f"&beat={beat}" if beat else ""))


class TestRedis(SharedStoreConformance):
    def make(self, where: Path, *, beat: float | None = None) -> Store:
        return _store(URLS["one"], where, beat)


class TestRedisCluster(SharedStoreConformance):
    def make(self, where: Path, *, beat: float | None = None) -> Store:
        return _store(URLS["cluster"], where, beat)
