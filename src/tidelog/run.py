"""A run: one source, one log, one task. The writing loop.

The tricky rules first. Only the pull is cancellable: `stop` cancels the task while it waits for the source and at no other time,
and takes the cancellation back before the source is closed, so that its `finally` blocks may wait.
The source is opened, advanced and closed by this task alone, in its context. Records are appended by whoever calls `_accept`
(always on the loop); the store takes one append at a time and the next batch gathers meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from tidelog import events as e
from tidelog import head as heads
from tidelog.alarm import Alarm
from tidelog.errors import Conflict, InvalidEvent, StoreError, TidelogError, TooLarge
from tidelog.grammar import Grammar
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease, Record, run_log
from tidelog.seams import Store, Translator
from tidelog.stitch import Stitch
from tidelog.viewers import Viewers

log = logging.getLogger("tidelog")

PENDING_BYTES: Final = 256 * 1024
"""What may wait for the append in flight before the source is held."""
EMIT_BYTES: Final = 4 * 1024 * 1024
"""What `emit`, which cannot wait, may add on top before it raises."""
BREATH: Final = 32
"""Chunks after which a source that never waits gives way to the loop."""


class Opened(NamedTuple):
    """A source at work. `translator` None: its chunks are plain values."""

    chunks: AsyncIterator[Any]
    translator: Translator | None = None


Opener = Callable[[], Opened]
"""Opens a source, in the run's task and context."""

current: ContextVar[Run] = ContextVar("tidelog_run")
"""The run whose source is being advanced."""


