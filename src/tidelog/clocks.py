"""The clocks of a run: when it must have its turn, when its source must have said something, when the run must be over, when its
source must have closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from tidelog import events as e
from tidelog.alarm import Alarm
from tidelog.limits import Limits
from tidelog.writer import Writer

PAUSED_TOO_LONG: Final = e.Error.of("timed_out", "The run was paused for too long.")


class Clocks:
    """Calls `over` with the names of the limits of which one has passed. Times are the loop's, in seconds.

    When text behind text came, only the writer knows.
    """

    __slots__ = (
        "_alarm", "_closing", "_due", "_ends_at", "_give_up", "_held", "_limits", "_loop", "_old", "_over", "_paused", "_stopped",
        "_turn_by", "_writer", "heard",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limits: Limits, writer: Writer, *, over: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self.heard = 0.0
        """When the source last said something; 0 while it is awaited by `_due`."""
        self._ends_at = self._loop.time() + limits.total_timeout
        """When the run must be over."""
        self._due = self._ends_at
        """When a source that has not been heard is late."""
        self._old = writer.at
        """When the writer was last given what is no word of the source."""
        self._paused: float | None = None
        """Since when the run is paused."""
        self._held = False
        """Whether it waits for a person."""
        self._stopped: float | None = None
        """Since when the clocks stand still, for one reason or the other."""
        self._turn_by: float | None = None
        """Until when it waits for its turn; None where it does not: then none of its own limits counts yet."""
        self._give_up: Callable[[], None] = _nothing_more
        """Called when that has passed."""
        self._closing = False
        self._writer = writer
        self._over = over
        self._limits = limits
        self._alarm = Alarm(self._loop, self._look)

    @property
    def left(self) -> float:
        """Seconds until the run must be over, should it not be paused any more."""
        return self._ends_at - (self._loop.time() if self._stopped is None else self._stopped)

    def expect_turn(self, patience: float, give_up: Callable[[], None]) -> None:
        """The run waits for its turn until `begin`: for so many seconds, but those in which it is paused. Then call this."""
        now = self._loop.time() if self._stopped is None else self._stopped
        self._turn_by, self._give_up = now + patience, give_up
        self._watch()

    def begin(self) -> None:
        """The run begins, perhaps after a wait in the queue: its time counts from now on."""
        now = self._loop.time() if self._stopped is None else self._stopped
        self._turn_by, self._give_up = None, _nothing_more
        self._ends_at = self._due = now + self._limits.total_timeout

    def expect_first(self) -> None:
        """The source is opened, and must say its first."""
        self.heard, self._old = 0.0, self._writer.at
        self._due = self._loop.time() + self._limits.first_event_timeout
        self._watch()

    def expect_next(self) -> None:
        """The source is pulled again, and has its whole gap."""
        self.heard = self._loop.time()

    def expect_nothing(self) -> None:
        """The source is not pulled: the limit of the whole run alone holds."""
        self._closing = False
        self.heard, self._due = 0.0, self._ends_at

    def expect_close(self) -> None:
        """The source is told to close."""
        self._closing = True
        self._alarm.set(self._loop.time() + self._limits.close_timeout)

    def stop(self) -> None:
        """The run is paused: nothing is late until `go_on`, but the pause itself after `pause_limit`."""
        now = self._loop.time()
        self._stand_still(now)
        self._paused = now
        self._watch()

    def go_on(self) -> None:
        """The run is not paused any more: unless it waits for a person, what time was left is left again."""
        self._paused = None
        self._move_on(self._loop.time())

    def hold(self, held: bool) -> None:
        """The run waits for a person, which is no pause and has no limit here; or it waits no longer."""
        now = self._loop.time()
        if held:
            self._stand_still(now)
        self._held = held
        self._move_on(now)

    def drop(self) -> None:
        """Call never again, and hold nothing."""
        self._alarm.drop()
        self._over, self._give_up = _nothing, _nothing_more

    def _stand_still(self, now: float) -> None:
        if self._stopped is None:
            self.heard, self._due = 0.0, self._limit(now)
            self._stopped = now

    def _move_on(self, now: float) -> None:
        """Unless there is a reason left to stand still. A source that was heard meanwhile has its whole gap."""
        if self._stopped is not None and self._paused is None and not self._held:
            self._ends_at += now - self._stopped
            self._due += now - self._stopped
            if self._turn_by is not None:
                self._turn_by += now - self._stopped
            self.heard = now if self.heard else 0.0
            self._stopped, self._old = None, self._writer.at
        self._watch()

    def _limit(self, now: float) -> float:
        """When the first of the limits passes, as things stand."""
        if self._paused is not None:
            return self._paused + self._limits.pause_limit
        if self._held:
            return inf
        if self._turn_by is not None:
            return self._turn_by
        gap = self._limits.gap_timeout
        due = self.heard + gap if self.heard else self._due
        if self._writer.at != self._old:
            due = max(due, now + gap - self._writer.age())
        return min(due, self._ends_at)

    def _watch(self) -> None:
        now = self._loop.time()
        self._alarm.set(min(self._limit(now), now + self._limits.gap_timeout))

    def _look(self) -> None:
        """The alarm: a limit of time has passed, or has moved on since."""
        now = self._loop.time()
        if self._closing:
            self._over("close_timeout")
        elif now < self._limit(now):
            self._watch()
        elif self._paused is not None:
            self._over("pause_limit")
        elif self._turn_by is not None:
            self._give_up()
        else:
            self._over("total_timeout" if now >= self._ends_at else "first_event_timeout or gap_timeout")


def _nothing(_: str) -> None:
    pass


def _nothing_more() -> None:
    pass
