"""Each workload in its smallest size, so that the bench does not rot: every promised figure is there, and nothing is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil

import pytest
from bench.load import Unmeasurable
from bench.roster import SERVERS, Server, choose, named
from bench.workload import Plan, Results, Workload
from bench.workloads import WORKLOADS
from tests.conftest import SOAK

from bench import build, machine

pytestmark = [
    pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores"),
]
TRIES = 3
LONG = ("capacity", "idle", "replay", "stalled", "many-viewers", "most-viewers")
BY_NAME = {workload.name: workload for workload in WORKLOADS}
ONLY_SOAK = pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="takes long: with SOAK=1")


def here(server: Server) -> Server:
    """A Python peer in this interpreter: its own environment would have to be installed."""
    return dataclasses.replace(server, peer=False)


def measured(workload: Workload, server: Server) -> dict[str, float]:
    """A machine that stands still for a second leaves nothing to measure: then it is tried again."""
    machine.allow_many_sockets()
    plan = Plan(machine.cores(), "tiny", Results())
    for _ in range(TRIES - 1):
        with contextlib.suppress(Unmeasurable):
            return dict(workload.measure(server, plan))
    return dict(workload.measure(server, plan))


@pytest.mark.parametrize(
    "name",
    [
        *("cost", "fanout", "bursts", "first"),
        *(pytest.param(name, marks=ONLY_SOAK) for name in LONG),
    ],
)
def test_tidelog_on_sqlite(name: str) -> None:
    workload = BY_NAME[name]
    figures = measured(workload, named("tidelog-sqlite"))
    gated = {gate.key for gate in workload.gates if gate.server == "tidelog-sqlite"}
    assert gated <= figures.keys(), "a gate without a figure would never be judged"
    assert not figures.get("lost") and not figures.get("duplicates") and not figures.get("failed")


@pytest.mark.parametrize("name", ["processes", "startup", "import"])
def test_a_workload_with_rows_of_its_own(name: str) -> None:
    workload = BY_NAME[name]
    figures = measured(workload, workload.rows[0] if name == "import" else workload.rows[1])
    assert {gate.key for gate in workload.gates} <= figures.keys()
    assert all(value >= 0 for value in figures.values()), figures


@pytest.mark.parametrize("server", ["raw", "starlette", pytest.param("fastapi", marks=ONLY_SOAK)])
@pytest.mark.parametrize("name", ["fanout", pytest.param("cost", marks=ONLY_SOAK)])
def test_a_python_peer(name: str, server: str) -> None:
    figures = measured(BY_NAME[name], here(named(server)))
    assert figures["us"] > 0 and not figures["duplicates"] and not figures["failed"]
    assert name == "fanout" or not figures["lost"], "who comes late to a run that nobody keeps has missed its beginning"


@pytest.mark.parametrize("name", ["fanout", pytest.param("cost", marks=ONLY_SOAK)])
@pytest.mark.parametrize(
    "server",
    [
        pytest.param("c", marks=ONLY_SOAK),
        pytest.param("node", marks=pytest.mark.skipif(not shutil.which("node"), reason="no node")),
    ],
)
def test_another_peer(name: str, server: str) -> None:
    if server == "c":
        build.binary("sender")
    figures = measured(BY_NAME[name], named(server))
    assert figures["us"] > 0 and not figures["duplicates"] and not figures["failed"]
    assert name == "fanout" or not figures["lost"], "who comes late to a run that nobody keeps has missed its beginning"


def test_every_gate_names_a_row_and_a_column() -> None:
    for workload in WORKLOADS:
        names = {server.name for server in workload.servers(SERVERS)}
        keys = {column.key for column in workload.columns}
        for gate in workload.gates:
            assert gate.server in names and (gate.against is None or gate.against in names), (workload.name, gate)
            assert {gate.key, gate.other or gate.key} <= keys, (workload.name, gate)


def test_names_are_said_once() -> None:
    assert len({server.name for server in SERVERS}) == len(SERVERS)
    assert [server.name for server in choose(["c", "raw"])] == ["raw", "c"]
    with pytest.raises(SystemExit, match="no such server: nobody"):
        choose(["nobody"])