class Run:
    """A live run in this process. `done` is a future that is resolved when the ending is stored, or cannot be."""

    def __init__(
        self, store: Store, head: Head, lease: Lease, *, values: Translator, limits: Limits = Limits(), first: e.RunStarted
    ) -> None:  # fmt: skip
        self.id = head.run
        self.head = head
        self.limits = limits
        self.failure: Exception | None = None
        """The exception that ended the run, for the request that waits for its status."""
        self.partial: str = ""
        """For a run that continues another: the text so far."""
        self.last = 1
        """The last record that was accepted, stored or not."""
        self.lost: BaseException | None = None
        """Why the log could not be written to its end, if so; the ending is then still owed."""
        self.viewers = Viewers()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._store = store
        self._name = run_log(head.run)
        self._lease = lease
        self._values = values
        self._grammar = Grammar()
        self._grammar.accept(first)
        self._pending: list[Record] = []
        self._pending_bytes = 0
        self._bytes = 0
        self._inflight: asyncio.Future[None] | None = None
        self._usage = e.TokenUsage()
        self._reason: tuple[e.Outcome, e.Error | None] | None = None
        self._finished = False
        self._task: asyncio.Task[None] | None = None
        self._pulling = False
        self._cancelled = False
        self._closing = False
        self._room: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._loop, self._late)
        self._ends_at = self._loop.time() + limits.total_timeout

    @property
    def outcome(self) -> e.Outcome | None:
        """How the run ended, or None while it lives."""
        return self._reason[0] if self._finished and self._reason else None

    @property
    def thread(self) -> str:
        """The thread that the run belongs to."""
        return self.head.thread

    @property
    def mode(self) -> e.Mode | None:
        """`retry` or `continue` for a run that follows another (`head.of`), else None."""
        return self.head.mode

    def failure_or_unavailable(self) -> e.Error:
        """The error of an ending that could not be stored at first."""
        return (self._reason and self._reason[1]) or e.Error.of("store_unavailable")

    async def work(self, opener: Opener) -> None:
        """Pull the source to its end and store the ending. Raises nothing that the source raises."""
        self._task = asyncio.current_task()
        current.set(self)
        self._alarm.set(min(self._loop.time() + self.limits.first_event_timeout, self._ends_at))
        try:
            await self._produce(opener)
        finally:
            self._finish()
            self._alarm.close()

    async def wait(self) -> e.Outcome:
        """Until the ending is stored; how the run ended."""
        await asyncio.shield(self.done)
        return self.outcome or "failed"

    async def emit_in_turn(self, value: Any) -> None:
        """`emit`, once there is room: for other threads, which can wait."""
        while self._pending_bytes > PENDING_BYTES and self._reason is None:
            await asyncio.sleep(0.005)
        self.emit(value)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the run lives on."""
        return self._loop

    def start_with(self, events: Iterable[e.Event]) -> None:
        """Accept these events before the source is opened. One that cannot be ends the run."""
        try:
            for event in events:
                for each in self._values.feed(event):
                    self._accept(each)
        except TidelogError as error:
            self._fail(error)

    def emit(self, value: Any) -> None:
        """Add a value as if the source had yielded it. On the loop only.

        Raises `InvalidEvent` for what the grammar forbids or after the end, `TooLarge` when far more is emitted than stored.
        """
        if self._pending_bytes > EMIT_BYTES:
            raise TooLarge("emit() is faster than the store; yield events instead.")
        if self._reason is not None:
            raise InvalidEvent("the run is ending")
        for event in self._values.feed(value):
            self._accept(event)

    def stop(self) -> None:
        """End the run as `stopped`. Later calls, and calls after the end, do nothing."""
        self._end("stopped")

    def interrupt(self) -> None:
        """End the run as `interrupted`, because the process goes."""
        self._end("interrupted", e.Error.of("interrupted"))

    async def _produce(self, opener: Opener) -> None:
        chunks: AsyncIterator[Any] | None = None
        try:
            opened = opener()
            chunks, translator = opened.chunks, opened.translator or self._values
            if self.partial:
                translator = Stitch(translator, self.partial)
            await self._pull(chunks, translator)
            if self._reason is None:
                for event in translator.end():
                    self._accept(event)
                self._end("completed")
        except asyncio.CancelledError:
            await self._take_back()
            if chunks is not None:
                await self._close(chunks)  # before the judgement: the source's own cancel scopes take theirs back
            self._judge_cancellation()
        except Exception as error:
            self._fail(error)
        finally:
            if chunks is not None and not self._closed:
                await self._take_back()
                await self._close(chunks)

    async def _pull(self, chunks: AsyncIterator[Any], translator: Translator) -> None:
        taken = 0
        gap = self.limits.gap_timeout
        if self._reason is not None:
            return
        self._pulling = True
        try:
            async for chunk in chunks:
                self._pulling = False
                if self._reason is not None:
                    break  # a source may swallow its cancellation and go on
                if not await self._take(chunk, chunks, translator):
                    break
                taken += 1
                if taken % BREATH == 0:
                    await asyncio.sleep(0)
                if self._reason is not None:
                    break
                self._alarm.set(min(self._loop.time() + gap, self._ends_at))
                self._pulling = True
        finally:
            self._pulling = False
    def _accept(self, event: e.Event) -> None:
        data = e.encode(event)
        size = len(data)
        limits = self.limits
        if size > limits.max_event_bytes and type(event) is not e.TextSnapshot:
            raise TooLarge(f"An event of {size} bytes is over max_event_bytes ({limits.max_event_bytes}).")
        if self._bytes + size > limits.max_run_bytes or self.last >= limits.max_run_records:
            raise TooLarge("The run is over its limit of bytes or records.")
        self._grammar.accept(event)
        if type(event) is e.Usage:
            self._usage = e.TokenUsage(event.input, event.output, event.source)
        self._push(data, size)
        if self._inflight is None:
            self._flush()

    def _push(self, data: bytes, size: int) -> None:
        self.last += 1
        self._bytes += size
        self._pending_bytes += size
        self._pending.append(Record(self.last, time.time(), data, self._lease.epoch))
        if self.limits.lockstep is not None:
            self.viewers.wrote(self.last, self._bytes)

    def _flush(self, head: bytes | None = None) -> None:
        batch, self._pending, self._pending_bytes = self._pending, [], 0
        after = batch[0].seq - 1
        ack = self._store.append(self._name, after, batch, lease=self._lease, head=head, ended=head is not None)
        if ack.done():
            self._stored(ack)
        else:
            self._inflight = ack
            ack.add_done_callback(self._stored)

    def _stored(self, ack: asyncio.Future[None]) -> None:
        self._inflight = None
        error = ack.exception() if not ack.cancelled() else StoreError()
        if error is not None:
            self._lose(error)
        elif self._pending:
            self._flush(self._last_head() if self._finished else None)
        elif self._finished and not self.done.done():
            self.done.set_result(None)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _lose(self, error: BaseException) -> None:
        """The store refused: nothing can be added any more. What was not stored was shown to nobody."""
        log.error("run %s: the log is lost to this process: %s", self.id, error)
        self.lost = error
        self._pending, self._pending_bytes = [], 0
        self._finished = True
        if not self.done.done():
            self.done.set_result(None)
        self._end("failed", e.Error.of("store_unavailable"))

    async def _wait_for_room(self) -> None:
        """Hold the source while the store, or under lockstep the slowest viewer, is behind. The run's clocks stop."""
        while self._reason is None and (self._pending_bytes > PENDING_BYTES or self._outruns_viewers()):
            self._alarm.set(self._ends_at)
            self._room = self._loop.create_future()
            self.viewers.on_move = self._moved
            await self._room
        self._room = self.viewers.on_move = None

    def _outruns_viewers(self) -> bool:
        return self.limits.lockstep is not None and self._bytes - self.viewers.seen_bytes() > self.limits.lockstep

    def _moved(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _late(self) -> None:
        """The alarm: a limit of time has passed."""
        if self._reason is None:
            what = "total_timeout" if self._loop.time() >= self._ends_at else "first_event_timeout or gap_timeout"
            log.warning("run %s: over its %s", self.id, what)
            self._end("timed_out", e.Error.of("timed_out"))
        else:
            log.warning("run %s: its source does not close; ended without it", self.id)
            self._finish()

    def _end(self, outcome: e.Outcome, error: e.Error | None = None) -> None:
        """Decide how the run ends, unless that is decided, and make the task see it."""
        if self._reason is not None:
            return
        self._reason = (outcome, error)
        if self._pulling and self._task is not None:
            self._pulling = False
            self._alarm.set(self._loop.time() + self.limits.close_timeout)
            self._task.cancel()
        self._moved()

    def _fail(self, error: Exception) -> None:
        if self._reason is not None:
            log.warning("run %s: raised while it was ending", self.id, exc_info=error)
            return
        self.failure = error
        public = error_of(error)
        told = public.code not in ("internal", "invalid_event", "store_unavailable")
        log.log(
            logging.INFO if told else logging.ERROR,
            "run %s failed: %s",
            self.id,
            public.code,
            exc_info=None if told else error,
        )
        self._end("failed", public)

    def _finish(self) -> None:
        """Store the ending: close what is open, then `run.ended`. Happens once."""
        if self._finished:
            return
        self._finished = True
        outcome, error = self._reason or ("interrupted", e.Error.of("interrupted"))
        self._reason = (outcome, error)
        for event in (*self._grammar.closing(outcome), ending(outcome, error, self._usage)):
            self._grammar.accept(event)
            data = e.encode(event)
            self._push(data, len(data))
        if self._inflight is None:
            self._flush(self._last_head())

    def _last_head(self) -> bytes:
        outcome, error = self._reason or ("interrupted", None)
        return heads.encode(ended_head(self.head, ending(outcome, error, self._usage)))


async def _throw(chunks: AsyncIterator[Any], error: Exception) -> None:
    """Raise the error where the source yielded, so that its traceback names the line. Whatever the source does, the run ends."""
    athrow = getattr(chunks, "athrow", None)
    if athrow is not None:
        try:
            await athrow(error)
        except (StopAsyncIteration, Exception) as raised:
            if raised is not error:
                log.debug("a source answered %r with %r", error, raised)
