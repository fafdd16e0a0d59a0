"""Memory of a viewer that got one event and waits for the next."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator

from bench import machine
from bench.gates import Gate
from bench.launch import Running, running
from bench.load import Load, Unmeasurable, put
from bench.roster import Server
from bench.workload import Column, Figures, Plan, Sizes, Workload

NAME = "idle"
VIEWERS = Sizes(1000, 500, 20)
OPENED_PER_SECOND, SETTLE = 250, 1.0
WARM_UP = Load(20, 0, ramp=0.2, window=0.1, settle=0.5)  # so that what is made once is not counted


def measure(server: Server, plan: Plan) -> Figures:
    """Bytes for each viewer with a stream of its own and, where runs can be shared, of one run that all watch."""
    if server.idle is None:
        raise Unmeasurable("it starts no idle stream")
    viewers = plan.of(VIEWERS)
    with running(server, plan.cores) as on:
        own = _kib_per_viewer(on, viewers, request=server.idle)
    if server.viewers is None or "{run}" not in server.viewers:
        return {"kib": own}
    with running(server, plan.cores) as on, _one_run(on) as run:
        return {"kib": own, "shared": _kib_per_viewer(on, viewers, request=server.viewers.format(run=run))}


def _kib_per_viewer(on: Running, viewers: int, *, request: str) -> float:
    put(on, WARM_UP, request=request)
    before = machine.rss_bytes(on.pid)
    report = put(on, Load(viewers, 0, ramp=viewers / OPENED_PER_SECOND, window=0.5, settle=SETTLE), request=request)
    if report.first_events != viewers:
        raise Unmeasurable(f"{report.first_events} of {viewers} idle viewers got their event")
    return (report.rss - before) / viewers / 1024


@contextlib.contextmanager
def _one_run(on: Running) -> Iterator[str]:
    """Starts a run and keeps its first viewer; yields the run's id."""
    connection = http.client.HTTPConnection("127.0.0.1", on.port, timeout=10)
    try:
        method, target = (on.server.idle or "").split()
        connection.request(method, target, headers={"Accept": "text/event-stream"})
        run = connection.getresponse().getheader("Run-Id")
        if not run:
            raise Unmeasurable("a start was not answered with a Run-Id")
        yield run
    finally:
        connection.close()


WORKLOAD = Workload(
    NAME,
    "Server memory per idle viewer",
    measure,
    (
        Column("kib", "KiB, own run each", digits=1, spread=True, against="kib"),
        Column("shared", "KiB, one shared run", digits=1, spread=True, against="kib"),
    ),
    gates=(
        *(Gate(name, "kib", "≤", 8, unit="KiB") for name in ("tidelog-memory", "tidelog-sqlite")),
        *(Gate(name, "shared", "≤", 8, unit="KiB") for name in ("tidelog-memory", "tidelog-sqlite")),
        *(Gate(name, "kib", "≤", 1.0, against="raw") for name in ("tidelog-memory-uvicorn", "tidelog-sqlite-uvicorn")),
        *(
            Gate(name, "shared", "≤", 1.0, against="raw", other="kib")
            for name in ("tidelog-memory-uvicorn", "tidelog-sqlite-uvicorn")
        ),
    ),
    busy=False,
)
