"""The memory of this process, watched: when to take no more runs, and when to end the heaviest before the kernel ends all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from tidelog.errors import InvalidRequest

MARKS: Final = (0.8, 0.9)
"""The shares of a container's memory that count where nothing else is said: no runs are taken above the first, runs are ended
above the second."""
CHECK_EVERY: Final = 0.25
"""Seconds between two looks."""
SHED: Final = 0.1
"""The share of the runs, the heaviest, that one look ends."""
PROC: Final = Path("/proc/self")
CGROUP: Final = Path("/sys/fs/cgroup")
EXTRA: Final = "memory_marks needs an extra on this system: pip install 'tidelog[memory]'."

Marks = tuple[float, float] | None
"""Two marks, each a number of bytes, or up to 1.0 a share of what the process may use; None: no watch."""
Verdict = Literal["ease", "refuse", "shed"]


class MemoryWatch:
    """Judges one reading after the other; both marks in bytes.

    What a run held is not given back to the system for sure when it ends, but it is used again: so above the second mark only
    what is more than at the last shedding calls for another one.
    """

    def __init__(self, refuse_at: float, shed_at: float, read: Callable[[], int]) -> None:
        self._refuse_at = refuse_at
        self._shed_at = shed_at
        self._read = read
        self._shed_above = shed_at

    def look(self) -> Verdict:
        """What to do now: take runs (`ease`), take none, or end the heaviest and take none."""
        held = self._read()
        if held < self._refuse_at:
            self._shed_above = self._shed_at
            return "ease"
        if held <= self._shed_above:
            return "refuse"
        self._shed_above = held
        return "shed"


def watch(marks: Marks | Literal["container"]) -> MemoryWatch | None:
    """The watch for these marks, None for none. `"container"`: MARKS where a container bounds the memory, else none.

    Raises `ValueError` for marks that make no sense, `InvalidRequest` where memory cannot be read without an extra.
    """
    if marks is None:
        return None
    most = container()
    if marks == "container":
        if most is None or reader() is None:
            return None
        marks = MARKS
    whole = most if most is not None else machine()
    refuse_at, shed_at = (mark if mark > 1 else mark * whole for mark in marks)
    if not 0 < refuse_at <= shed_at:
        raise ValueError(f"memory_marks={marks!r}: two marks above 0, the second not below the first.")
    read = reader()
    if read is None:
        raise InvalidRequest(EXTRA)
    return MemoryWatch(refuse_at, shed_at, read)


def reader(proc: Path = PROC) -> Callable[[], int] | None:
    """What reads the resident memory of this process in bytes; None where only an extra could, which is not there."""
    statm = proc / "statm"
    if statm.exists():
        page = os.sysconf("SC_PAGE_SIZE")
        return lambda: int(statm.read_bytes().split()[1]) * page
    try:
        import psutil
    except ImportError:
        return None
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def container(proc: Path = PROC, cgroup: Path = CGROUP) -> int | None:
    """The memory in bytes at which the container of this process is killed; None where there is no such limit."""
    found = [int(text) for text in _limits(proc, cgroup) if text.isdigit()]
    return min(found) if found and min(found) < machine() else None


def machine() -> int:
    """The memory of the machine in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limits(proc: Path, cgroup: Path) -> list[str]:
    """What this cgroup and those above it say, of either version. Within a container the mount is its own root."""
    found = []
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (cgroup / "memory", "memory.limit_in_bytes") if controllers else (cgroup, "memory.max")
        inside = root / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(root):
                try:
                    found.append((folder / name).read_text().strip())
                except OSError:
                    continue
    return found
