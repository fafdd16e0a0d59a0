"""Memory of a viewer that never reads: the server's own, and what the kernel holds for its socket.

Of a shared run it is what one viewer more takes: that of many less that of a few, of two processes that did the same otherwise.
What is there once, the log where it is kept in memory, is no viewer's.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from bench import machine
from bench.gates import Gate
from bench.launch import Running, running
from bench.load import Shared, Unmeasurable, begun, ns, request_bytes
from bench.roster import Server
from bench.sockets import kernel_bytes
from bench.workload import Column, Figures, Plan, Sizes, Workload

NAME = "stalled"
VIEWERS = Sizes(200, 100, 5)  # of a shared run, or with a run each
FEW = Sizes(20, 10, 1)
EVENTS = Sizes(256, 256, 32)
PAD, RATE = 4096, 128.0  # 1 MB in 2 s
OWN_RATE = RATE / 4  # what 200 runs in one process can do
LONGER = 4  # × as long a run
LEAD = 0.5  # seconds until the shared run's first event
SETTLE = 1.0  # seconds after the last event
ANSWERED = 10.0  # seconds until a response has begun


def measure(server: Server, plan: Plan) -> Figures:
    """KiB for each viewer of one run of 1 MB and, where runs are kept, of a longer one; then of a run of its own."""
    events = plan.of(EVENTS)
    figures = _shared(server, plan, events)
    if server.fan is not None and server.keeps:
        figures["longer"] = _shared(server, plan, events * LONGER)["kib"]
    if server.publish is None and server.idle is not None:
        with running(server, plan.cores) as on:
            figures |= {f"own_{name}": value for name, value in _own(on, plan.of(VIEWERS), events).items()}
    return figures


def _shared(server: Server, plan: Plan, events: int) -> dict[str, float]:
    if server.viewers is None:
        raise Unmeasurable("it has no way to show one run to many")
    few, many = plan.of(FEW), plan.of(VIEWERS)
    held = []
    for viewers in (few, many):
        with running(server, plan.cores) as on:
            held.append(_grown(on, viewers, events))
    return _per_viewer(held[0], held[1], many - few)


def _grown(on: Running, viewers: int, events: int) -> tuple[int, int]:
    """How much more memory there is once so many viewers have been told a run and read nothing of it."""
    _warm_up(on)
    run = Shared(viewers, events, RATE, pad=PAD, ramp=0, settle=LEAD)
    start = time.monotonic_ns() + ns(LEAD)
    with begun(on, run, start=start) as (request, _):
        before = _memory(on)
        with _never_reading(on, request, viewers):
            time.sleep(max(0, start - time.monotonic_ns()) / 1e9 + run.window + SETTLE)
            after = _memory(on)
    return after[0] - before[0], after[1] - before[1]


def _own(on: Running, viewers: int, events: int) -> dict[str, float]:
    seconds = events / OWN_RATE
    request = on.server.stream.format(seconds=seconds, rate=OWN_RATE) + f"&pad={PAD}"
    _warm_up(on)
    before = _memory(on)
    with _never_reading(on, request, viewers):
        time.sleep(seconds + SETTLE)
        return _per_viewer(before, _memory(on), viewers)


def _warm_up(on: Running) -> None:
    """What is made once does not count: a run is watched by a few who read nothing, either."""
    if on.server.publish is None:
        with _never_reading(on, on.server.stream.format(seconds=0.5, rate=RATE) + f"&pad={PAD}", 5):
            time.sleep(0.5 + SETTLE)


@contextlib.contextmanager
def _never_reading(on: Running, request: str, viewers: int) -> Iterator[None]:
    """So many sockets, each with its response begun (its first bytes are looked at, not taken)."""
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(viewers)]
        for number, one in enumerate(sockets):
            one.settimeout(ANSWERED)
            one.connect(("127.0.0.1", on.port))
            one.sendall(request_bytes(request.replace("@@@@@", f"{number:05}"), on.port))
        yield
        for one in sockets:
            if not one.recv(16, socket.MSG_PEEK).startswith(b"HTTP/1.1 200"):
                raise Unmeasurable("a viewer that does not read was not answered with 200")


def _memory(on: Running) -> tuple[int, int]:
    return machine.rss_bytes(on.pid), kernel_bytes(on.port)


def _per_viewer(before: tuple[int, int], after: tuple[int, int], viewers: int) -> dict[str, float]:
    process, kernel = ((b - a) / viewers / 1024 for a, b in zip(before, after, strict=True))
    return {"kib": process + kernel, "process": process, "kernel": kernel}


WORKLOAD = Workload(
    NAME,
    "A viewer that never reads a run of 1 MB, KiB of memory",
    measure,
    (
        Column("kib", "shared run, one viewer more", digits=1, spread=True, against="kib"),
        Column("process", "of it process", digits=1),
        Column("kernel", "kernel", digits=1),
        Column("longer", f"a run {LONGER} × as long", digits=1),
        Column("own_kib", "own run each", digits=1, spread=True, against="own_kib"),
        Column("own_process", "of it process", digits=1),
        Column("own_kernel", "kernel", digits=1),
    ),
    gates=(
        Gate("tidelog-memory", "kib", "≤", 48, unit="KiB"),
        Gate("tidelog-sqlite", "kib", "≤", 48, unit="KiB"),
        Gate("tidelog-memory", "longer", "≤", 48, unit="KiB"),
        Gate("tidelog-sqlite", "longer", "≤", 48, unit="KiB"),
        Gate("tidelog-sqlite", "own_kib", "≤", 64, unit="KiB"),
    ),
    busy=False,
)
