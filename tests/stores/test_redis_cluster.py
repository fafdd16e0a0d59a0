"""A cluster whose nodes die, with a replica and without one, and whose slots move. Real servers, over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from redis.crc import key_slot
from tests.redis_cluster import Cluster, redis_cluster
from tests.redis_server import ON_DISK, redis_server, wait_for
from tests.stores.redis_views import are_told_all, ending, epochs, is_told_of_a_loss, read_to, two, watched

from tidelog.errors import InvalidRequest
from tidelog.stores.redis import RedisStore, errand
from tidelog.testing import Gate, Script, Server, Viewer, rebuild
from tidelog.testing.conformance import records, whole

NUMBERS = [f"{number} " for number in range(9)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with redis_cluster(*ON_DISK) as found:
        yield found


def tag(run: str | None) -> str:
    return f"{{{run}}}"


def two_runs(one: Server, other: Server, cluster: Cluster) -> tuple[tuple[Viewer, Viewer], tuple[Viewer, Viewer]]:
    """Runs of two nodes, each with a viewer here and one there."""
    first = watched(one, other)
    while True:
        second = watched(one, other)
        if cluster.index(tag(first[0].run)) != cluster.index(tag(second[0].run)):
            return first, second


def test_a_node_that_is_away_holds_its_own_runs_alone(cluster: Cluster) -> None:
    gate = Gate()
    with two(cluster.url, Script("on ", gate, *NUMBERS)) as (one, other):
        held, others = two_runs(one, other, cluster)
        for viewer in (*held, *others):
            read_to(viewer, "on ")
        node = cluster.nodes[cluster.index(tag(held[0].run))]
        node.kill()
        gate.open()
        for viewer in others:
            viewer.rest()
            assert ending(viewer) == ("completed", None)
        node.start()
        for viewer in (*held, *others):
            viewer.rest()
            assert rebuild(viewer.frames) == "on " + "".join(NUMBERS)
            assert ending(viewer) == ("completed", None)
            assert epochs(viewer) == {"1"}


def test_a_slot_moves_while_a_run_writes(cluster: Cluster) -> None:
    """Its keys are there, then somewhere else, and then its slot is, too."""
    gates = [Gate() for _ in range(3)]
    with two(cluster.url, Script("on ", gates[0], "a ", gates[1], "b ", gates[2], "c")) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, "on ")
        source = cluster.index(tag(mine.run))
        steps = iter(((gates[0], "a "), (gates[1], "b ")))

        def between() -> None:
            gate, text = next(steps)
            gate.open()
            read_to(mine, text)

        cluster.move(key_slot(tag(mine.run).encode()), source, (source + 1) % 3, between=between)
        read_to(far, "b ")
        gates[2].open()
        for viewer in (mine, far):
            viewer.rest()
            assert rebuild(viewer.frames) == "on a b c"
            assert ending(viewer) == ("completed", None)
            assert epochs(viewer) == {"1"}


@pytest.mark.parametrize("lost", [False, True], ids=["that has all", "without the last records"])
def test_a_replica_takes_the_place_of_a_node(lost: bool) -> None:
    gates = Gate(), Gate()
    script = Script(*NUMBERS[:3], gates[0], *NUMBERS[3:6], gates[1], *NUMBERS[6:])
    with redis_cluster(replicas=True) as cluster, two(cluster.url, script) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[2])
        node = cluster.index(tag(mine.run))
        wait_for(lambda: cluster.has_all(node), "the replica has all")
        replica = cluster.nodes[node + cluster.masters]
        if lost:
            replica.pause()
            cluster.ask(node, "CLIENT KILL TYPE replica")
        gates[0].open()
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[5])
        if not lost:
            wait_for(lambda: cluster.has_all(node), "the replica has all")
        cluster.nodes[node].kill()
        if lost:
            replica.go_on()
            is_told_of_a_loss(one, other, (mine, far), kept="".join(NUMBERS[:3]))
        else:
            gates[1].open()
            are_told_all((mine, far), "".join(NUMBERS))
        assert one.watch("/run").run != mine.run, "others begin as ever"


@pytest.mark.anyio
async def test_an_address_of_something_else_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidRequest, match=r"redis\+cluster"):
        await RedisStore(f"redis://127.0.0.1:{cluster.nodes[0].port}").start("one")
    with redis_server() as alone, pytest.raises(InvalidRequest, match="redis://"):
        await RedisStore(f"redis+cluster://127.0.0.1:{alone.port}").start("one")


@pytest.mark.anyio
async def test_scripts_that_the_nodes_have_forgotten_are_loaded_again(cluster: Cluster) -> None:
    store = RedisStore(cluster.url)
    await store.start("one")
    for number in range(2):
        for index in range(cluster.masters):
            cluster.ask(index, "SCRIPT FLUSH")
        posts = [store.post(f"control/{name}", b"x") for name in range(20)]
        assert await asyncio.gather(*posts) == [number + 1] * 20
    await store.aclose()


@pytest.mark.anyio
async def test_a_log_of_a_slot_on_its_way_is_opened_once_it_has_come(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "TRIES", 1000)
    source = cluster.index("{a}")
    target = (source + 1) % 3
    store = RedisStore(cluster.url)
    await store.start("one")
    refused, opening = tries(cluster, target), threading.Event()

    def between() -> None:
        opening.set()
        wait_for(lambda: tries(cluster, target) > refused, "the node of the future is asked")

    moving = asyncio.create_task(asyncio.to_thread(cluster.move, key_slot(b"a"), source, target, between=between))
    await asyncio.to_thread(opening.wait)
    await store.open("run/a", b"h", records=records(0, 3))
    await moving
    assert await whole(store, "run/a") == records(0, 3)
    await store.drop("run/a")
    await store.aclose()


def tries(cluster: Cluster, index: int) -> int:
    """How often a node has said TRYAGAIN."""
    found = cluster.ask(index, "INFO", "errorstats").get("errorstat_TRYAGAIN", {"count": 0})
    return int(found["count"])
