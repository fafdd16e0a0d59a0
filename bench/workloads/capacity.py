"""How many streams one core holds: the most with p99 < 50 ms, p99 of the first event < 500 ms, and nothing lost."""

from __future__ import annotations

from bench.gates import Gate
from bench.launch import running
from bench.load import Load, Report, put
from bench.roster import FLOOR, Server
from bench.search import MOST as MOST_STREAMS
from bench.search import largest
from bench.workload import Column, Figures, Plan, Sizes, Workload
from bench.workloads import cost

NAME = "capacity"
RATE = cost.RATE
P99_LIMIT, FIRST_LIMIT = 50.0, 500.0  # ms
RAMP = Sizes(10.0, 10.0, 1.0)  # seconds over which viewers come: as fast as answers of 500 events make room for others
WINDOW = Sizes(4.0, 2.0, 0.5)  # seconds
RESOLUTION = Sizes(0.08, 0.15, 1.0)  # shares; noise moves the answer by a tenth
MOST = Sizes(MOST_STREAMS, MOST_STREAMS, 20)
TRIES = Sizes(2, 1, 1)  # one bad moment of the machine must not end a search
BLIND_START = 200
CEILING_START, CEILING_GROWTH, CEILING_RESOLUTION = 1000, 1.5, 0.15
CEILING_RAMP = Sizes(1.0, 1.0, 1.0)  # what a server without a runtime needs


def measure(server: Server, plan: Plan) -> Figures:
    """One search on one server, a fresh process for every step."""
    start, growth = _first_guess(server, plan)
    report = _search(server, plan, start=start, growth=growth, resolution=plan.of(RESOLUTION), ramp=RAMP)
    return _figures(report) if report else {"streams": 0}


def ceiling(plan: Plan) -> Report | None:
    """The most streams of the least server, roughly: beyond it, client and kernel are what is measured."""
    return _search(
        FLOOR, plan, start=CEILING_START, growth=CEILING_GROWTH, resolution=CEILING_RESOLUTION, ramp=CEILING_RAMP
    )


def _search(
    server: Server, plan: Plan, *, start: int, growth: float, resolution: float, ramp: Sizes[float]
) -> Report | None:  # fmt: skip
    passed: dict[int, Report] = {}

    def holds(streams: int) -> bool:
        for _ in range(plan.of(TRIES)):
            report = probe(server, streams, plan=plan, ramp=ramp)
            if kept_up(report):
                passed[streams] = report
                return True
        return False

    return passed.get(largest(holds, start=start, growth=growth, resolution=resolution, most=plan.of(MOST)))


def probe(server: Server, streams: int, *, plan: Plan, ramp: Sizes[float] = RAMP) -> Report:
    """One try with so many streams, which come over `ramp`."""
    load = Load(streams, RATE, ramp=plan.of(ramp), window=plan.of(WINDOW))
    with running(server, plan.cores) as on:
        return put(on, load, request=server.stream.format(seconds=load.seconds, rate=RATE))


def kept_up(report: Report) -> bool:
    """Whether a server held this load."""
    whole = not (report.lost or report.failed or report.duplicates)
    return whole and report.p99 < P99_LIMIT and report.first_p99 < FIRST_LIMIT


def _first_guess(server: Server, plan: Plan) -> tuple[int, float]:
    """Where to start and how fast to widen: what an earlier round found, what the cost suggests, or blindly."""
    if before := plan.results.median(NAME, server.name, "streams"):
        return int(before), 1.15
    if us := plan.results.median(cost.NAME, server.name, "us"):
        return int(1e6 / (us * RATE)), 1.3
    return BLIND_START, 2.0


def _figures(report: Report) -> Figures:
    return {
        "streams": report.streams,
        "p99": report.p99,
        "first_p99": report.first_p99,
        "server": report.server_cpu * 100,
        "client": report.client_cpu * 100,
        "foreign": report.foreign_cpu * 100,
    }


WORKLOAD = Workload(
    NAME,
    f"Most streams of {RATE:.0f} events/s on one core:"
    f" p99 < {P99_LIMIT:.0f} ms, first p99 < {FIRST_LIMIT:.0f} ms, none lost",
    measure,
    (
        Column("streams", "streams", spread=True, against="streams"),
        Column("p99", "p99 ms", digits=1),
        Column("first_p99", "first p99 ms", digits=1),
        Column("server", "server %"),
        Column("client", "client %"),
        Column("foreign", "foreign %", digits=1, worst=True),
    ),
    gates=(
        Gate("tidelog-memory", "streams", "≥", 1.25, against="raw"),
        Gate("tidelog-memory-uvicorn", "streams", "≥", 0.95, against="raw"),
        Gate("tidelog-sqlite", "streams", "≥", 1.0, against="raw"),
        Gate("tidelog-sqlite-full", "streams", "≥", 0.75, against="raw"),
        Gate("tidelog-memory", "streams", "≥", 1.5, against="raw", stretch=True),
        Gate("tidelog-memory", "streams", "≥", 1.0, against="node", stretch=True),
    ),
)
