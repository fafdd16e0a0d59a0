"""Processes of `tidelog serve` that share a Redis, under load: what they use, in CPU time, which others distort least."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis import Redis

from bench import build, machine
from bench.launch import DidNotStart

RAMP, SETTLE, GRACE = 1.0, 1.5, 3.0
START_LIMIT: Final = 30.0
NAP: Final = 0.003


@dataclass(frozen=True)
class Load:
    """So many live runs in each process, each with a viewer and `rate` events a second."""

    streams: int
    rate: float
    window: float

    @property
    def seconds(self) -> float:
        return RAMP + SETTLE + self.window


@dataclass(frozen=True)
class Sample:
    """What was used, a second of the window; shares are of one core."""

    processes: int
    runs: int  # in all
    events: float
    process_share: float  # of each, on average
    redis_share: float
    reads: float  # by Redis, of what clients sent: one for each piece
    operations: float  # commands, those of scripts too
    bytes_in: float
    bytes_out: float
    viewer_bytes: float  # for each event
    p50: float
    p99: float
    waits: tuple[float, ...]  # seconds that a thread waited for a core when it woke up


class Probe:
    """A thread that does nothing but wake up, and notes how late: the machine may have other work."""

    def __init__(self) -> None:
        self._waits: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> tuple[float, ...]:
        """How late it was, each time, beyond what a timer is late by itself."""
        self._over.set()
        self._thread.join()
        least = min(self._waits)
        return tuple(wait - least for wait in self._waits)

    def _look(self) -> None:
        while not self._over.is_set():
            due = time.perf_counter() + NAP
            time.sleep(NAP)
            self._waits.append(time.perf_counter() - due)


@dataclass(frozen=True)
class Meters:
    """Counters at one moment."""

    at: float
    processes: float
    redis: float
    info: dict[str, Any]
    operations: int


class Fleet:
    """Running processes, and the Redis that they share."""

    def __init__(self, ports: list[int], pids: list[int], redis: Redis, redis_pid: int) -> None:
        self.ports = ports
        self.redis = redis
        self._pids = pids
        self._redis_pid = redis_pid

    def meters(self) -> Meters:
        stats = self.redis.info("commandstats")
        operations = sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info")
        cpu = sum(map(machine.cpu_ns, self._pids)) / 1e9
        return Meters(
            time.monotonic(), cpu, machine.cpu_ns(self._redis_pid) / 1e9, self.redis.info("stats"), operations
        )

    def cpu(self, place: int) -> float:
        """Seconds of CPU that one process has used so far."""
        return machine.cpu_ns(self._pids[place]) / 1e9

    def resident(self) -> float:
        """Bytes of memory that all processes hold."""
        return float(sum(map(machine.rss_bytes, self._pids)))

    def stored(self) -> float:
        """Bytes of memory that Redis has in use."""
        return float(self.redis.info("memory")["used_memory"])


@contextlib.contextmanager
def fleet(processes: int) -> Iterator[Fleet]:
    """So many, and a Redis that writes a file; killed at the end. Raises ``DidNotStart``."""
    build.BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=build.BUILD))
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        raise DidNotStart("redis-server is missing")
    redis_port, *ports = _free_ports(processes + 1)
    started = [
        _spawn(
            [
                binary,
                "--port",
                str(redis_port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "yes",
                "--dir",
                str(folder),
            ]
        )
    ]
    try:
        with Redis(port=redis_port) as redis:
            _wait_for(started[0], redis_port)
            env = {"BENCH_STORE": f"redis://127.0.0.1:{redis_port}/0"}
            command = [sys.executable, "-m", "tidelog", "serve", "bench.servers.tide:app", "--port"]
            started += [_spawn([*command, str(port)], env) for port in ports]
            for each, port in zip(started[1:], ports, strict=True):
                _wait_for(each, port)
            yield Fleet(ports, [each.pid for each in started[1:]], redis, started[0].pid)
    finally:
        for each in reversed(started):
            each.kill()
            each.wait()
        shutil.rmtree(folder, ignore_errors=True)


def steady(found: Fleet, load: Load) -> Sample:
    """Every process under this load, for a window. Rate 0: runs that live and say nothing."""
    start = time.monotonic() + 0.3
    request = f"GET /stream?seconds={load.seconds}&rate={load.rate}" if load.rate else "GET /idle"
    clients = [watching(port, load, request, start=start) for port in found.ports]
    _sleep_until(start + RAMP + SETTLE)
    before, probe = found.meters(), Probe()
    _sleep_until(start + load.seconds)
    after, waits = found.meters(), probe.end()
    reports = [json.loads(each.communicate(timeout=RAMP + GRACE + 30)[0]) for each in clients]
    time.sleep(SETTLE)  # whoever has left is gone
    return sample(len(found.ports), before, after, reports, waits)


def sample(
    processes: int, before: Meters, after: Meters, reports: list[dict[str, Any]], waits: tuple[float, ...]
) -> Sample:  # fmt: skip
    """What lies between."""
    took = after.at - before.at
    each = {
        name: (after.info[name] - before.info[name]) / took
        for name in ("total_reads_processed", "total_net_input_bytes", "total_net_output_bytes")
    }
    events = sum(report["events"] for report in reports)
    window = sum(report["window_events"] for report in reports)
    return Sample(
        processes=processes,
        runs=sum(report["streams"] for report in reports),
        events=window / took,
        process_share=(after.processes - before.processes) / took / processes,
        redis_share=(after.redis - before.redis) / took,
        reads=each["total_reads_processed"],
        operations=(after.operations - before.operations) / took,
        bytes_in=each["total_net_input_bytes"],
        bytes_out=each["total_net_output_bytes"],
        viewer_bytes=sum(report["bytes"] for report in reports) / max(1, events),
        p50=max(report["latency"]["p50"] for report in reports) / 1e9,
        p99=max(report["latency"]["p99"] for report in reports) / 1e9,
        waits=waits,
    )


def watching(
    port: int, load: Load, request: str, *, start: float, streams: int | None = None
) -> subprocess.Popen[bytes]:
    """The load client on one process."""
    many = load.streams if streams is None else streams
    opens, closes = start + RAMP + SETTLE, start + load.seconds
    options = {
        "port": port, "streams": many, "start": _ns(start), "ramp": _ns(RAMP), "from": _ns(opens), "to": _ns(closes),
        "until": _ns(closes + RAMP + GRACE), "expect": 0,
    }  # fmt: skip
    command = [str(build.binary("client")), *(f"{name}={value}" for name, value in options.items())]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert client.stdin is not None
    client.stdin.write(f"{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
    client.stdin.close()
    client.stdin = None  # or communicate() would flush it once more
    return client


def starts(found: Fleet, many: int) -> tuple[float, float, float]:
    """Seconds of CPU of a process and of Redis, and operations, for a run of one event, from its start to its end."""
    path, headers = "/stream?seconds=0.01&rate=100", {"Accept": "application/json"}

    def some(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", found.ports[number % len(found.ports)])
        for _ in range(many // 8):
            connection.request("GET", path, headers=headers)
            assert connection.getresponse().read()
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(8)))  # connections are made, code is warm
        before = found.meters()
        list(pool.map(some, range(8)))
        after = found.meters()
    done = many // 8 * 8
    return (
        (after.processes - before.processes) / done,
        (after.redis - before.redis) / done,
        (after.operations - before.operations) / done,
    )


def idle(found: Fleet, many: int) -> tuple[float, float]:
    """Bytes that a live run with a viewer holds: in its process, and in Redis."""
    load = Load(many, 0, 3600.0)
    first = watching(found.ports[0], load, "GET /idle", start=time.monotonic(), streams=many)
    time.sleep(RAMP + SETTLE)
    before = found.resident(), found.stored()
    second = watching(found.ports[0], load, "GET /idle", start=time.monotonic(), streams=many)
    time.sleep(RAMP + 2 * SETTLE)
    after = found.resident(), found.stored()
    for client in (first, second):
        client.kill()
        client.communicate()
    return (after[0] - before[0]) / many, (after[1] - before[1]) / many


def far(found: Fleet, load: Load) -> tuple[float, float, float]:
    """For an event at a viewer in another process: seconds of CPU there and, beyond the event's own, of Redis; operations."""
    alone = _far(found, load, watched=False)
    return tuple(
        max(0.0, with_it - without) for with_it, without in zip(_far(found, load, watched=True), alone, strict=True)
    )  # type: ignore[return-value]


def _far(found: Fleet, load: Load, *, watched: bool) -> tuple[float, float, float]:
    begun = time.monotonic()
    path = f"/stream?seconds={load.seconds + 1}&rate={load.rate}"
    runs = [_start(found.ports[0], path) for _ in range(load.streams)]
    start = time.monotonic() + 0.1
    clients = [
        watching(found.ports[1], load, f"GET /runs/{run}/events", start=start, streams=1) for run in runs if watched
    ]
    _sleep_until(max(start + RAMP + SETTLE, begun))
    before, cpu = found.meters(), found.cpu(1)
    time.sleep(load.window / 2)
    after, cpu_after = found.meters(), found.cpu(1)
    for client in clients:
        client.kill()
        client.communicate()
    events = load.streams * load.rate * (after.at - before.at)
    time.sleep(load.window / 2 + 2)
    return (
        (cpu_after - cpu) / events,
        (after.redis - before.redis) / events,
        (after.operations - before.operations) / events,
    )


def _start(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Prefer": "respond-async"})
    found = str(json.loads(connection.getresponse().read())["run"])
    connection.close()
    return found


def _spawn(command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=build.HERE.parent,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _free_ports(many: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(many)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_LIMIT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise DidNotStart(f"nobody listens at {port}")


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
