"""Viewers that take nothing: they cost little, and nobody waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.conftest import count

from tidelog.testing import Process, Viewer, freeze, rebuild, serve_process, watch

ROOT = Path(__file__).parents[2]
PAGE = 4096
EACH = 300_000
"""Bytes that a stalled viewer may cost in all, of the process and of the kernel."""
HELD = 256 * 1024
"""Bytes of the process alone."""
NOISE = 16_000_000
"""Bytes by which a process of the same work differs from one moment to the next."""


def start() -> Process:
    return serve_process("tests.integration.apps:app", cwd=ROOT, env={"APP_DRAIN_TIMEOUT": "0"})


def resident(process: Process) -> int:
    return int(psutil.Process(process.pid).memory_info().rss)


def kernel() -> int:
    """Bytes of all TCP buffers of this machine."""
    line = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    fields = line.split()
    return int(fields[fields.index("mem") + 1]) * PAGE


def settled(measure: Callable[[], int]) -> int:
    """The measure once it has stood nearly still for a while."""
    before, until = measure(), time.monotonic() + 20.0
    while time.monotonic() < until:
        time.sleep(0.5)
        now = measure()
        if abs(now - before) < 500_000:
            return now
        before = now
    return before


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/net/sockstat").exists(), reason="needs Linux's /proc")
def test_what_they_cost() -> None:
    many = count(100, 1000)
    viewers: list[Viewer] = []
    with start() as process:
        first = freeze(f"{process.url}/flood?kilobytes=4000", after=1)
        path = f"{process.url}/runs/{first.run}"
        _until_stored(path)
        memory, buffers = settled(lambda: resident(process)), settled(kernel)
        for _ in range(many):
            viewers.append(freeze(f"{path}/events", after=1))
        more = settled(lambda: resident(process)) - memory
        buffered = settled(kernel) - buffers
        assert more < HELD * many + NOISE
        assert more + buffered < EACH * many + NOISE, f"process {more}, kernel {buffered}"
        print(f"{many} stalled viewers, each: {more // many} bytes of the process, {buffered // many} of the kernel")
        for viewer in viewers:
            viewer.drop()
        first.close()
        assert watch(f"{process.url}/healthz", accept=None).json == {"status": "ok"}


def _until_stored(path: str) -> None:
    until = time.monotonic() + 20.0
    while watch(path, accept=None).json["last_seq"] < 4001:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nobody_waits_for_them() -> None:
    """The run ends and the others have all of it, while one has not taken a byte since the start."""
    with start() as process:
        stalled = freeze(f"{process.url}/count?to=2000&pause=0")
        others = [watch(f"{process.url}/runs/{stalled.run}/events") for _ in range(3)]
        wanted = "".join(f"{number} " for number in range(2000))
        assert [rebuild(other.rest()) for other in others] == [wanted] * 3
        assert rebuild(stalled.rest()) == wanted, "and it can go on where it stopped"
        assert all(viewer.closed for viewer in (stalled, *others))
