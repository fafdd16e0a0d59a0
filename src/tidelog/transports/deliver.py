"""The reading loop, the only one: a cursor's records become frames, the frames become bytes, the bytes go to a socket.

One task a viewer. Heartbeats are the cursor's time-out. A viewer holds one batch at most and is written to in slices, so that one
which is behind costs little here and in the kernel. A viewer that takes nothing for `send_timeout` is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from tidelog.alarm import Alarm
from tidelog.cursor import Cursor
from tidelog.errors import Unavailable
from tidelog.frame import PLAIN, Envelope, Frame, Why
from tidelog.granularity import Granularity, Holder, beginning, is_delta, merge
from tidelog.log import Record
from tidelog.seams import Dialect, Framing
from tidelog.turn import Turn

HEARTBEAT: Final = 15.0
SEND_TIMEOUT: Final = 30.0
FAREWELL_TIMEOUT: Final = 0.5
"""Seconds that a viewer which is sent away has to take what is on its way."""
SLICE_BYTES: Final = 16 * 1024
"""The most that one write hands to the socket, but for a frame that is larger: a frame is one write."""

REST: Final = 0.05
"""Seconds without a record after which a viewer counts as one that waits: short answers are over by then."""
STORE_AGAIN: Final = 0.25
"""Seconds until a store that is away is read again."""

How = Literal["ended", "left", "stalled", "sent_away", "idle", "resting"]
Write = Callable[[bytes], Awaitable[None]]


class Pacing(NamedTuple):
    """Times in seconds. `retry` (ms) is what a viewer that is sent away should wait."""

    granularity: Granularity = Granularity()
    heartbeat: float = HEARTBEAT
    send_timeout: float = SEND_TIMEOUT
    retry: int = 2000


class Delivery:
    """Serves one viewer. `leave` and `send_away` may be called by other tasks of the loop at any time.

    Deliveries that share a `turn` widen their merge windows together.
    """

    __slots__ = (
        "_alarm", "_alike", "_checked", "_cursor", "_dialect", "_framed", "_framing", "_holder", "_how", "_loop",
        "_merges", "_next_at", "_pacing", "_plain", "_resting", "_ripe", "_same", "_sent", "_spoke_at", "_task", "_turn",
        "_verbatim", "_waiting", "_window", "_write", "_writing", "crowd", "moved", "why",
    )  # fmt: skip

    def __init__(
        self,
        cursor: Cursor,
        dialect: Dialect,
        framing: Framing,
        *,
        write: Write,
        pacing: Pacing = Pacing(),
        turn: Turn | None = None,
        envelope: Envelope = PLAIN,
    ) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._framing = framing
        self._write = write
        self._sent = 0
        self._pacing = pacing
        self.moved: Callable[[int], None] | None = None
        """Called with the position after each write, where somebody must know."""
        self._how: How | None = None
        self.why: Why = "reconnect"
        """Why it was sent away, once it is."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._writing = self._resting = False
        self._alarm = Alarm(self._loop, self._stall)
        self._spoke_at = 0.0
        self._next_at = 0.0
        """When the next deltas may go, by the records' clock. The window holds on average: a steady stream may jitter."""
        self._framed = False
        """Whether a first frame has gone out, with all that only the first carries."""
        self._window = pacing.granularity.merge
        chunk = pacing.granularity.chunk
        self._holder = Holder(chunk) if chunk else None
        self._turn = turn or Turn()
        self._plain = dialect.verbatim
        framing.begin(cursor.log.partition("/")[2].encode(), envelope)
        self._verbatim = framing.verbatim
        """Only for a `verbatim` dialect."""
        self._merges = self._window > 0 or self._holder is not None
        self._alike = type(framing), envelope, self._merges
        self._waiting = False
        """Whether the task waits for records."""
        self._checked = 0
        """Meanwhile: up to where there is nothing to be woken for; what is behind the cursor are deltas that are held."""
        self._same: bytes | None = None
        """While deltas are held: how those of their part begin."""
        self._ripe = False
        """Whether what goes next has waited for its window to be over."""
        cursor.rung = self._rung

    @property
    def position(self) -> int:
        """Up to where the log was read for this viewer."""
        return self._cursor.position

    @property
    def broken(self) -> bool:
        """Whether the log ended in a way that the dialect has no words for."""
        return self._dialect.broken

    async def run(self, *, resting: bool = False) -> How:
        """Until the log has ended and all of it is written, or the viewer is gone. Raises `Gone` if the log is dropped.

        With `resting` it may return "resting" before that: the viewer waits, and nothing of this task is needed to serve it. Run
        it again, in whatever task, to go on.
        """
        self._task = asyncio.current_task()
        self._resting = resting
        try:
            if not self._spoke_at:
                await self._begin()
            while self._how is None:
                records = await self._next()
                if self._how is not None:
                    break
                if records:
                    await self._send(records)
                    records = ()  # who waits for room or for more holds no page
                    if self._cursor.more:
                        await asyncio.sleep(0)  # it may be long until the socket is full: others have their turn
                elif resting and self._rests():
                    self._task = None
                    return "resting"
                elif self._cursor.ended:
                    self._how = "ended"
                elif self._framing.heartbeat and self._quiet() >= self._pacing.heartbeat:
                    await self._beat()
            if self._how == "sent_away":
                await self._say_first()
                await self._say(self._dialect.farewell(self._pacing.retry, self.why))
        except asyncio.CancelledError:
            if self._how not in ("left", "stalled") or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._writing = False
            if self._task is not None:
                self._close()
        return self._how or "left"

    def close(self) -> None:
        """Hold nothing any more: where `run` has returned "resting", and nobody runs it again."""
        if self._task is None and self._cursor.bell is not None:
            self._close()

    def leave(self) -> None:
        """The viewer has gone."""
        self._stop("left")

    def send_away(self, why: Why = "reconnect") -> None:
        """Ask the viewer to come back."""
        if self._how is None:
            self.why = why
        self._stop("sent_away")

    def _stop(self, how: How) -> None:
        if self._how is None:
            self._how = how
            self._cursor.wake()
        if self._writing and self._task is not None:
            if how == "sent_away":
                self._alarm.set(self._loop.time() + FAREWELL_TIMEOUT)
            else:
                self._how = how
                self._task.cancel()

    def _stall(self) -> None:
        if self._writing and self._task is not None:
            self._how = "stalled"
            self._task.cancel()

    async def _begin(self) -> None:
        self._spoke_at = self._loop.time()
        self._turn.enter()
        await self._resume()

    def _close(self) -> None:
        self.moved = None
        self._alarm.drop()
        self._cursor.close()
        self._turn.leave()

    def _rests(self) -> bool:
        """Nothing came for a while: whether the viewer can be served by another task from here on."""
        self._resting = False
        return False

    async def _resume(self) -> None:
        """Fold what the viewer already has, and say what makes a stream legal from there."""
        position = self._cursor.position
        if position == 0:
            return
        if not self._dialect.stateless:
            await self._fold(position)
        await self._say(self._dialect.prelude())

    async def _fold(self, position: int) -> None:
        with contextlib.closing(self._cursor.again()) as past:
            while past.position < position and self._how is None:
                for record in await past.next(0):
                    if record.seq <= position:
                        for _ in self._dialect.encode(record):
                            pass
                await asyncio.sleep(0)

    async def _say_first(self) -> None:
        """Whoever is sent away before the first frame must still learn its run: without an id it would start another."""
        if self._cursor.position == 0 and not self._framed:
            with contextlib.closing(self._cursor.again()) as again:
                await self._say(self._frames((await again.next(0))[:1]))

    async def _next(self) -> Sequence[Record]:
        """The next records; deltas that come within the merge window of the last write wait for its end."""
        try:
            records = await self._wait(self._begin_to_wait())
        except Unavailable:
            await asyncio.sleep(STORE_AGAIN)  # heartbeats go on; the run will tell how it ends
            return ()
        finally:
            self._stop_waiting()
        if self._ripe or not self._window or not records or self._cursor.ended:
            return records
        wait = self._next_at - records[-1].at
        if wait <= 0 or self._cursor.more or not all(map(is_delta, records)):
            return records  # a viewer that catches up does not wait for more to come
        self._ripe = True
        await asyncio.sleep(min(wait, self._window * self._turn.width))
        return [*records, *await self._meanwhile()]

    async def _wait(self, patience: float | None) -> Sequence[Record]:
        return await self._cursor.next(patience)

    async def _meanwhile(self) -> Sequence[Record]:
        """What has come since, for who has records to tell: these are read, and will not be read again."""
        try:
            return await self._cursor.next(0)
        except Unavailable:
            return ()

    def _begin_to_wait(self) -> float | None:
        """Be there for what is stored; for how many seconds, None without a limit."""
        patience = REST if self._resting else self._pacing.heartbeat  # soon it is to be seen whether it rests
        left = patience - (self._quiet() if self._framing.heartbeat else 0.0)
        self._checked, self._waiting = self._cursor.position, self._holder is None
        return max(left, 0.001)

    def _stop_waiting(self) -> None:
        self._waiting, self._same = False, None

    def _rung(self) -> None:
        """Something was stored, most often one record. Nobody is woken for deltas for which it is too early."""
        window = self._cursor.window
        if self._waiting and window is not None and not window.ended and (stored := window.stored) == self._checked + 1:
            record = window.records[stored - window.base - 1]
            if (same := self._same) is not None:
                if record.data.startswith(same):
                    self._checked = stored
                    return
            elif record.at >= self._next_at:
                if self._put_now(record):
                    return
            elif is_delta(record):
                self._checked = stored
                self._hold(record)
                return
        self._rung_otherwise()

    def _put_now(self, record: Record) -> bool:
        """Write this at once, where that can be done without the task."""
        return False

    def _rung_otherwise(self) -> None:
        self._cursor.ring()

    def _hold(self, delta: Record) -> None:
        """Keep this, and what follows of its part, until the merge window is over."""
        self._same = beginning(delta)
        self._turn.later(self._next_at - delta.at, self._due)

    def _due(self) -> None:
        """The window of what is held is over, unless all of it has gone before."""
        if self._same is not None:
            self._ripe = True
            self._cursor.ring()

    def _bytes(self, records: Sequence[Record]) -> bytes:
        """Records as they are, joined: made once for all viewers that stand at the same place. Only for `verbatim` dialects."""
        cursor = self._cursor
        if cursor.alone:
            return self._joined(records)
        told, last = self._turn.told, records[-1]
        place = (cursor.log, records[0].seq, last.seq, last.epoch, self._alike)
        data = told.get(place)
        if data is None:
            data = self._joined(records)
            told.keep(place, data, len(data))
        return data

    def _joined(self, records: Sequence[Record]) -> bytes:
        return b"".join(map(self._verbatim, merge(records) if self._merges else records))

    async def _beat(self) -> None:
        await self._out(self._framing.heartbeat)

    def _quiet(self) -> float:
        """Seconds since the last byte went out."""
        return self._loop.time() - self._spoke_at

    async def _send(self, records: Sequence[Record]) -> None:
        if self._holder is not None:
            records = self._holder.feed(records)
        if await (self._say_plain(records) if self._plain and self._framed else self._say(self._frames(records))):
            self._framed = True
            self._next_at = self._after(records[-1].at)
        self._tell()

    def _tell(self) -> None:
        """How far everything is written."""
        if self.moved is not None:
            self.moved(self._cursor.position)

    def _after(self, at: float) -> float:
        """When deltas may go again behind what is written now. What did not wait owes one window at most."""
        window = self._window * self._turn.width
        next_at = max(self._next_at + window, at)
        ripe, self._ripe = self._ripe, False
        return next_at if ripe else min(next_at, at + window)

    def _frames(self, records: Sequence[Record]) -> Iterator[Frame]:
        for record in merge(records) if self._merges else records:
            yield from self._dialect.encode(record)

    async def _say(self, frames: Iterable[Frame]) -> bool:
        """Write frames, whole ones together up to a slice; whether there was anything to write."""
        encode, before = self._framing.encode, self._sent
        pieces: list[bytes] = []
        size = 0
        for frame in frames:
            piece = encode(frame)
            if size and size + len(piece) > SLICE_BYTES:
                await self._out(b"".join(pieces))
                pieces, size = [], 0
            pieces.append(piece)
            size += len(piece)
        if size:
            await self._out(b"".join(pieces))
        return self._sent > before

    async def _say_plain(self, records: Sequence[Record]) -> bool:
        data = self._bytes(records) if records else b""
        if len(data) > SLICE_BYTES and len(records) > 1:
            return await self._say_halves(records)
        if data:
            await self._out(data)
        return bool(data)

    async def _say_halves(self, records: Sequence[Record]) -> bool:
        """What is too much for one write. Who stands at the same place halves alike, and shares the bytes."""
        middle = len(records) // 2
        first = await self._say_plain(records[:middle])
        if self._cursor.position < records[middle - 1].seq:
            return first  # the rest was given back
        return await self._say_plain(records[middle:]) or first

    async def _out(self, data: bytes) -> None:
        self._begin_to_write()
        await self._write(data)
        self._writing = False
        self._sent += len(data)
        self._spoke_at = self._loop.time()

    def _begin_to_write(self) -> None:
        """From here on the viewer is given up once it has taken nothing for too long."""
        limit = FAREWELL_TIMEOUT if self._how == "sent_away" else self._pacing.send_timeout
        self._alarm.set(self._loop.time() + limit)
        self._writing = True
