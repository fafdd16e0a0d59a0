"""A finished run, taken by many at once: from memory, from a file just opened, and in every dialect."""

from __future__ import annotations

import http.client
import json
import time

from bench.gates import Gate
from bench.launch import Running, running, scratch
from bench.load import LEAD, Shared, Timing, Unmeasurable, begun, ns, watched
from bench.machine import cpu_ns, rss_bytes
from bench.roster import Server
from bench.workload import Column, Figures, Plan, Sizes, Workload
from tidelog.registry import DIALECTS

NAME = "replay"
VIEWERS, EVENTS = 50, 10_000
SIZES = Sizes((VIEWERS, EVENTS), (VIEWERS, EVENTS), (5, 200))
LIMIT = 60.0  # seconds for all viewers, and for the run to end
WINDOW = 0.05  # seconds; nothing is read from it
OTHERS = tuple(name for name in DIALECTS if name != "native")
NATIVE_GATE, FILE_GATE, OTHER_GATE = 50.0, 20.0, 5.0  # × nchan


def measure(server: Server, plan: Plan) -> Figures:
    """Millions of events a second, of all viewers together."""
    if not server.keeps:
        raise Unmeasurable("it keeps nothing")
    viewers, events = plan.of(SIZES)
    with scratch() as folder:
        with running(server, plan.cores, folder=folder) as on:
            figures, request = _measure_live(on, viewers, events)
        if server.file:
            with running(server, plan.cores, folder=folder) as on:
                figures["file"] = _rate(on, request, viewers, events)
    return figures


def _measure_live(on: Running, viewers: int, events: int) -> tuple[dict[str, float], str]:
    finished = Shared(0, events, 0)
    with begun(on, finished, start=0) as (request, _):
        _wait_for_the_end(on, request, events)
        before = rss_bytes(on.pid)
        figures = {"native": _rate(on, request, viewers, events)}
        figures["rss"] = (rss_bytes(on.pid) - before) / 2**20
        if on.server.publish is None:
            rates = {name: _rate(on, f"{request}?dialect={name}", viewers, events) for name in OTHERS}
            figures |= rates | {"least": min(rates.values())}
        return figures, request


def _rate(on: Running, request: str, viewers: int, events: int) -> float:
    """Millions of events in a second of the server's CPU, for all viewers together. Raises ``Unmeasurable``."""
    before = cpu_ns(on.pid)
    start = time.monotonic_ns() + ns(LEAD)
    timing = Timing(viewers, start, 0, start, start + ns(WINDOW), start + ns(LIMIT), events, leave=True)
    report = watched(on, timing, request=request)
    if report.lost or report.failed or report.duplicates:
        raise Unmeasurable(f"{request}: {report.lost} lost, {report.duplicates} twice, {report.failed} failed")
    return report.events * 1e3 / (cpu_ns(on.pid) - before)


def _wait_for_the_end(on: Running, request: str, events: int) -> None:
    """Until the run has ended, or the last of what is published has come."""
    if on.server.publish is not None:
        start = time.monotonic_ns()
        watched(
            on, Timing(1, start, 0, start, start + ns(WINDOW), start + ns(LIMIT), events, leave=True), request=request
        )
        return
    path = request.split()[1].removesuffix("/events")
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", on.port, timeout=LIMIT)
        connection.request("GET", path)
        state = json.loads(connection.getresponse().read())["state"]
        connection.close()
        if state == "ended":
            return
        time.sleep(0.05)
    raise Unmeasurable("the run did not end")


_MEMORY = ("tidelog-memory", "tidelog-memory-uvicorn")
_SQLITE = ("tidelog-sqlite", "tidelog-sqlite-uvicorn")

WORKLOAD = Workload(
    NAME,
    f"Replay: {VIEWERS} viewers take a finished run of {EVENTS:,} events, millions of events in a second of the server's CPU",
    measure,
    (
        Column("native", "native", digits=2, spread=True),
        Column("file", "file just opened", digits=2, spread=True),
        *(Column(name, name, digits=2) for name in OTHERS),
        Column("least", "slowest dialect", digits=2),
        Column("rss", "MiB more", digits=1),
    ),
    gates=(
        *(Gate(name, "native", "≥", NATIVE_GATE, against="nchan") for name in _MEMORY),
        *(Gate(name, "file", "≥", FILE_GATE, against="nchan", other="native") for name in _SQLITE),
        *(Gate(name, "least", "≥", OTHER_GATE, against="nchan", other="native") for name in (*_MEMORY, *_SQLITE)),
    ),
    only=("tidelog-memory", "tidelog-sqlite", "tidelog-redis", *_MEMORY, *_SQLITE, "nchan", "durable-streams"),
)
