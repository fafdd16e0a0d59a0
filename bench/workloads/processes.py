"""Four processes on one SQLite file against one: what an event costs, and how long a commit takes."""

from __future__ import annotations

from array import array
from pathlib import Path

from bench.gates import Gate
from bench.launch import running, scratch
from bench.load import Unmeasurable, put
from bench.roster import FOUR_PROCESSES, ONE_PROCESS, Server
from bench.workload import Column, Figures, Plan, Workload
from bench.workloads import cost

NAME = "processes"


def measure(server: Server, plan: Plan) -> Figures:
    """The load of ``cost``, with every commit timed in the thread that makes it: waiting for the file counts."""
    load = plan.of(cost.LOADS)
    with scratch() as folder, running(server, plan.cores, folder=folder) as on:
        report = put(on, load, request=server.stream.format(seconds=load.seconds, rate=load.rate))
        commits = _commits(folder)
    if not report.window_events or not commits:
        raise Unmeasurable("no event arrived")
    return {
        "us": report.server_cpu * load.window * 1e6 / report.window_events,
        "commits": len(commits) / load.seconds,
        "commit_p50": quantile(commits, 0.5) * 1e3,
        "commit_p99": quantile(commits, 0.99) * 1e3,
        "p99": report.p99,
        "lost": report.lost,
        "duplicates": report.duplicates,
        "foreign": report.foreign_cpu * 100,
    }


def quantile(values: array[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _commits(folder: Path) -> array[float]:
    """Seconds of every commit of every process."""
    every = array("d")
    for file in folder.glob("commits.*"):
        data = file.read_bytes()
        every.frombytes(data[: len(data) // every.itemsize * every.itemsize])
    return every


WORKLOAD = Workload(
    NAME,
    f"Processes on one SQLite file, {cost.STREAMS} streams × {cost.RATE:.0f} events/s in all",
    measure,
    (
        Column("us", "CPU µs/event", digits=1, spread=True),
        Column("commits", "commits/s"),
        Column("commit_p50", "commit p50 ms", digits=2),
        Column("commit_p99", "commit p99 ms", digits=2, spread=True),
        Column("p99", "p99 ms", digits=1),
        Column("lost", "lost", worst=True),
        Column("duplicates", "twice", worst=True),
        Column("foreign", "foreign %", digits=1, worst=True),
    ),
    gates=(
        Gate(FOUR_PROCESSES.name, "us", "≤", 1.1, against=ONE_PROCESS.name),
        Gate(FOUR_PROCESSES.name, "commit_p99", "<", 10, unit="ms"),
        Gate(FOUR_PROCESSES.name, "lost", "≤", 0),
    ),
    rows=(ONE_PROCESS, FOUR_PROCESSES),
)
