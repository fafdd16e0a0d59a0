"""What the bench reads from the machine: cores, CPU clocks, memory, noise."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPIN_TURNS = 1_000_000
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The core that belongs to the server and the one that belongs to the client."""

    server: int
    client: int


def cores() -> Cores:
    """The last two cores this process may use; raises ``SystemExit`` when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise SystemExit("bench needs two cores: one for the server, one for the load client.")
    return Cores(server=allowed[-1], client=allowed[-2])


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process, and every process started within, runs on ``core`` only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> None:
    """Raises the soft limit of open files to the hard one, for this process and those it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def cpu_ns(pid: int) -> int:
    """CPU time of a process and its descendants, all threads, user and system, in ns."""
    return sum(time.clock_gettime_ns(_cpu_clock(member)) for member in family(pid))


def rss_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, exact to a page."""
    return sum(_rss_of(member) for member in family(pid))


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for member in found:  # grows while it is walked
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def core_busy_ns(core: int) -> int:
    """How long a core has worked since boot, for whomever, in ns (10 ms steps)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = _ticks(core)
    return (user + nice + system + irq + softirq + steal) * _TICK_NS


def core_stolen_ns(core: int) -> int:
    """How long a core has waited since boot for the machine below this one, which ran somebody else, in ns (10 ms steps)."""
    return _ticks(core)[-1] * _TICK_NS


def spin_ms(core: int) -> float:
    """Wall time of a fixed piece of work on a core, in ms: the same every time on a quiet machine."""
    with pinned(core):
        start = time.perf_counter()
        for _ in range(SPIN_TURNS):
            pass
        return (time.perf_counter() - start) * 1e3


def describe() -> dict[str, str]:
    """The facts of the machine that a figure depends on."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tcp": _first_line("/proc/sys/net/ipv4/tcp_congestion_control"),
    }


def _ticks(core: int) -> list[int]:
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            return [int(field) for field in fields[:8]]
    raise LookupError(f"no cpu{core} in /proc/stat")


def _cpu_clock(pid: int) -> int:
    return (~pid << 3) | 2  # what clock_getcpuclockid(3) answers on Linux: CPUCLOCK_SCHED of a whole process


def _rss_of(pid: int) -> int:
    # Not statm: since Linux 6.2 its counters are kept per core and lag by some hundred KB.
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no Rss of process {pid}")


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _first_line(path: str) -> str:
    return Path(path).read_text().strip() if Path(path).exists() else "unknown"
