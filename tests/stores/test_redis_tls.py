"""Redis behind TLS: servers that speak to nobody without a certificate, one and a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.certificates import Certificates, certificates
from tests.conftest import SOAK
from tests.redis_cluster import Cluster, client_of, redis_cluster
from tests.redis_server import ON_DISK, RedisServer, redis_server
from tests.stores.redis_views import are_told_all, read_to, two, watched

from tidelog.errors import Unavailable
from tidelog.seams import Store
from tidelog.stores.redis import RedisStore
from tidelog.testing import Gate, Script
from tidelog.testing.conformance import SharedStoreConformance

NUMBERS = [f"{number} " for number in range(9)]
SAMPLE = {
    "test_data_of_any_bytes", "test_many_appends_of_many_logs_under_way", "test_cursors_beside_a_writer_lose_nothing",
    "test_bells_ring_in_other_processes", "test_a_key_is_one_over_processes", "test_a_zombie_is_fenced",
    "test_posts_of_many_processes_have_dense_numbers", "test_what_is_parked_outlives_its_process",
}  # fmt: skip
"""Of the suite that every store must pass: what the wire, what is heard and the beats have to do with."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def redis(tls: Certificates) -> Iterator[RedisServer]:
    with redis_server(*ON_DISK, tls=tls) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(tls: Certificates) -> Iterator[Cluster]:
    with redis_cluster(*ON_DISK, tls=tls) as found:
        yield found


class Sample(SharedStoreConformance):
    """Some of it, and all of it where there is time for that."""

    url: str

    def make(self, where: Path, *, beat: float | None = None) -> Store:
        return RedisStore(f"{self.url}&prefix=t{abs(hash(str(where)))}" + (f"&beat={beat}" if beat else ""))


for name in dir(Sample):
    if name.startswith("test_") and name not in SAMPLE and not SOAK:
        setattr(Sample, name, None)


class TestOne(Sample):
    @pytest.fixture(autouse=True)
    def server(self, redis: RedisServer) -> None:
        self.url = redis.url


class TestCluster(Sample):
    @pytest.fixture(autouse=True)
    def server(self, cluster: Cluster) -> None:
        self.url = cluster.url


def test_killed_and_started_again(redis: RedisServer) -> None:
    gate = Gate()
    with two(redis.url, Script("on ", gate, *NUMBERS)) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, "on ")
        redis.kill()
        gate.open()
        redis.start()
        are_told_all((mine, far), "on " + "".join(NUMBERS))


def test_each_node_of_a_cluster_has_its_runs(cluster: Cluster) -> None:
    with two(cluster.url, Script(*NUMBERS)) as (one, other):
        runs = [watched(one, other) for _ in range(12)]
        for mine, far in runs:
            are_told_all((mine, far), "".join(NUMBERS))
    for node in cluster.nodes:
        with client_of(node) as client:
            assert client.dbsize() > 0


@pytest.mark.anyio
async def test_who_is_not_trusted_is_not_spoken_to(redis: RedisServer, tls: Certificates, tmp_path: Path) -> None:
    """Here a server of another authority, there a client of one; or of none, or without TLS."""
    stranger = certificates(tmp_path / "other")
    mixed = stranger._replace(authority=tls.authority)
    bare = redis.url.partition("?")[0]
    for url in (f"{bare}?{stranger.query}", f"{bare}?{mixed.query}", bare, bare.replace("rediss", "redis")):
        with pytest.raises(Unavailable):
            await RedisStore(url).start("one")
