"""What deliveries do together: calls gathered into one callback of the loop, at once or at a tick; what they tell alike; and how
wide windows are, theirs and those in which text gathers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from time import thread_time
from typing import Any, Final

from tidelog.kept import Kept

_SCHEDULED: Final = Path("/proc/thread-self/schedstat")

TICK: Final = 0.003
"""Seconds between ticks: what is due between two is done at the later one."""
SAMPLE: Final = 0.2
"""Seconds between two looks at the load."""
FIRST: Final = 0.05
"""Seconds until the first one: on a calm server it is no part of a start, nor of a short answer."""
CALM: Final = 0.1
BUSY: Final = 0.3
"""The share of its time for which the loop works: up to CALM windows are as they are asked for, from BUSY on they are WIDEST."""
WIDEST: Final = 1.35
"""Times the window that is asked for."""
GATHER: Final = 0.017
"""Seconds, times the width, for which text gathers on a server that is not calm before it becomes a record."""
MANY: Final = 2000
"""Texts a second, from which on they gather: it is not the records of fewer that the loop works for."""
FULL: Final = 0.85
LATE: Final = 0.008
"""While the loop works for more than FULL of its time and ticks come LATE seconds too late on average, windows grow and grow, by
GROWTH in each SAMPLE: late is better than ever later. They shrink again, by EASING, once it is less than FULL or half as LATE.
A loop that is full and keeps its times needs nothing.
"""
GROWTH: Final = 1.5
EASING: Final = 1.15
MOST: Final = 8.0
"""Times that they grow at most."""

log = logging.getLogger("tidelog")

Call = Callable[[], None]


class Turn:
    """Makes calls together. `width` is how many times as wide as they are asked for merge windows are under the load of now.

    For who has entered: the load is looked at for as long as somebody is in. `grows`: windows grow for as long as there is too
    much to do.
    """

    __slots__ = (
        "_at", "_busy", "_calls", "_grows", "_growth", "_in", "_late", "_loop", "_made", "_spent", "_steady", "_ticks", "_timer",
        "crowds", "gather", "texts", "told", "width",
    )  # fmt: skip

    def __init__(self, *, grows: bool = True) -> None:
        self.width = 1.0
        self.gather = 0.0
        """Seconds for which text gathers before it is a record: none while the loop is calm."""
        self.texts = 0
        """How many came behind text of the same part since the last look."""
        self.told = Kept[bytes]()
        """What viewers were told, by place: made once for all who stand there, now or a little later."""
        self.crowds: dict[object, Any] = {}
        """Those who are served as one, by what they have in common."""
        self._grows = grows
        self._steady: Turn | None = None
        self._calls: list[Call] = []
        self._ticks: dict[int, list[Call]] = {}
        self._in = 0
        self._timer: asyncio.TimerHandle | None = None
        self._at = self._spent = self._busy = 0.0
        self._growth = 1.0
        self._made = 0
        self._late = 0.0
        """Ticks since the last look, and by how many seconds in all they came too late."""

    def soon(self, call: Call) -> None:
        """Make this call in the next turn of the loop."""
        if not self._calls:
            self._loop.call_soon(self._run)
        self._calls.append(call)

    def later(self, delay: float, call: Call) -> None:
        """Make this call in `delay` seconds, up to a tick later."""
        loop = self._loop
        tick = int((loop.time() + delay) / TICK) + 1
        calls = self._ticks.get(tick)
        if calls is None:
            calls = self._ticks[tick] = []
            loop.call_at(tick * TICK, self._tick, tick)
        calls.append(call)

    @property
    def steady(self) -> Turn:
        """One whose windows do not grow, for those whom writing itself holds back: each of their writes is many."""
        if self._steady is None:
            self._steady = Turn(grows=False)
        return self._steady

    def enter(self) -> None:
        """Look at the load from now on."""
        self._in += 1
        if self._timer is None:
            loop = self._loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FIRST, self._look_first, loop)

    def leave(self) -> None:
        """One that has entered needs it no more."""
        self._in -= 1
        if not self._in and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._busy, self._growth, self.width, self.gather = 0.0, 1.0, 1.0, 0.0

    def _look_first(self, loop: asyncio.AbstractEventLoop) -> None:
        self._at, self._spent = loop.time(), _wanted()
        self._made, self._late, self.texts = 0, 0.0, 0
        self._timer = loop.call_later(SAMPLE, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        at, spent = loop.time(), _wanted()
        passed = at - self._at
        share = (spent - self._spent) / max(passed, SAMPLE / 2)
        self._at, self._spent = at, spent
        self._busy = (self._busy + share) / 2
        late = self._late / self._made if self._made else passed - SAMPLE
        self._made, self._late = 0, 0.0
        if self._busy > FULL and late > LATE and self._grows:
            self._growth = min(MOST, self._growth * GROWTH ** min(max(1.0, passed / SAMPLE), MOST))
        elif self._busy < FULL or late < LATE / 2:
            self._growth = max(1.0, self._growth / EASING)
        self.width = self._growth * _width(self._busy)
        many, self.texts = self.texts > MANY * passed or not self._grows, 0
        self.gather = GATHER * self.width if many and self.width > 1.0 else 0.0
        self._timer = loop.call_later(SAMPLE, self._look, loop)

    def _run(self) -> None:
        calls, self._calls = self._calls, []
        _make(calls)

    def _tick(self, tick: int) -> None:
        self._made += 1
        self._late += self._loop.time() - tick * TICK
        _make(self._ticks.pop(tick))


def _width(busy: float) -> float:
    """How many times as wide windows are while the loop works for this share of its time."""
    return 1.0 + (WIDEST - 1.0) * min(1.0, max(0.0, (busy - CALM) / (BUSY - CALM)))


def _wanted() -> float:
    """Seconds for which this thread has worked, and for which it would have, had others not had its core."""
    try:
        worked, waited, _ = _SCHEDULED.read_bytes().split()
    except (OSError, ValueError):  # not Linux, or a kernel that does not count
        return thread_time()
    return (int(worked) + int(waited)) / 1e9


def _make(calls: list[Call]) -> None:
    for call in calls:
        try:
            call()
        except Exception:
            log.exception("tidelog: a reader failed")
