"""A cursor: a reader's position in a log. It owns no queue, so a slow reader costs nothing but its lag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tidelog.bell import Bell, Waiter
from tidelog.errors import CursorAhead, NotFound
from tidelog.log import Position, Record, run_log
from tidelog.seams import BATCH_BYTES, Peeking, Store


Meanwhile = Callable[[Sequence[Record]], bool]
"""Takes records while a cursor waits, without a task; False if it cannot take them now."""


class Cursor:
    """Reads one log from `position` on. One task uses it at a time.

    `position` is the last record handed out; `ended` tells that there will never be another.
    """

    __slots__ = (
        "_bell", "_loop", "_meanwhile", "_peek", "_store", "_timeout", "_waiter", "_woken",
        "batch", "ended", "log", "position",
    )  # fmt: skip

    def __init__(self, store: Store, log: str, position: int = 0, *, batch: int = BATCH_BYTES) -> None:
        self.log = log
        self.position = position
        self.batch = batch
        self.ended = False
        self._store = store
        self._peek = store.peek if isinstance(store, Peeking) else None
        self._loop = asyncio.get_running_loop()
        self._waiter = Waiter()
        self._bell: Bell | None = None
        self._meanwhile: Meanwhile | None = None
        self._timeout: float | None = None
        self._woken = False

    async def next(self, timeout: float | None = None, meanwhile: Meanwhile | None = None) -> Sequence[Record]:
        """The next records, at most `batch` bytes: at once if there are any, else when some come.

        Empty after `timeout` seconds without any, after `wake`, and for ever once `ended`. What comes while this waits is offered to
        `meanwhile` first, once per turn of the loop; what it takes is not returned. Raises `Gone` if the log was dropped.
        """
        self._woken = False
        while not self.ended:
            if self._bell is None or self._bell.rung:
                bell = self._store.changed(self.log)
                page = self._peek(self.log, self.position, self.batch) if self._peek is not None else None
                if page is None:
                    page = await self._store.read(self.log, self.position, self.batch)
                self._bell = None if page.more else bell
                self.ended = page.ended
                if page.records:
                    self.position = page.records[-1].seq
                    return page.records
            elif self._woken:
                return ()
            elif not await self._wait(self._bell, timeout, meanwhile):
                if timeout:
                    self._bell = None  # read again next time: a ring that was lost costs one time-out
                return ()
        return ()

    def again(self) -> Cursor:
        """Another cursor over the same log, from its beginning."""
        return Cursor(self._store, self.log, batch=self.batch)

    def wake(self) -> None:
        """End the `next` that is under way, be it waiting or reading: without records, it returns nothing."""
        self._woken = True
        self._bell = None
        self._waiter.wake(False)

    def close(self) -> None:
        """Forget the timer."""
        self._waiter.close()

    async def _wait(self, bell: Bell, timeout: float | None, meanwhile: Meanwhile | None) -> bool:
        if meanwhile is None or self._peek is None:
            return await self._waiter.wait((bell,), timeout)
        self._meanwhile, self._timeout = meanwhile, timeout
        bell.add(self._rung)
        try:
            return await self._waiter.wait((), timeout)
        finally:
            self._meanwhile = None
            if self._bell is not None:
                self._bell.discard(self._rung)

    def _rung(self) -> None:
        """Once a turn: what else is appended in this turn goes along."""
        self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Offer what is new to `meanwhile`; wake the task for what it cannot take."""
        meanwhile, peek = self._meanwhile, self._peek
        if meanwhile is None or peek is None:
            return
        bell = self._store.changed(self.log)
        page = peek(self.log, self.position, self.batch)
        if page is None or page.more or page.ended or not page.records or not meanwhile(page.records):
            self._waiter.wake()
            return
        self.position = page.records[-1].seq
        self._bell = bell
        self._waiter.extend(self._timeout)
        bell.add(self._rung)


async def check_position(store: Store, position: Position) -> None:
    """Make sure that the log has reached this position in this epoch.

    Raises `NotFound` for no log, `Gone` for a dropped one, `CursorAhead` for records that it does not hold (spec §3).
    """
    log = run_log(position.run)
    tail = await store.tail(log)
    if tail is None:
        raise NotFound
    if position.seq > tail.last or position.epoch > tail.epoch:
        raise CursorAhead
    if position.seq == 0:
        return
    page = await store.read(log, position.seq - 1, 1)
    if page.records[0].epoch != position.epoch:
        raise CursorAhead
