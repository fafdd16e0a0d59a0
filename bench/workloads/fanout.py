"""One run that many watch: what a delivery costs, how late it is, and how bursts go."""

from __future__ import annotations

from functools import partial

from bench.gates import Gate
from bench.launch import running
from bench.load import Report, Shared, Unmeasurable, put_shared
from bench.roster import Server
from bench.workload import Column, Figures, Plan, Sizes, Workload

RATE = 50.0
BURST = 64
_TINY = Shared(10, 25, RATE, ramp=0.1, settle=0.5, grace=20)
FEW = Sizes(Shared(1000, 500, RATE), Shared(1000, 100, RATE), _TINY)
MANY = Sizes(Shared(5000, 500, RATE, ramp=25.0), Shared(5000, 100, RATE, ramp=25.0), _TINY)
MOST = Sizes(Shared(10_000, 500, RATE, ramp=50.0), Shared(10_000, 100, RATE, ramp=50.0), _TINY)
BURSTS = Sizes(  # one burst a second
    Shared(1000, 10 * BURST, BURST, burst=BURST),
    Shared(1000, 3 * BURST, BURST, burst=BURST),
    Shared(10, BURST, BURST, burst=BURST, ramp=0.1, settle=0.5, grace=20),
)


def measure(server: Server, plan: Plan, *, sizes: Sizes[Shared]) -> Figures:
    """One run from its first event to its last, and everybody who watches it."""
    shared = plan.of(sizes)
    with running(server, plan.cores) as on:
        report = put_shared(on, shared)
    if not report.window_events:
        raise Unmeasurable("no event arrived")
    return _figures(report, shared)


def _figures(report: Report, shared: Shared) -> Figures:
    return {
        "us": report.server_cpu * shared.window * 1e6 / report.window_events,
        "p50": report.p50,
        "p99": report.p99,
        "lost": report.lost,
        "duplicates": report.duplicates,
        "failed": report.failed,
        "server": report.server_cpu * 100,
        "client": report.client_cpu * 100,
        "foreign": report.foreign_cpu * 100,
        "rss": report.rss / 2**20,
    }


_LATER = (
    Column("p50", "p50 ms", digits=1),
    Column("p99", "p99 ms", digits=1, spread=True),
    Column("lost", "lost", worst=True),
    Column("duplicates", "twice", worst=True),
    Column("failed", "failed", worst=True),
    Column("server", "server %"),
    Column("client", "client %"),
    Column("rss", "MiB"),
    Column("foreign", "foreign %", digits=1, worst=True),
)
_COLUMNS = (Column("us", "CPU µs/delivery", digits=2, spread=True, against="us"), *_LATER)
_UVICORN = ("tidelog-memory-uvicorn", "tidelog-sqlite-uvicorn")
_SERVE = ("tidelog-memory", "tidelog-sqlite")

FANOUT = Workload(
    "fanout",
    f"Fan-out: one run of {RATE:.0f} events/s, {FEW.full.viewers:,} viewers",
    partial(measure, sizes=FEW),
    _COLUMNS,
    gates=(
        *(Gate(name, "us", "≤", 1.4, against="c") for name in _SERVE),
        *(Gate(name, "us", "≤", 0.67, against="nchan") for name in _SERVE),
        *(Gate(name, "us", "≤", 0.75, against="raw") for name in _UVICORN),
        *(Gate(name, "lost", "≤", 0) for name in (*_SERVE, *_UVICORN)),
    ),
)
MANY_VIEWERS = Workload(
    "many-viewers",
    f"Fan-out: one run of {RATE:.0f} events/s, {MANY.full.viewers:,} viewers",
    partial(measure, sizes=MANY),
    _COLUMNS,
    plot="p99",
    gates=(
        *(Gate(name, "p99", "<", 80, unit="ms") for name in _SERVE),
        *(Gate(name, "p99", "<", 200, unit="ms") for name in _UVICORN),
        *(Gate(name, "p99", "<", 50, unit="ms", stretch=True) for name in _SERVE),
        *(Gate(name, "lost", "≤", 0) for name in (*_SERVE, *_UVICORN)),
    ),
)
MOST_VIEWERS = Workload(
    "most-viewers",
    f"Fan-out: one run of {RATE:.0f} events/s, {MOST.full.viewers:,} viewers",
    partial(measure, sizes=MOST),
    _COLUMNS,
    plot="p99",
    gates=tuple(Gate(name, "p99", "<", 150, unit="ms", stretch=True) for name in _SERVE),
    only=("raw", "node", "c", *_SERVE),
)
BURSTS_OF = Workload(
    "bursts",
    f"Bursts of {BURST} events, one a second, to {BURSTS.full.viewers:,} viewers of one run",
    partial(measure, sizes=BURSTS),
    _COLUMNS,
    gates=(
        *(Gate(name, "us", "≤", 0.05, against="raw") for name in (*_SERVE, *_UVICORN)),
        *(Gate(name, "lost", "≤", 0) for name in (*_SERVE, *_UVICORN)),
    ),
)
