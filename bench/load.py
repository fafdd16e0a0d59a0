"""Putting load on a server, and reading both sides of it over one steady window."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from bench import build, machine
from bench.launch import Running

LEAD = 0.3  # seconds for the client to be there before its first connection is due
GRACE = 3.0  # seconds after the last intended event: what has not come by then is lost


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

    @property
    def seconds(self) -> float:
        """How long each stream lives: the first one ends as the window does."""
        return self.ramp + self.settle + self.window


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
    p50: float
    p99: float
    first_p99: float
    bytes_seen: int  # streams that got a byte of their body
    byte_p99: float  # until that
    gap_p50: float  # between reads with events
    gap_p99: float
    server_cpu: float
    client_cpu: float
    foreign_cpu: float  # of the server's core, taken by anyone else
    beside_cpu: float  # of what runs beside the server
    rss: int  # bytes of the server as the window ends

    @property
    def lost(self) -> int:
        """Events that never came, for whatever reason."""
        return self.gaps + self.missing


def put(on: Running, load: Load, *, request: str) -> Report:
    """Runs the load to its end; takes ``load.seconds + load.ramp`` and a little. Raises ``Unmeasurable``."""
    start = time.monotonic_ns() + _ns(LEAD)
    opens = start + _ns(load.ramp + load.settle)
    closes = opens + _ns(load.window)
    client = _spawn_client(on, load, start=start, opens=opens, closes=closes, request=request)
    try:
        before = _meters(on, client.pid, at=opens)
        after = _meters(on, client.pid, at=closes)
        rss = machine.rss_bytes(on.pid)
        seen, _ = client.communicate(timeout=load.ramp + GRACE + 10)
    except (OSError, LookupError, subprocess.TimeoutExpired) as error:
        raise Unmeasurable(f"the server or the client was gone: {error}") from error
    finally:
        client.kill()
    if client.returncode:
        raise Unmeasurable(f"the load client ended with status {client.returncode}")
    return _report(
        json.loads(seen), rss=rss, cpu=[(b - a) / _ns(load.window) for a, b in zip(before, after, strict=True)]
    )


def _spawn_client(
    on: Running, load: Load, *, start: int, opens: int, closes: int, request: str
) -> subprocess.Popen[bytes]:
    # Idle streams never end: the client leaves as soon as the window has been read.
    until = closes + _ns(load.ramp + GRACE if load.rate else 0.5)
    options = {
        "port": on.port,
        "streams": load.streams,
        "start": start,
        "ramp": _ns(load.ramp),
        "from": opens,
        "to": closes,
        "until": until,
        "expect": round(load.seconds * load.rate),
    }
    command = [str(build.binary("client")), *(f"{name}={value}" for name, value in options.items())]
    with machine.pinned(on.cores.client):
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(_request_bytes(request, on.port))
    client.stdin.close()
    client.stdin = None  # or communicate() would flush it once more
    return client


def _request_bytes(request: str, port: int) -> bytes:
    length = "Content-Length: 0\r\n" if request.startswith("POST ") else ""
    return f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{length}\r\n".encode()


def _meters(on: Running, client: int, *, at: int) -> tuple[int, int, int, int]:
    time.sleep(max(0, at - time.monotonic_ns()) / 1e9)
    beside = machine.cpu_ns(on.beside) if on.beside is not None else 0
    return machine.cpu_ns(on.pid), machine.cpu_ns(client), machine.core_busy_ns(on.cores.server), beside


def _report(seen: dict[str, Any], *, rss: int, cpu: list[float]) -> Report:
    server, client, core, beside = cpu
    latency, first, byte, gap = (seen.pop(name) for name in ("latency", "first", "byte", "gap"))
    return Report(
        **seen,
        first_events=first["count"],
        p50=latency["p50"] / 1e6,
        p99=latency["p99"] / 1e6,
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


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
