"""Memory that nobody uses any more: looked for, and given back to the system, when there is little to do.

What a hundred runs held lies between what is still needed once they are over, and glibc gives only the end of its heap back. So a
process would stay as large as it ever was, several times what it uses. And what has ended is held by cycles of its own until the
collector comes, for which a server has a good while to wait: an application's objects more than ours.
"""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable
from typing import Any, Final, cast

CALM: Final = 0.3
"""The share of its time for which the process works at most when memory is given back."""
WORTH: Final = 0.05
"""Seconds that it must have worked since the last time: else there is nothing to give."""
REST: Final = 1000
"""Times as long as it took it is not done again: a large heap is looked through in tens of milliseconds."""
LONGEST: Final = 0.05
"""Seconds that the collector may take. Where it has taken more there is too much to look through: then it comes by itself."""
M_ARENA_MAX: Final = -8


class Heap:
    """The heap of this process. `give_back` gives back what is free in it, and may take a while; `working` tells for how many
    seconds the process has worked.
    """

    def __init__(
        self, give_back: Callable[[], None], *,
        working: Callable[[], float] = time.process_time, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._give_back = give_back
        self._working = working
        self._clock = clock
        self._at, self._worked = clock(), working()
        self._gave, self._not_before = self._worked, self._at
        """For how long it had worked then, and when to look again."""

    def look(self) -> None:
        """Give back what is free, if it is time to; to be called several times a second."""
        at, worked = self._clock(), self._working()
        calm = worked - self._worked <= CALM * (at - self._at)
        self._at, self._worked = at, worked
        if calm and at >= self._not_before and worked - self._gave >= WORTH:
            self._give_back()
            self._gave, after = self._working(), self._clock()
            self._not_before = after + REST * (after - at)


def heap() -> Heap:
    """That of this process. Where the C library is glibc it is in one piece from here on, and what is free in it goes back to the
    system; everywhere what only cycles hold is looked for, unless the application has switched that off.
    """
    trim = _malloc_trim()
    collects = True

    def give_back() -> None:
        nonlocal collects
        if collects and gc.isenabled():
            began = time.perf_counter()
            gc.collect()
            collects = time.perf_counter() - began < LONGEST
        if trim is not None:
            trim(0)

    return Heap(give_back)


def _malloc_trim() -> Callable[[int], Any] | None:
    try:
        libc = ctypes.CDLL(None)
        limit, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    limit(M_ARENA_MAX, 1)  # a piece for each thread would be kept by each, and the interpreter runs one at a time
    return cast("Callable[[int], Any]", trim)
