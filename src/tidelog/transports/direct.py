"""The short way: where a server lends the socket itself, records go out without a task in between.

A viewer that keeps up is served by whoever stored the record: in the same turn of the loop where the merge window is over, else
at the tick at which it will be. The task of the delivery sleeps meanwhile; it is woken for whatever cannot go this way.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, Protocol

from tidelog.cursor import Cursor
from tidelog.frame import Envelope
from tidelog.granularity import beginning, is_delta, is_one_part, join, merge
from tidelog.log import Record
from tidelog.seams import Dialect, Framing
from tidelog.transports.deliver import SLICE_BYTES, Delivery, Pacing, Write
from tidelog.turn import Turn

BURST: Final = 0.0005
"""Records that came within so many seconds are one burst: about a turn of a busy loop."""
FEW: Final = 64
"""Deltas that are held and go as one without a look at their size first."""


class Direct(Protocol):
    """A socket that takes bytes without a task in between."""

    open: bool
    """Whether the socket takes more now."""

    @property
    def envelope(self) -> Envelope:
        """What belongs around each write."""
        ...

    def put(self, data: bytes, /) -> None:
        """Write these bytes, in their envelope: only while `open`, and once `ready` was true since the last `Write`."""
        ...

    def ready(self, sent: int) -> bool:
        """Whether a write would go out now, right behind the `sent` bytes that went through `Write`."""
        ...


class DirectDelivery(Delivery):
    """Serves one viewer, where it can by `direct`. What `Delivery` says holds."""

    __slots__ = ("_checked", "_clear", "_direct", "_lag", "_same", "_scheduled", "_verbatim", "_waiting")

    def __init__(
        self, cursor: Cursor, dialect: Dialect, framing: Framing, *,
        write: Write, direct: Direct, pacing: Pacing = Pacing(), turn: Turn | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cursor, dialect, framing, write=write, pacing=pacing, turn=turn)
        self._direct = direct
        self._waiting = False
        """Whether the task waits for records, and what comes may be written without it."""
        self._clear = False
        """Whether moreover nothing but bytes is asked for, and all before the next record went this way or is held."""
        self._checked = 0
        """While the way is clear: up to where records have gone, or are held because they are deltas."""
        self._same: bytes | None = None
        """While deltas are held: how those of their part begin."""
        self._scheduled = False
        framing.begin(cursor.log.partition("/")[2].encode(), direct.envelope)
        self._verbatim = framing.verbatim if dialect.verbatim else None
        self._lag = -inf
        """From the records' clock to the loop's, once a record has gone the short way."""
        cursor.rung = self._rung

    async def _wait(self, timeout: float) -> Sequence[Record]:
        self._waiting = self._holder is None
        try:
            return await self._cursor.next(timeout)
        finally:
            self._waiting = self._clear = False
            self._same = None

    def _quiet(self) -> float:
        """A window less after the short way, which does not ask what time it is."""
        return self._loop.time() - max(self._spoke_at, self._next_at - self._window * self._turn.width + self._lag)

    def _rung(self) -> None:
        """A record that is bytes already goes out in the turn in which it was stored; a delta for which it is too early is held.

        It is the first of a burst. What follows, and what is more than bytes, goes together in the next turn of the loop.
        """
        window = self._cursor.window
        if self._clear and window is not None and not window.ended and (stored := window.stored) == self._checked + 1:
            record = window.records[stored - window.base - 1]
            if (same := self._same) is not None:
                if record.data.startswith(same):
                    self._checked = stored
                    return
            elif record.at < self._next_at:
                if is_delta(record):
                    self._checked = stored
                    self._hold(record, self._next_at - record.at)
                    return
            elif (verbatim := self._verbatim) is not None and self._direct.open:
                self._direct.put(verbatim(record))
                next_at, at = self._next_at + self._window * self._turn.width, record.at + BURST
                self._gone(stored, next_at if next_at > at else at)
                return
        self._rung_otherwise()

    def _hold(self, delta: Record, wait: float) -> None:
        """Keep this, and what follows of its part, for so many seconds."""
        self._same = beginning(delta)
        self._turn.later(wait, self._due)

    def _gone(self, position: int, next_at: float) -> None:
        """Everything up to here has been written, and deltas may go again at `next_at`."""
        self._cursor.position = self._checked = position
        self._next_at = next_at
        if self.moved is not None:
            self.moved(position)

    def _rung_otherwise(self) -> None:
        self._clear = False
        if not self._waiting or self._cursor.window is None:
            self._cursor.ring()
        elif not self._scheduled:
            self._scheduled = True
            self._turn.soon(self._catch_up)

    def _due(self) -> None:
        """The window of what is held is over, unless all of it has gone before."""
        same, verbatim, window = self._same, self._verbatim, self._cursor.window
        if same is None:
            return
        if verbatim is not None and self._clear and self._direct.open and window is not None:
            start = self._cursor.position - window.base
            records = window.records[start : self._checked - window.base] if start >= 0 else ()
            if 0 < len(records) < FEW:
                record = join(records, len(same))
                if len(record.data) < SLICE_BYTES:
                    self._same = None
                    self._direct.put(verbatim(record))
                    self._gone(record.seq, self._next_at + self._window * self._turn.width)
                    return
        self._catch_up(due=True)

    def _catch_up(self, *, due: bool = False) -> None:
        """Write what came since, without a task; wake it for what cannot go out now."""
        done = False
        if not due:
            self._scheduled = False
        try:
            done = self._waiting and self._write_page(due)
        finally:
            if not done:
                self._cursor.ring()

    def _write_page(self, due: bool) -> bool:
        cursor, direct = self._cursor, self._direct
        window = cursor.window
        if window is None or cursor.position < window.base:
            return False
        page = window.page(cursor.position, cursor.batch)
        records = page.records
        if not records or page.more or page.ended or not direct.ready(self._sent):
            return False  # before anything is encoded: a dialect takes each record once
        last = records[-1]
        at, next_at = last.at, self._next_at
        self._lag = self._loop.time() - at
        self._clear = True
        if not due and at + BURST < next_at and is_one_part(records):
            self._checked = last.seq
            if self._same is None:
                self._hold(last, next_at - at)
            return True
        self._same = None
        wide = self._window * self._turn.width
        if self._put(records):
            self._spoke_at = at + self._lag
            next_at = max(next_at + wide, at)
            next_at = next_at if due else min(next_at, at + wide)  # what did not wait owes one window at most
        self._gone(last.seq, next_at)
        return True

    def _put(self, records: Sequence[Record]) -> bool:
        """Write these; False where the dialect has no words for them."""
        direct, verbatim = self._direct, self._verbatim
        if verbatim is not None and self._framed:
            data = b"".join(map(verbatim, merge(records) if self._window else records))
        else:
            data = b"".join([self._framing.encode(frame) for frame in self._frames(records)])
            if not data:
                return False
            data = direct.envelope.around(data)
            self._framed = True
        direct.put(data)
        return True
