"""The clocks of a run: when its source must have said something, when the run must be over, when its source must have closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidelog.alarm import Alarm
from tidelog.limits import Limits


class Clocks:
    """Calls `over` with the names of the limits of which one has passed. Times are the loop's, in seconds."""

    __slots__ = ("_age", "_alarm", "_closing", "_due", "_limits", "_loop", "_over", "ends_at", "heard")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, *, age: Callable[[], float], over: Callable[[str], None]
    ) -> None:
        """`age` tells how long ago the last record was accepted: nobody else knows when text behind text came."""
        self.heard = 0.0
        """When the source last said something; 0 while it is awaited by `_due`."""
        self.ends_at = loop.time() + limits.total_timeout
        self._due = self.ends_at
        """When a source that has not been heard since is late."""
        self._closing = False
        self._age = age
        self._over = over
        self._loop = loop
        self._limits = limits
        self._alarm = Alarm(loop, self._look)

    @property
    def left(self) -> float:
        """Seconds until the run must be over."""
        return self.ends_at - self._loop.time()

    def expect_first(self) -> None:
        """The source is opened, and must say its first."""
        now = self._loop.time()
        self.heard = 0.0
        self._due = now + self._limits.first_event_timeout
        self._alarm.set(min(self._due, now + self._limits.gap_timeout, self.ends_at))

    def expect_next(self) -> None:
        """The source is pulled again, and has its whole gap."""
        self.heard = self._loop.time()

    def expect_nothing(self) -> None:
        """The source is not pulled: the limit of the whole run alone holds."""
        self._closing = False
        self.heard = 0.0
        self._due = self.ends_at

    def expect_close(self) -> None:
        """The source is told to close."""
        self._closing = True
        self._alarm.set(self._loop.time() + self._limits.close_timeout)

    def drop(self) -> None:
        """Call never again, and hold nothing."""
        self._alarm.drop()
        self._over = _nothing

    def _look(self) -> None:
        """The alarm: a limit of time has passed, or has moved on since."""
        now, gap = self._loop.time(), self._limits.gap_timeout
        due = self.heard + gap if self.heard else self._due
        limit = min(max(due, now + gap - self._age()), self.ends_at)
        if self._closing:
            self._over("close_timeout")
        elif now < limit:
            self._alarm.set(min(limit, now + gap))
        else:
            self._over("total_timeout" if now >= self.ends_at else "first_event_timeout or gap_timeout")


def _nothing(_: str) -> None:
    pass
