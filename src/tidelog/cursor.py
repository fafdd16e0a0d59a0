"""A cursor: a reader's position in a log. It owns no queue, so a slow reader costs nothing but its lag."""

from __future__ import annotations

from collections.abc import Sequence

from tidelog.bell import Bell, Waiter
from tidelog.errors import CursorAhead, NotFound
from tidelog.log import Position, Record, run_log
from tidelog.seams import BATCH_BYTES, Store


class Cursor:
    """Reads one log from `position` on. One task uses it at a time.

    `position` is the last record handed out; `ended` tells that there will never be another.
    """

    __slots__ = ("_bell", "_store", "_waiter", "batch", "ended", "log", "position")

    def __init__(self, store: Store, log: str, position: int = 0, *, batch: int = BATCH_BYTES) -> None:
        self.log = log
        self.position = position
        self.batch = batch
        self.ended = False
        self._store = store
        self._waiter = Waiter()
        self._bell: Bell | None = None

    async def next(self, timeout: float | None = None) -> Sequence[Record]:
        """The next records, at most `batch` bytes: at once if there are any, else when some come.

        Empty after `timeout` seconds, after `wake`, and for ever once `ended`. Raises `Gone` if the log was dropped.
        """
        while not self.ended:
            if self._bell is None or self._bell.rung:
                bell = self._store.changed(self.log)
                page = await self._store.read(self.log, self.position, self.batch)
                self._bell = None if page.more else bell
                self.ended = page.ended
                if page.records:
                    self.position = page.records[-1].seq
                    return page.records
            elif not await self._waiter.wait((self._bell,), timeout) or not self._bell.rung:
                return ()
        return ()

    def again(self) -> Cursor:
        """Another cursor over the same log, from its beginning."""
        return Cursor(self._store, self.log, batch=self.batch)

    def wake(self) -> None:
        """End a `next` that waits: it returns nothing."""
        self._waiter.wake()

    def close(self) -> None:
        """Forget the timer."""
        self._waiter.close()


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
    page = await store.read(log, position.seq - 1, 1)
    if page.records[0].epoch != position.epoch:
        raise CursorAhead
