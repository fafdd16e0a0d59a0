"""The gate before a source: the one place where a run holds its pull, whatever the reason.

What is on its way when the gate shuts still comes in, and is kept: the gate is passed behind a chunk, never before one.
"""

from __future__ import annotations

import asyncio

from tidelog.clocks import Clocks
from tidelog.events import RunningState
from tidelog.viewers import Viewers
from tidelog.writer import Writer


class Gate:
    """Shut while the run is paused, while the store is behind and, under `lockstep`, while the slowest viewer is."""

    def __init__(self, writer: Writer, viewers: Viewers, clocks: Clocks, *, lockstep: int | None) -> None:
        self.paused = writer.head.state == "paused"
        self._before: RunningState = "running"
        """What the run was doing when it was paused."""
        self._writer = writer
        self._viewers = viewers
        self._clocks = clocks
        self._lockstep = lockstep
        self._lifted = False
        self._passing: asyncio.Future[None] | None = None
        if self.paused:  # by whoever owned it before
            clocks.stop()

    def pause(self, asked: int) -> None:
        """Shut it, stop the clocks and say so in the log. Raises `TooLarge` for a log that is full."""
        if self.paused or self._lifted:
            return
        before = self._writer.head.state
        self._clocks.stop()  # before it is told: that is no word of the source
        self._writer.enter("paused", asked=asked)
        self._before = "running" if before == "ended" else before
        self.paused = True

    def resume(self, asked: int) -> None:
        """Undo `pause`. Raises `TooLarge` for a log that is full."""
        if not self.paused or self._lifted:
            return
        waits: RunningState = "waiting" if self._writer.head.questions else "running"
        self._writer.enter(waits if self._before in ("waiting", "running") else self._before, asked=asked)
        self._clocks.go_on()
        self.paused = False
        self.wake()

    def enter(self, state: RunningState, position: int | None) -> None:
        """The run is in this state from here on, or from `resume` on. Raises `TooLarge` for a log that is full."""
        if self.paused:
            self._before = state
        else:
            self._writer.enter(state, position)

    def lift(self) -> None:
        """The run ends: nobody waits any more."""
        self._lifted = True
        self.wake()

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        if self._passing is not None and not self._passing.done():
            self._passing.set_result(None)

    async def passed(self) -> None:
        """Wait until the source may be pulled, or the run ends. What the source owes meanwhile is nothing."""
        try:
            while not self._lifted and (self.paused or self._writer.behind or self._outruns_viewers()):
                self._clocks.expect_nothing()
                self._passing = asyncio.get_running_loop().create_future()
                self._viewers.on_move = self.wake
                await self._passing
                self._clocks.expect_next()
        finally:
            self._passing = self._viewers.on_move = None

    def _outruns_viewers(self) -> bool:
        if self._lockstep is None:
            return False
        self._viewers.wrote(self._writer.last, self._writer.bytes)
        return self._writer.bytes - self._viewers.seen_bytes() > self._lockstep
