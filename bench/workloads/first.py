"""How long an idle server takes from a request to its first event."""

from __future__ import annotations

from bench.gates import Gate
from bench.launch import running
from bench.load import Load, Unmeasurable, put
from bench.roster import Server
from bench.workload import Column, Figures, Plan, Sizes, Workload

NAME = "first"
ASKED = Sizes(  # one at a time
    Load(200, 0, ramp=10.0, window=0.1, settle=0.2),
    Load(100, 0, ramp=2.0, window=0.1, settle=0.2),
    Load(5, 0, ramp=0.2, window=0.1, settle=0.5),
)
WARM_UP = Load(20, 0, ramp=0.2, window=0.1, settle=0.2)
RUN = {"seconds": 0.04, "rate": 50.0}  # one event that is due at once, and one behind it: the stream goes on


def measure(server: Server, plan: Plan) -> Figures:
    """The median and p99 of requests that come one at a time; of each run the first event counts."""
    if server.publish is not None:
        raise Unmeasurable("a request starts nothing there")
    load = plan.of(ASKED)
    with running(server, plan.cores) as on:
        put(on, WARM_UP, request=server.stream.format(**RUN))
        report = put(on, load, request=server.stream.format(**RUN))
    if report.first_events != load.streams:
        raise Unmeasurable(f"{report.first_events} of {load.streams} runs gave an event")
    return {"p50": report.first_p50, "p99": report.first_p99}


WORKLOAD = Workload(
    NAME,
    "First event of a run on an idle server, ms from the request",
    measure,
    (Column("p50", "median ms", digits=2, spread=True, against="p50"), Column("p99", "p99 ms", digits=2)),
    gates=(
        *(
            Gate(name, "p50", "≤", 1.0, against="raw", minus=True, unit="ms")
            for name in ("tidelog-memory", "tidelog-memory-uvicorn")
        ),
        *(
            Gate(name, "p50", "≤", 5.0, against="raw", minus=True, unit="ms")
            for name in ("tidelog-sqlite", "tidelog-sqlite-uvicorn")
        ),
    ),
)
