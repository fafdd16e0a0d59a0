"""The reading loop, the only one: a cursor's records become frames, the frames become bytes, the bytes go to a socket.

One task a viewer. Heartbeats are the cursor's time-out. A viewer holds one batch at most and is written to in slices, so that one
which is behind costs little here and in the kernel. A viewer that takes nothing for `send_timeout` is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from tidelog.alarm import Alarm
from tidelog.cursor import Cursor
from tidelog.frame import Frame
from tidelog.granularity import Granularity, Holder, is_delta, merge
from tidelog.log import Record
from tidelog.seams import RECORD_COST, Dialect, Framing

HEARTBEAT: Final = 15.0
SEND_TIMEOUT: Final = 30.0
FAREWELL_TIMEOUT: Final = 0.5
"""Seconds that a viewer which is sent away has to take what is on its way."""
SLICE_BYTES: Final = 16 * 1024
"""The most that one write hands to the socket."""

How = Literal["ended", "left", "stalled", "sent_away"]
Write = Callable[[bytes], Awaitable[None]]


class Direct(Protocol):
    """A socket that takes bytes without a task in between."""

    def ready(self, sent: int) -> bool:
        """Whether a write would go out now, right behind the `sent` bytes that went through `Write`."""
        ...

    def write(self, data: bytes) -> None:
        """Write these bytes, which are not empty: only when `ready`."""
        ...


class Pacing(NamedTuple):
    """Times in seconds. `retry` (ms) is what a viewer that is sent away should wait."""

    granularity: Granularity = Granularity()
    heartbeat: float = HEARTBEAT
    send_timeout: float = SEND_TIMEOUT
    retry: int = 2000


class Delivery:
    """Serves one viewer. `leave` and `send_away` may be called by other tasks of the loop at any time."""

    __slots__ = (
        "_alarm", "_cursor", "_dialect", "_direct", "_framed", "_framing", "_holder", "_how", "_loop", "_meanwhile", "_next_at",
        "_pacing",
        "_run", "_sent", "_spoke_at", "_task", "_verbatim", "_window", "_write", "_writing", "moved",
    )  # fmt: skip

    def __init__(
        self,
        cursor: Cursor,
        dialect: Dialect,
        framing: Framing,
        *,
        write: Write,
        direct: Direct | None = None,
        pacing: Pacing = Pacing(),
    ) -> None:
        self._cursor = cursor
        self._dialect = dialect
        self._framing = framing
        self._write = write
        self._direct = direct
        self._sent = 0
        self._pacing = pacing
        self.moved: Callable[[int], None] | None = None
        """Called with the position after each write, where somebody must know."""
        self._how: How | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._writing = False
        self._alarm = Alarm(self._loop, self._stall)
        self._spoke_at = 0.0
        self._next_at = 0.0
        """When the next deltas may go: frames keep the window on average, so that a steady stream may jitter."""
        self._run = cursor.log.partition("/")[2].encode()
        self._verbatim = framing.verbatim if dialect.verbatim else None
        self._framed = False
        """Whether a first frame has gone out, with all that only the first carries."""
        self._window = pacing.granularity.merge
        chunk = pacing.granularity.chunk
        self._holder = Holder(chunk) if chunk else None
        self._meanwhile = self._serve if direct is not None and chunk is None else None

    async def run(self) -> How:
        """Until the log has ended and all of it is written, or the viewer is gone. Raises `Gone` if the log is dropped."""
        self._task = asyncio.current_task()
        self._spoke_at = self._loop.time()
        try:
            await self._resume()
            while self._how is None:
                records = await self._next()
                if self._how is not None:
                    break
                if records:
                    await self._send(records)
                elif self._cursor.ended:
                    self._how = "ended"
                elif self._framing.heartbeat and self._loop.time() >= self._spoke_at + self._pacing.heartbeat:
                    await self._out(self._framing.heartbeat)
            if self._how == "sent_away":
                await self._say(self._dialect.farewell(self._pacing.retry))
        except asyncio.CancelledError:
            if self._how not in ("left", "stalled") or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._writing = False
            self._alarm.close()
            self._cursor.close()
        return self._how or "left"

    def leave(self) -> None:
        """The viewer has gone."""
        self._stop("left")

    def send_away(self) -> None:
        """Ask the viewer to come back later."""
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

    async def _resume(self) -> None:
        """Fold what the viewer already has, and say what makes a stream legal from there."""
        position = self._cursor.position
        if position == 0:
            return
        if not self._dialect.stateless:
            await self._fold(position)
        await self._say(self._dialect.prelude())

    async def _fold(self, position: int) -> None:
        past = self._cursor.again()
        while past.position < position and self._how is None:
            for record in await past.next(0):
                if record.seq <= position:
                    for _ in self._dialect.encode(record):
                        pass
            await asyncio.sleep(0)
        past.close()

    async def _next(self) -> Sequence[Record]:
        """The next records; deltas that come within the merge window of the last write wait for its end."""
        quiet = self._spoke_at + self._pacing.heartbeat - self._loop.time()
        records = await self._cursor.next(max(quiet, 0.001), self._meanwhile)
        if not self._window or not records or self._cursor.ended:
            return records
        wait = self._next_at - self._loop.time()
        if wait <= 0 or self._is_behind(records) or not all(map(is_delta, records)):
            return records
        await asyncio.sleep(wait)
        return [*records, *await self._cursor.next(0)]

    def _is_behind(self, records: Sequence[Record]) -> bool:
        """A batch that is full was cut: a viewer that catches up does not wait for more to come."""
        return sum(len(record.data) + RECORD_COST for record in records) > self._cursor.batch // 2

    async def _send(self, records: Sequence[Record]) -> None:
        if self._holder is not None:
            records = self._holder.feed(records)
        await self._say(self._frames(records))
        self._framed = True
        now = self._loop.time()  # what did not wait, as other events do not, owes no more than one window
        self._next_at = min(max(self._next_at, now - self._window), now) + self._window
        if self.moved is not None:
            self.moved(self._cursor.position)

    def _serve(self, records: Sequence[Record]) -> bool:
        """The short way for a viewer that keeps up: no task is woken. False leaves the records to the loop above."""
        now, next_at = self._loop.time(), self._next_at
        direct = self._direct
        if now < next_at or direct is None or not direct.ready(self._sent):
            return False  # before anything is encoded: a dialect takes each record once
        if len(records) == 1 and self._verbatim is not None and self._framed:
            data = self._verbatim(self._run, records[0])
        else:
            frames = self._frames(records)
            data = b"".join([self._framing.encode(frame) for frame in frames])
        if not data:
            return True  # the dialect has no words for these records
        direct.write(data)
        self._spoke_at = now
        late = now - self._window
        self._next_at = (late if late > next_at else next_at) + self._window
        if self.moved is not None:
            self.moved(records[-1].seq)
        return True

    def _frames(self, records: Sequence[Record]) -> Iterator[Frame]:
        if self._window or self._holder is not None:
            records = merge(records)
        for record in records:
            yield from self._dialect.encode(record)

    async def _say(self, frames: Iterable[Frame]) -> None:
        """Write frames, whole ones together up to a slice."""
        encode = self._framing.encode
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

    async def _out(self, data: bytes) -> None:
        limit = FAREWELL_TIMEOUT if self._how == "sent_away" else self._pacing.send_timeout
        self._alarm.set(self._loop.time() + limit)
        self._writing = True
        await self._write(data)
        self._writing = False
        self._sent += len(data)
        self._spoke_at = self._loop.time()
