"""A cursor that replays: it hands records out in the rhythm in which they were written, faster or slower.

What was read and is not due yet is one batch at most. Nobody waits in a loop of its own: a record that comes due wakes the
cursor as a ring does.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Final

from tidelog.alarm import Alarm
from tidelog.cursor import Cursor
from tidelog.errors import InvalidRequest
from tidelog.log import Record
from tidelog.seams import BATCH_BYTES, Store

GAP_LIMIT: Final = 5.0
"""Seconds between two records of a replay at most: longer silence is shortened to it, at every pace."""
SLOWEST: Final = 0.1
FASTEST: Final = 100.0
_PACE: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


def parse(text: str) -> float:
    """The pace that a request asks for: 1 is as it was, 2 twice as fast. Raises `InvalidRequest`."""
    if _PACE.fullmatch(text) is None or not SLOWEST <= float(text) <= FASTEST:
        raise InvalidRequest(f"pace must be a number from {SLOWEST:g} to {FASTEST:g}; 1 is the original pace.")
    return float(text)


class Paced(Cursor):
    """Reads one log from `position` on at `pace` times its speed, told by the records' `at`; the first record goes at once.

    `at` of what it hands out is the loop's time at which the record was due, so whoever counts by the records' clock counts by
    the viewer's. `window` is always None: nobody reads past the pace.
    """

    __slots__ = ("_ahead", "_alarm", "_before", "_due", "_gap_limit", "_loop", "_more", "_pace", "_reached")

    timed = True

    def __init__(
        self, store: Store, log: str, position: int = 0, *,
        pace: float, batch: int = BATCH_BYTES, gap_limit: float = GAP_LIMIT,
    ) -> None:  # fmt: skip
        super().__init__(store, log, position, batch=batch)
        self._pace = pace
        self._gap_limit = gap_limit
        self._loop = asyncio.get_running_loop()
        self._ahead: deque[Record] = deque()
        """Read, and not due yet."""
        self._before: float | None = None
        """When the last record that was handed out was written; None where the next goes at once."""
        self._due = 0.0
        """When it was due, by the loop's clock."""
        self._more = False
        """Whether there may be more to read behind `_ahead`."""
        self._reached = False
        """Whether `_ahead` is the end of an ended log."""
        self._alarm = Alarm(self._loop, self._waiter.wake)
        self.rung = self.ring

    def ring(self) -> None:
        """There is something to read: it can wait until what was read is due."""
        if self._ahead:
            self._more = True
        else:
            super().ring()

    def move(self, position: int) -> None:
        """Read on behind `position`; the record there goes at once."""
        super().move(position)
        self._ahead.clear()
        self._before = None

    def close(self) -> None:
        """Leave the bell, forget the timers and what was not due."""
        super().close()
        self.rung = self._waiter.wake
        self._alarm.drop()
        self._ahead.clear()

    async def _read(self) -> Sequence[Record]:
        if not self._ahead:
            await self._fetch()
        due = self._take(self._loop.time())
        if self._ahead:
            self._waiter.woken = False
            self._alarm.set(self._due_at(self._ahead[0]))
        else:
            self._waiter.woken = self._more
            self.ended = self._reached
        return due

    async def _fetch(self) -> None:
        position = self.position
        records = await super()._read()
        self.position, self.window = position, None
        self._reached, self.ended, self.more = self.ended, False, False
        self._more = self._waiter.woken
        self._ahead.extend(records)

    def _take(self, now: float) -> Sequence[Record]:
        """What is due."""
        due: list[Record] = []
        if self._before is None:
            self._due = now
        while self._ahead:
            record = self._ahead[0]
            at = self._due_at(record)
            if at > now:
                break
            self._ahead.popleft()
            self._before, self._due = record.at, at
            self.position = record.seq
            due.append(Record(record.seq, at, record.data, record.epoch))
        return due

    def _due_at(self, record: Record) -> float:
        gap = 0.0 if self._before is None else max(0.0, record.at - self._before) / self._pace
        return self._due + min(gap, self._gap_limit)
