"""What counts as stored: in Redis' memory, on its disk, on a replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from tests.redis_cluster import redis_cluster
from tests.redis_server import ON_DISK, RedisServer, redis_server, wait_for

from tidelog.errors import InvalidRequest, Unavailable
from tidelog.log import Lease
from tidelog.stores.redis import RedisStore, errand
from tidelog.testing.conformance import eventually, records, whole

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(url)
    await store.start("one")
    try:
        yield store
    finally:
        await store.aclose()


def test_other_words_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="memory, aof, replica"):
        RedisStore("redis://localhost/0?ack=disk")


async def test_a_replica_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server("--repl-diskless-sync-delay", "0") as redis, redis_server() as replica:
        async with opened(f"{redis.url}?ack=replica&store_patience=1") as store:
            with monkeypatch.context() as patch:
                patch.setattr(errand, "ACK_TIMEOUT", 0.1)
                with pytest.raises(Unavailable):
                    await store.open("run/a", b"")
            assert await ordered(replica, "REPLICAOF", "127.0.0.1", redis.port)

            async def replicated() -> bool:
                try:
                    return await store.post("control/a", b"") > 0
                except Unavailable:
                    return False

            assert await eventually(replicated)
            await store.open("run/b", b"h", records=records(0, 1))
            await store.append("run/b", 1, records(1, 2), lease=Lease("one"))
            redis.pause()
            assert await ordered(replica, "REPLICAOF", "NO", "ONE")
            async with opened(replica.url) as later:
                assert await whole(later, "run/b") == records(0, 3)
            redis.go_on()


async def test_the_replicas_of_a_cluster_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node dies the moment that it is stored, and its replica takes its place."""
    with redis_cluster(replicas=True) as cluster:
        node = cluster.index("{a}")
        replica = cluster.nodes[node + cluster.masters]
        async with opened(f"{cluster.url}?ack=replica&store_patience=1") as store, opened(cluster.url) as later:
            await store.open("run/a", b"h", records=records(0, 1))
            await store.append("run/a", 1, records(1, 2), lease=Lease("one"))
            with monkeypatch.context() as patch:
                patch.setattr(errand, "ACK_TIMEOUT", 0.1)
                replica.pause()
                with pytest.raises(Unavailable):
                    await store.append("run/a", 3, records(3, 1), lease=Lease("one"))
                replica.go_on()
            wait_for(lambda: cluster.has_all(node), "the replica is there again")
            await store.open("other/a", b"h", records=records(0, 5))  # the same slot
            cluster.nodes[node].kill()

            async def there() -> bool:
                try:
                    return await whole(later, "other/a") == records(0, 5)
                except Unavailable:
                    return False

            assert await eventually(there)
            assert (await whole(later, "run/a"))[:3] == records(0, 3)


async def test_the_disk_has_it() -> None:
    with redis_server(*ON_DISK) as redis:
        if not await knows_waitaof(redis):
            with pytest.raises(InvalidRequest, match="WAITAOF"):
                await RedisStore(f"{redis.url}?ack=aof").start("one")
            return
        async with opened(f"{redis.url}?ack=aof") as store:
            await store.open("run/a", b"h", records=records(0, 1))
            await store.append("run/a", 1, records(1, 2), lease=Lease("one"))
            redis.kill()
            redis.start()
            async with opened(redis.url) as later:
                assert await whole(later, "run/a") == records(0, 3)


async def test_a_redis_without_a_file_is_refused() -> None:
    with redis_server() as redis, pytest.raises(InvalidRequest, match=r"ack=aof needs"):
        await RedisStore(f"{redis.url}?ack=aof").start("one")


async def ordered(server: RedisServer, *command: object) -> object:
    async with Redis(port=server.port) as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def knows_waitaof(server: RedisServer) -> bool:
    try:
        await ordered(server, "WAITAOF", 0, 0, 1)
    except ResponseError:
        return False
    return True
