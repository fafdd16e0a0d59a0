"""A cursor: a reader's position in a log. It owns no queue, so a slow reader costs nothing but its lag."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidelog.bell import Bell, Waiter
from tidelog.errors import CursorAhead, Gone, NotFound
from tidelog.log import Position, Record, run_log
from tidelog.seams import BATCH_BYTES, Store, Window


class Cursor:
    """Reads one log from `position` on. One task uses it at a time.

    `position` is the last record handed out; `ended` tells that there will never be another, `more` that there was more to read
    at once. `window` is the end of the log in memory, if this process has it and `position` is there: who reads there goes on by
    moving `position`.
    `rung` is called at each ring; set it before the first `next` to be called instead of `ring`, which ends the wait of `next`.
    """

    __slots__ = (
        "_bell", "_interrupted", "_store", "_waiter", "_windows", "batch", "ended", "log", "more", "position", "roused",
        "rung", "window",
    )  # fmt: skip

    timed = False
    """Whether it hands records out by a clock, which begins anew with `move`."""

    def __init__(self, store: Store, log: str, position: int = 0, *, batch: int = BATCH_BYTES) -> None:
        self.log = log
        self.position = position
        self.batch = batch
        self.ended = self.more = False
        self.window: Window | None = None
        self._store = store
        # Whether the store is `Peeking`: to ask `isinstance` takes longer than all the rest of this.
        self._windows: Callable[[str], Window | None] | None = getattr(store, "window", None)
        self._waiter = Waiter()
        self._waiter.woken = True  # nothing is read yet
        self._bell: Bell | None = None
        self._interrupted = False
        self.roused = False
        """Whether the last `next` was ended by `rouse` and nothing else."""
        self.rung: Callable[[], None] = self._waiter.wake

    @property
    def alone(self) -> bool:
        """Whether nobody else waits for this log in this process."""
        return self._bell is not None and self._bell.single

    @property
    def bell(self) -> Bell | None:
        """The bell of the log, once it was read."""
        return self._bell

    @property
    def company(self) -> int:
        """How many wait for this log in this process, this one among them."""
        return self._bell.count if self._bell is not None else 0

    @property
    def current(self) -> bool:
        """Whether `window` is still the end of the log, and what it has shown still stands."""
        if self._windows is None or self._bell is None or self._bell.lost:
            return False
        return self.window is not None and self._windows(self.log) is self.window

    async def next(self, timeout: float | None = None) -> Sequence[Record]:
        """The next records, at most `batch` bytes: at once if there are any, else when some come.

        Empty after `timeout` seconds, after `wake`, and for ever once `ended`. Raises `Gone` if the log was dropped, or has lost
        records that this cursor may have handed out (`cursor_ahead`).
        """
        self.roused = False
        while not (self.ended or self._interrupted or self.roused):
            if self._waiter.woken:
                records = await self._read()
                if records:
                    return records
            elif not await self._waiter.wait(timeout) and not self.roused:
                self._waiter.woken = bool(timeout)  # read next time: a ring that was lost costs one time-out
                return ()
        if self.ended or self._interrupted:
            self._interrupted = self.roused = False
        return ()

    def ring(self) -> None:
        """End the wait of `next`: there is something to read."""
        self._waiter.wake()

    def rouse(self) -> None:
        """End a `next` that waits: it returns nothing, and nothing was read. The next one goes on waiting."""
        self.roused = True
        self._waiter.rouse()

    def expire(self) -> None:
        """End a `next` that waits as if its time were over. The next one reads."""
        self._waiter.rouse()

    def deafen(self) -> None:
        """Hear no bell until `hear`, for whom somebody else reads: a wait is ended by `ring` and `wake` alone."""
        if self._bell is not None:
            self._bell.discard(self.rung)
        self._waiter.woken = False

    def hear(self) -> None:
        """Hear the bell again, and read before the next wait."""
        if self._bell is not None:
            self._bell.add(self.rung)
        self._waiter.woken = True

    def again(self) -> Cursor:
        """Another cursor over the same log, from its beginning."""
        return Cursor(self._store, self.log, batch=self.batch)

    def beside(self) -> Cursor:
        """Another cursor over the same log, from here, that will `hear` the same bell: what was lost was lost for both."""
        other = self.again()
        other.position, other._bell = self.position, self._bell
        return other

    def move(self, position: int) -> None:
        """Read on behind `position`, wherever that is. Not while `next` is under way."""
        self.position = position
        self.ended = False
        self._waiter.woken = True

    def let_go(self) -> None:
        """Hold nothing of the log until the next `next`, which will read."""
        self.window = None
        self._waiter.woken = True

    def wake(self) -> None:
        """End a `next` that waits, or the next one: it returns nothing new."""
        self._interrupted = True
        self._waiter.wake()

    def close(self) -> None:
        """Leave the bell, forget the timer."""
        self._waiter.close()
        if self._bell is not None:
            self._bell.discard(self.rung)
            self.rung = self._waiter.wake
            self._bell = None

    async def _read(self) -> Sequence[Record]:
        if self._bell is None:
            self._bell = self._store.changed(self.log)
            self._bell.add(self.rung)
        elif self._bell.lost:
            raise Gone(code="cursor_ahead")
        self._waiter.woken = False
        window = self._windows(self.log) if self._windows is not None else None
        before = self.position
        try:
            if window is not None and before >= window.base:
                self.window = window
                page = window.page(before, self.batch)
            else:
                self.window = None  # who is rung meanwhile finds nothing there that is next
                page = await self._store.read(self.log, before, self.batch)
        except BaseException:
            self._waiter.woken = True  # nothing is read: the next call begins with it
            raise
        if self.position != before:  # it was moved meanwhile
            self._waiter.woken = True
            return ()
        self.ended, self.more = page.ended, page.more
        if page.more:
            self._waiter.woken = True
        if page.records:
            self.position = page.records[-1].seq
            if window is not None and self.position >= window.base:
                self.window = window
        return page.records


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
