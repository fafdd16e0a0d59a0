"""A cursor: a reader's position in a log. It owns no queue, so a slow reader costs nothing but its lag."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from tidelog.bell import Bell, Turn, Waiter
from tidelog.errors import CursorAhead, NotFound
from tidelog.log import Position, Record, run_log
from tidelog.seams import BATCH_BYTES, Peeking, Store

TURN: Final = 0.0005
"""Seconds within which records count as one burst: about a turn of a busy loop."""
Meanwhile = Callable[[Sequence[Record]], bool]
"""Takes records while a cursor waits, without a task; False if it cannot take them now."""


class Cursor:
    """Reads one log from `position` on. One task uses it at a time.

    `position` is the last record handed out; `ended` tells that there will never be another.
    Cursors that share a `turn` are served in one callback of the loop.
    """

    __slots__ = (
        "_bell", "_interrupted", "_loop", "_meanwhile", "_peek", "_scheduled", "_served_at", "_store", "_turn",
        "_waiter", "batch", "ended", "log", "position",
    )  # fmt: skip

    def __init__(
        self, store: Store, log: str, position: int = 0, *, batch: int = BATCH_BYTES, turn: Turn | None = None
    ) -> None:
        self.log = log
        self.position = position
        self.batch = batch
        self.ended = False
        self._loop = asyncio.get_running_loop()
        self._store = store
        self._peek = store.peek if isinstance(store, Peeking) else None
        self._turn = turn or Turn()
        self._waiter = Waiter()
        self._waiter.woken = True  # nothing is read yet
        self._bell: Bell | None = None
        self._meanwhile: Meanwhile | None = None
        self._scheduled = False
        self._served_at = 0.0
        self._interrupted = False

    async def next(self, timeout: float | None = None, meanwhile: Meanwhile | None = None) -> Sequence[Record]:
        """The next records, at most `batch` bytes: at once if there are any, else when some come.

        Empty after `timeout` seconds, after `wake`, and for ever once `ended`. What comes while this waits is offered to
        `meanwhile` first; what it takes is not returned. Raises `Gone` if the log was dropped.
        """
        while not self.ended and not self._interrupted:
            if self._waiter.woken:
                records = await self._read()
                if records:
                    return records
            else:
                self._meanwhile = meanwhile if self._peek is not None else None
                try:
                    if not await self._waiter.wait(timeout):
                        self._waiter.woken = bool(timeout)  # read next time: a ring that was lost costs one time-out
                        return ()
                finally:
                    self._meanwhile = None
        self._interrupted = False
        return ()

    def again(self) -> Cursor:
        """Another cursor over the same log, from its beginning."""
        return Cursor(self._store, self.log, batch=self.batch)

    def wake(self) -> None:
        """End a `next` that waits, or the next one: it returns nothing new."""
        self._interrupted = True
        self._waiter.wake()

    def close(self) -> None:
        """Leave the bell, forget the timer."""
        self._waiter.close()
        if self._bell is not None:
            self._bell.discard(self._rung)
            self._bell = None

    async def _read(self) -> Sequence[Record]:
        if self._bell is None:
            self._bell = self._store.changed(self.log)
            self._bell.add(self._rung)
        self._waiter.woken = False
        page = self._peek(self.log, self.position, self.batch) if self._peek is not None else None
        try:
            if page is None:
                page = await self._store.read(self.log, self.position, self.batch)
        except BaseException:
            self._waiter.woken = True  # nothing is read: the next call begins with it
            raise
        self.ended = page.ended
        if page.more:
            self._waiter.woken = True
        if page.records:
            self.position = page.records[-1].seq
        return page.records

    def _rung(self) -> None:
        """The first record of a burst goes at once, in the turn in which it was stored; the rest goes together in the next."""
        if self._meanwhile is None:
            self._waiter.wake()
        elif not self._scheduled:
            now = self._loop.time()
            if now - self._served_at >= TURN:
                self._served_at = now
                self._serve()
            else:
                self._scheduled = True
                self._turn.soon(self._serve)

    def _serve(self) -> None:
        """Offer what is new to `meanwhile`; wake the task for what it cannot take."""
        self._scheduled = taken = False
        meanwhile, peek = self._meanwhile, self._peek
        try:
            page = peek(self.log, self.position, self.batch) if meanwhile is not None and peek is not None else None
            if meanwhile is not None and page is not None and page.records and not page.more and not page.ended:
                taken = meanwhile(page.records)
                if taken:
                    self.position = page.records[-1].seq
        finally:
            if not taken:
                self._waiter.wake()


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
