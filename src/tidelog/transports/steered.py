"""A delivery whose viewer has a way back: it may hold its view, let it go on, move it, and be answered between two frames.

The run does not notice, except under `lockstep`, where a source waits for its slowest viewer: a held one is slow. What others
ask is done by the delivery's own task when it comes to its cursor, so a frame is never cut and one task writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from tidelog.bell import Waiter
from tidelog.cursor import Cursor
from tidelog.granularity import Holder
from tidelog.log import Record
from tidelog.seams import Dialect, Framing
from tidelog.transports.deliver import Delivery, How, Pacing, Write
from tidelog.turn import Turn

HOLD_LIMIT: Final = 3600.0
"""Seconds for which a view may be held; then it is closed, and its viewer may come back where it stood."""


class Steered(Delivery):
    """Serves one viewer. `hold`, `go`, `seek` and `tell` may be called by other tasks of the loop at any time, as `leave`."""

    __slots__ = ("_asked", "_held_at", "_hold_limit", "_over", "_sought", "_told", "_waiter")

    def __init__(
        self, cursor: Cursor, dialect: Dialect, framing: Framing, *,
        write: Write, pacing: Pacing = Pacing(), turn: Turn | None = None, hold_limit: float = HOLD_LIMIT,
    ) -> None:  # fmt: skip
        super().__init__(cursor, dialect, framing, write=write, pacing=pacing, turn=turn)
        self._hold_limit = hold_limit
        self._asked = False
        """Whether there is something to attend to before the cursor is asked."""
        self._held_at: float | None = None
        self._sought: int | None = None
        self._told: list[tuple[bytes, asyncio.Future[bool]]] = []
        self._over = False
        self._waiter = Waiter()

    def hold(self) -> None:
        """Ask the cursor no more until `go`; heartbeats go on, and `seek` may move a view that is held."""
        if self._held_at is None:
            self._held_at = self._loop.time()
        self._ask()

    def go(self) -> None:
        """Read on from where the view stands."""
        self._held_at = None
        self._ask()

    def seek(self, position: int) -> None:
        """Read on behind `position`, which the log has reached. A dialect that folds does so anew, and says its prelude."""
        self._sought = position
        self._ask()

    async def tell(self, data: bytes) -> bool:
        """Write this between two frames: True once it is written, False if the view is over before."""
        if self._over:
            return False
        done: asyncio.Future[bool] = self._loop.create_future()
        self._told.append((data, done))
        self._ask()
        return await done

    async def run(self, *, resting: bool = False) -> How:
        """As `Delivery.run`; a view that was held for too long ends as `idle`."""
        try:
            return await super().run(resting=resting)
        finally:
            self._over = True
            self._waiter.close()
            for _, done in self._told:
                if not done.done():
                    done.set_result(False)

    def _ask(self) -> None:
        self._asked = True
        self._waiter.wake()
        self._cursor.wake()

    def _stop(self, how: How) -> None:
        super()._stop(how)
        self._waiter.wake()

    async def _next(self) -> Sequence[Record]:
        if self._asked:
            await self._attend()
        return await super()._next() if self._how is None else ()

    async def _attend(self) -> None:
        """Do what was asked, in its order; while the view is held, nothing else but to beat."""
        held = False
        while self._asked and self._how is None:
            self._asked = self._waiter.woken = False
            await self._say_told()
            if self._sought is not None:
                await self._seek()
            while self._held_at is not None and not self._asked and self._how is None:
                held = True
                await self._rest(self._held_at)
        if held:
            self._cursor.move(self._cursor.position)  # where time counts, it did not pass

    async def _say_told(self) -> None:
        while self._told:
            data, done = self._told[0]
            await self._out(data)
            del self._told[0]
            if not done.done():
                done.set_result(True)

    async def _seek(self) -> None:
        position, self._sought = self._sought or 0, None
        self._cursor.move(position)
        self._dialect = type(self._dialect)(self._cursor.log.partition("/")[2])
        self._next_at = 0.0
        if self._holder is not None and self._pacing.granularity.chunk is not None:
            self._holder = Holder(self._pacing.granularity.chunk)
        await self._resume()
        if self.moved is not None:
            self.moved(position)

    async def _rest(self, since: float) -> None:
        now, heartbeat = self._loop.time(), self._pacing.heartbeat
        left = since + self._hold_limit - now
        if left <= 0:
            self._how = "idle"
        elif self._quiet() >= heartbeat:
            await self._out(self._framing.heartbeat)
        else:
            await self._waiter.wait(min(left, heartbeat - self._quiet()))
