"""Putting load on a server, and reading both sides of it over one steady window."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench import build, machine
from bench.launch import Running

LEAD = 0.3  # seconds for the client to be there before its first connection is due
PATIENCE = 10.0  # seconds that the client may take beyond its plan
_lots = itertools.count()


class Unmeasurable(Exception):
    """A server ran, but what came from it makes no figure; the text says why."""


@dataclass(frozen=True)
class Load:
    """So many viewers, opened evenly over ``ramp`` seconds; each watches a stream until the window is over."""

    streams: int
    rate: float  # events a second and stream; 0 for idle viewers
    ramp: float
    window: float
    settle: float = 1.0  # between the last connection and the window
    grace: float = 3.0  # seconds after the last intended event: what has not come by then is lost

    @property
    def seconds(self) -> float:
        """How long each stream lives: the first one ends as the window does."""
        return self.ramp + self.settle + self.window


@dataclass(frozen=True)
class Shared:
    """So many viewers, opened evenly over ``ramp`` seconds, who watch one run of ``count`` events."""

    viewers: int
    count: int
    rate: float
    burst: int = 1  # events that are due at once
    pad: int = 0  # bytes that fill up each
    ramp: float = 1.0
    settle: float = 1.0  # between the last connection and the first event
    grace: float = 6.0  # seconds after the last intended event: what has not come by then is lost

    @property
    def window(self) -> float:
        """Seconds from the first event to a step after the last."""
        return self.count / self.rate


@dataclass(frozen=True)
class Timing:
    """What the client is told of a load, absolute times in ns of CLOCK_MONOTONIC."""

    streams: int
    start: int
    ramp: int
    opens: int  # the window whose latencies and CPU count
    closes: int
    until: int
    expect: int = 0  # events of each stream; 0 for any number
    leave: bool = False  # a viewer that has all is done


@dataclass(frozen=True)
class Report:
    """What both sides saw. Times are ms, shares are of one core during the window."""

    streams: int
    failed: int  # connections refused, cut, or answered with another status than 200
    first_events: int  # streams that got one
    events: int  # in all
    window_events: int
    gaps: int
    missing: int
    duplicates: int
    bytes: int
    took: float  # from the first connection to the last event
    p50: float
    p99: float
    first_p50: float
    first_p99: float
    bytes_seen: int  # streams that got a byte of their body
    byte_p99: float  # until that
    gap_p50: float  # between reads with events
    gap_p99: float
    server_cpu: float
    client_cpu: float  # with what publishes, where a server only passes on
    foreign_cpu: float  # of the server's core, taken by anyone else
    beside_cpu: float  # of what runs beside the server
    rss: int  # bytes of the server as the window ends

    @property
    def lost(self) -> int:
        """Events that never came, for whatever reason."""
        return self.gaps + self.missing


def put(on: Running, load: Load, *, request: str) -> Report:
    """Runs the load to its end; takes ``load.seconds + load.ramp`` and a little. Raises ``Unmeasurable``."""
    lot = _lot(on, load.streams)
    start = time.monotonic_ns() + ns(LEAD)
    opens = start + ns(load.ramp + load.settle)
    closes = opens + ns(load.window)
    # Idle streams never end: the client leaves as soon as the window has been read.
    until = closes + ns(load.ramp + load.grace if load.rate else 0.5)
    count = round(load.seconds * load.rate)
    timing = Timing(load.streams, start, ns(load.ramp), opens, closes, until, count)
    with published(
        on, lot, load.streams, start=start, ramp=timing.ramp, count=count or 1, step=1 / load.rate if load.rate else 0
    ) as helpers:
        return watched(on, timing, request=request.replace("@lot@", lot), helpers=helpers)


def put_shared(on: Running, shared: Shared) -> Report:
    """One run for all viewers, from its first event to its last. Raises ``Unmeasurable``."""
    if on.server.viewers is None:
        raise Unmeasurable("it has no way to show one run to many")
    begin = time.monotonic_ns() + ns(LEAD)
    first = begin + ns(shared.ramp + shared.settle)
    closes = first + ns(shared.window)
    timing = Timing(shared.viewers, begin, ns(shared.ramp), first, closes, closes + ns(shared.grace), shared.count)
    with begun(on, shared, start=first) as (request, helpers):
        return watched(on, timing, request=request, helpers=helpers)


@contextlib.contextmanager
def begun(on: Running, shared: Shared, *, start: int) -> Iterator[tuple[str, Sequence[int]]]:
    """A run whose first event is due at ``start`` (0: now); what a viewer asks for, and who else belongs to the load."""
    assert on.server.viewers is not None
    if on.server.fan is None:
        lot = _lot(on, 1)
        step = shared.burst / shared.rate if shared.rate else 0
        with published(
            on, lot, 1, start=start, ramp=0, count=shared.count, step=step, burst=shared.burst, pad=shared.pad
        ) as helpers:
            yield on.server.viewers.replace("@lot@", lot), helpers
        return
    of = {"start": start, "count": shared.count, "rate": shared.rate, "burst": shared.burst, "pad": shared.pad}
    run = ask(on, on.server.fan.format(**of)).get("Run-Id", "")
    yield on.server.viewers.format(run=run), ()


@contextlib.contextmanager
def published(
    on: Running, lot: str, streams: int, *, start: int, ramp: int, count: int, step: float, burst: int = 1, pad: int = 0
) -> Iterator[Sequence[int]]:
    """The one who posts events, where the server only passes on; its process id."""
    if on.server.publish is None:
        yield ()
        return
    options = {"port": on.port, "streams": streams, "start": start or time.monotonic_ns(), "ramp": ramp}
    options |= {"step": ns(step), "count": count, "burst": burst, "pad": pad}
    head = request_bytes(on.server.publish.replace("@lot@", lot), on.port, whole=False)
    process = _spawn(on, "publisher", options, head)
    try:
        yield (process.pid,)
        if process.poll():
            raise Unmeasurable(f"who publishes ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def watched(on: Running, timing: Timing, *, request: str, helpers: Sequence[int] = ()) -> Report:
    """The client from its start to its end, both sides read as the window opens and closes. Raises ``Unmeasurable``."""
    options = {
        "port": on.port,
        "streams": timing.streams,
        "start": timing.start,
        "ramp": timing.ramp,
        "from": timing.opens,
        "to": timing.closes,
        "until": timing.until,
        "expect": timing.expect,
        "leave": int(timing.leave),
    }
    client = _spawn(on, "client", options, request_bytes(request, on.port))
    loaders = (client.pid, *helpers)
    try:
        before = _meters(on, loaders, at=timing.opens)
        after = _meters(on, loaders, at=timing.closes)
        rss = machine.rss_bytes(on.pid)
        seen, _ = client.communicate(timeout=max(0, timing.until - time.monotonic_ns()) / 1e9 + PATIENCE)
    except (OSError, LookupError, subprocess.TimeoutExpired) as error:
        raise Unmeasurable(f"the server or the client was gone: {error}") from error
    finally:
        client.kill()
        client.wait()
    if client.returncode:
        raise Unmeasurable(f"the load client ended with status {client.returncode}")
    window = timing.closes - timing.opens
    return _report(json.loads(seen), rss=rss, cpu=[(b - a) / window for a, b in zip(before, after, strict=True)])


def ask(on: Running, request: str, body: bytes = b"") -> http.client.HTTPMessage:
    """The headers of an answer that is a success. Raises ``Unmeasurable``."""
    connection = http.client.HTTPConnection("127.0.0.1", on.port, timeout=PATIENCE)
    try:
        return _asked(connection, request, body)
    finally:
        connection.close()


def request_bytes(request: str, port: int, *, whole: bool = True) -> bytes:
    """A request on the wire; not ``whole`` without what its body's length decides."""
    line, *headers = request.split("\n")
    if whole and line.startswith("POST "):
        headers.append("Content-Length: 0")
    lines = [f"{line} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: text/event-stream", *headers]
    return "".join(f"{text}\r\n" for text in lines).encode() + (b"\r\n" if whole else b"")


def ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * 1e9)


def _asked(connection: http.client.HTTPConnection, request: str, body: bytes = b"") -> http.client.HTTPMessage:
    line, *headers = request.split("\n")
    method, target = line.split()
    connection.request(method, target, body, dict(header.split(": ") for header in headers))
    answer = connection.getresponse()
    answer.read()
    if answer.status >= 300:
        raise Unmeasurable(f"{line} was answered with {answer.status}")
    return answer.headers


def _lot(on: Running, streams: int) -> str:
    """A word for the streams of one load, which exist afterwards where they must."""
    lot = f"l{next(_lots)}"
    if on.server.create is not None:
        connection = http.client.HTTPConnection("127.0.0.1", on.port, timeout=PATIENCE)
        for number in range(streams):
            _asked(connection, on.server.create.replace("@lot@", lot).replace("@@@@@", f"{number:05}"))
        connection.close()
    return lot


def _spawn(on: Running, name: str, options: dict[str, int], given: bytes) -> subprocess.Popen[bytes]:
    command = [str(build.binary(name)), *(f"{option}={value}" for option, value in options.items())]
    with machine.pinned(on.cores.client):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    process.stdin = None  # or communicate() would flush it once more
    return process


def _meters(on: Running, loaders: Sequence[int], *, at: int) -> tuple[int, int, int, int]:
    time.sleep(max(0, at - time.monotonic_ns()) / 1e9)
    beside = machine.cpu_ns(on.beside) if on.beside is not None else 0
    client = sum(machine.cpu_ns(pid) for pid in loaders)
    return machine.cpu_ns(on.pid), client, machine.core_busy_ns(on.cores.server), beside


def _report(seen: dict[str, Any], *, rss: int, cpu: list[float]) -> Report:
    server, client, core, beside = cpu
    latency, first, byte, gap = (seen.pop(name) for name in ("latency", "first", "byte", "gap"))
    return Report(
        **{**seen, "took": seen["took"] / 1e6},
        first_events=first["count"],
        p50=latency["p50"] / 1e6,
        p99=latency["p99"] / 1e6,
        first_p50=first["p50"] / 1e6,
        first_p99=first["p99"] / 1e6,
        bytes_seen=byte["count"],
        byte_p99=byte["p99"] / 1e6,
        gap_p50=gap["p50"] / 1e6,
        gap_p99=gap["p99"] / 1e6,
        server_cpu=server,
        client_cpu=client,
        foreign_cpu=max(0.0, core - server),
        beside_cpu=beside,
        rss=rss,
    )
