"""The short way: where a server lends the socket itself, records go out without a task in between.

A viewer that keeps up is served by whoever stored the record: in the same turn of the loop where the merge window is over, else
at the tick at which it will be. The task of the delivery sleeps meanwhile; it is woken for whatever cannot go this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Final, Protocol

from tidelog.cursor import Cursor
from tidelog.frame import Envelope
from tidelog.granularity import is_one_part, join
from tidelog.log import Record
from tidelog.seams import Dialect, Framing
from tidelog.transports.deliver import REST, SLICE_BYTES, Delivery, Pacing, Write
from tidelog.turn import Turn

BURST: Final = 0.0005
"""Records that came within so many seconds are one burst: about a turn of a busy loop."""
HOLD: Final = 0.5
"""Seconds for which a viewer whose socket is full keeps what it has read, and not told yet."""
FEW: Final = 64
"""Deltas that are held and go as one without a look at their size first."""


class Direct(Protocol):
    """A socket that takes bytes without a task in between."""

    open: bool
    """Whether the socket takes more now."""

    @property
    def by_task(self) -> bool:
        """Whether a task has to write what is put: that of the delivery, in `room`."""
        ...

    @property
    def envelope(self) -> Envelope:
        """What belongs around each write."""
        ...

    def put(self, data: bytes, /) -> None:
        """Write these bytes, in their envelope: only while `open`, and once `ready` was true since the last `Write`."""
        ...

    def clear(self, sent: int) -> bool:
        """Whether the `sent` bytes that went through `Write` have come out as they were, so that `put` may follow them."""
        ...

    def ready(self, sent: int) -> bool:
        """Whether a write would go out now, right behind these: `clear` and `open`."""
        ...

    async def room(self) -> None:
        """Until the socket takes more. One that has lost its peer never does."""
        ...


class DirectDelivery(Delivery):
    """Serves one viewer, where it can by `direct`. What `Delivery` says holds."""

    __slots__ = ("_direct", "_lag", "_ready", "_scheduled")

    def __init__(
        self, cursor: Cursor, dialect: Dialect, framing: Framing, *,
        write: Write, direct: Direct, pacing: Pacing = Pacing(), turn: Turn | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cursor, dialect, framing, write=write, pacing=pacing, turn=turn, envelope=direct.envelope)
        self._direct = direct
        self._ready = False
        """Whether records go out as they are, and nothing has gone through `Write` since the direct way was found free."""
        self._scheduled = False
        self._lag = -inf
        """From the records' clock to the loop's, once a record has gone the short way."""

    def move(self, direct: Direct, write: Write) -> None:
        """Go on by this way to the same socket: where `run` has returned "resting"."""
        self._direct, self._write = direct, write

    def _rests(self) -> bool:
        """Who takes nothing waits like any other: for room, not for records. Who has it all need not wait."""
        direct = self._direct
        if self._quiet() < REST or (self._cursor.ended and direct.open):
            return False
        super()._rests()
        if not direct.clear(self._sent):
            return False
        self._alarm.close()  # what is written is the connection's
        return True

    async def _next(self) -> Sequence[Record]:
        """A full socket is waited for before anything is read: a viewer that is behind holds no page meanwhile."""
        direct = self._direct
        if not direct.open and direct.clear(self._sent):
            if not direct.by_task:
                self._cursor.let_go()
            if not await self._room(REST if self._resting else None):
                return ()
            self._tell()
        return await super()._next()

    async def _wait(self, patience: float | None) -> Sequence[Record]:
        """Until there is something to read. What is put meanwhile is written, and one that is alone goes on waiting."""
        cursor = self._cursor
        while True:
            records = await cursor.next(patience)
            if records or not cursor.roused:
                return records
            await self._room()
            self._tell()
            if self._waiting and self._same is None and not cursor.alone:
                return ()  # it could be one of a crowd

    async def _room(self, patience: float | None = None) -> bool:
        """Whether the socket takes more, at last or within so many seconds. Who takes nothing for too long is given up."""
        self._begin_to_write()
        try:
            if patience is None:
                await self._direct.room()
            else:
                async with asyncio.timeout(patience):
                    await self._direct.room()
        except TimeoutError:
            return False
        finally:
            self._writing = False
        self._spoke_at = self._loop.time()
        return True

    def _tell(self) -> None:
        if self._direct.open or not self._direct.by_task:
            super()._tell()

    async def _out(self, data: bytes) -> None:
        self._ready = False
        await super()._out(data)

    async def _beat(self) -> None:
        direct = self._direct
        if not direct.ready(self._sent):
            await super()._beat()
            return
        direct.put(direct.envelope.around(self._framing.heartbeat))
        self._spoke_at = self._loop.time()

    async def _say_plain(self, records: Sequence[Record]) -> bool:
        """What a viewer that is behind is told, in the same bytes as others. Who takes nothing for long gives these records back:
        then the cursor stands before them, and nothing that follows them may be said.
        """
        direct = self._direct
        if not direct.open and direct.clear(self._sent):
            keeps = not records or self._holder is not None or direct.by_task or self._cursor.timed
            if not await self._room(None if keeps else HOLD):
                self._cursor.move(records[0].seq - 1)
                return False
        data = self._bytes(records) if records and direct.ready(self._sent) else b""
        if not data:
            return await self._say(self._frames(records))
        if len(data) > SLICE_BYTES and len(records) > 1:
            return await self._say_halves(records)
        direct.put(data)
        self._spoke_at = self._loop.time()
        return True

    def _quiet(self) -> float:
        """A window less after the short way, which does not ask what time it is."""
        return self._loop.time() - max(self._spoke_at, self._next_at - self._window * self._turn.width + self._lag)

    def _put_now(self, record: Record) -> bool:
        """The first record of a burst. What follows, and what is more than bytes, goes together in the next turn of the loop."""
        if not self._ready or not self._direct.open:
            return False
        self._direct.put(self._verbatim(record))
        next_at, at = self._next_at + self._window * self._turn.width, record.at + BURST
        self._gone(record.seq, next_at if next_at > at else at)
        return True

    def _rung_otherwise(self) -> None:
        window = self._cursor.window
        if not self._waiting or window is None:
            self._cursor.ring()
        elif not self._scheduled and (window.stored > self._checked or window.ended or not self._cursor.current):
            self._scheduled = True
            self._turn.soon(self._catch_up)

    def _due(self) -> None:
        same, cursor, window = self._same, self._cursor, self._cursor.window
        if same is None:
            return
        if self._ready and self._direct.open and window is not None and cursor.position >= window.base:
            records = window.records[cursor.position - window.base : self._checked - window.base]
            if len(records) < FEW:
                joined = self._merges and cursor.alone
                data = self._verbatim(join(records, len(same))) if joined else self._bytes(records)
                if len(data) < SLICE_BYTES:
                    self._same = None
                    self._direct.put(data)
                    self._gone(self._checked, self._next_at + self._window * self._turn.width)
                    return
        self._ripe = True
        self._catch_up()

    def _gone(self, position: int, next_at: float) -> None:
        """Everything up to here has been written, and deltas may go again at `next_at`."""
        self._cursor.position = self._checked = position
        self._next_at = next_at
        if self.moved is not None:
            self._tell()

    def _catch_up(self) -> None:
        """Write what came since, without a task; wake it for what cannot go out now."""
        self._scheduled = done = False
        try:
            done = self._waiting and self._write_page()
        finally:
            if not done and self._waiting and not self._direct.open and not self._direct.by_task:
                self._cursor.expire()  # to wait for room, not to read
            elif not done:
                self._cursor.ring()

    def _write_page(self) -> bool:
        cursor, direct = self._cursor, self._direct
        window = cursor.window
        if window is None or cursor.position < window.base:
            return False
        page = window.page(cursor.position, cursor.batch)
        records = page.records
        if not records or page.more or page.ended or not direct.ready(self._sent):
            return False  # before anything is encoded: a dialect takes each record once
        last = records[-1]
        self._lag = self._loop.time() - last.at
        self._ready = self._dialect.verbatim
        if not self._ripe and last.at + BURST < self._next_at and is_one_part(records):
            self._checked = last.seq
            if self._same is None:
                self._hold(last)
            return True
        self._same = None
        said = self._put(records)
        if said:
            self._spoke_at = self._loop.time()
        self._gone(last.seq, self._after(last.at) if said else self._next_at)
        return True

    def _put(self, records: Sequence[Record]) -> bool:
        """Write these; False where the dialect has no words for them."""
        direct = self._direct
        if self._dialect.verbatim and self._framed:
            direct.put(self._bytes(records))
            return True
        data = b"".join([self._framing.encode(frame) for frame in self._frames(records)])
        if data:
            direct.put(direct.envelope.around(data))
            self._framed = True
        return bool(data)
