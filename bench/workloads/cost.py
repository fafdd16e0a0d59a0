"""CPU per event: the figure to trust, because it moves least with the noise of the machine."""

from __future__ import annotations

from bench.gates import Gate
from bench.launch import running
from bench.load import Load, Unmeasurable, put
from bench.roster import Server
from bench.workload import Column, Figures, Plan, Sizes, Workload

NAME = "cost"
STREAMS, RATE = 300, 50.0
LOADS = Sizes(
    Load(STREAMS, RATE, ramp=2.0, window=10.0),
    Load(STREAMS, RATE, ramp=1.0, window=4.0),
    Load(10, RATE, ramp=0.1, window=0.8, settle=0.4, grace=20),
)


def measure(server: Server, plan: Plan) -> Figures:
    """One server under 300 streams of 50 events a second."""
    load = plan.of(LOADS)
    with running(server, plan.cores) as on:
        report = put(on, load, request=server.stream.format(seconds=load.seconds, rate=RATE))
    if not report.window_events:
        raise Unmeasurable("no event arrived")
    return {
        "us": report.server_cpu * load.window * 1e6 / report.window_events,
        "p50": report.p50,
        "p99": report.p99,
        "first_p99": report.first_p99,
        "bytes": report.bytes / report.events,
        "lost": report.lost,
        "duplicates": report.duplicates,
        "failed": report.failed,
        "server": report.server_cpu * 100,
        "client": report.client_cpu * 100,
        "foreign": report.foreign_cpu * 100,
        **({"beside": report.beside_cpu * 100} if on.beside is not None else {}),
        "rss": report.rss / 2**20,
    }


WORKLOAD = Workload(
    NAME,
    f"CPU per event, {STREAMS} streams × {RATE:.0f} events/s",
    measure,
    (
        Column("us", "CPU µs/event", digits=1, spread=True, against="us"),
        Column("p50", "p50 ms", digits=1),
        Column("p99", "p99 ms", digits=1),
        Column("first_p99", "first p99 ms", digits=1),
        Column("bytes", "B/event"),
        Column("lost", "lost", worst=True),
        Column("duplicates", "twice", worst=True),
        Column("failed", "failed", worst=True),
        Column("server", "server %"),
        Column("client", "client %"),
        Column("beside", "Redis %"),
        Column("rss", "MiB"),
        Column("foreign", "foreign %", digits=1, worst=True),
    ),
    gates=(
        Gate("tidelog-memory-uvicorn", "us", "≤", 1.05, against="raw"),
        Gate("tidelog-memory", "us", "≤", 0.85, against="raw"),
        Gate("tidelog-sqlite", "us", "≤", 1.0, against="raw"),
        Gate("tidelog-memory", "us", "≤", 0.7, against="raw", stretch=True),
        *(Gate(name, "lost", "≤", 0) for name in ("tidelog-memory", "tidelog-sqlite")),
    ),
)
