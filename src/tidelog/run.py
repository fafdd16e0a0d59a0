"""A run: one source, one log, one task. The writing loop.

The tricky rules first. Only the pull is cancellable: `stop` cancels the task while it waits for the source and at no other
time, and the cancellation is taken back before the source is closed, so that its `finally` blocks may wait.
The source is opened, advanced and closed by this task alone, in its context. Records are appended by whoever calls `_accept`
(always on the loop); the store takes one append at a time and the next batch gathers meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from tidelog import events as e
from tidelog import head as heads
from tidelog.alarm import Alarm
from tidelog.closing import close, throw, unwrapped
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
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
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
        self._same_part: bytes | None = None
        """How a delta of the open text part begins, while one follows the other."""
        self._room: asyncio.Future[None] | None = None
        self._alarm = Alarm(self.loop, self._late)
        self._ends_at = self.loop.time() + limits.total_timeout

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

    @property
    def error(self) -> e.Error | None:
        """Why the run ended, or None while it lives and where it ended well."""
        return self._reason[1] if self._finished and self._reason else None

    async def work(self, opener: Opener) -> None:
        """Pull the source to its end and store the ending. Raises nothing that the source raises."""
        self._task = asyncio.current_task()
        current.set(self)
        self._alarm.set(min(self.loop.time() + self.limits.first_event_timeout, self._ends_at))
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
        cancelled: asyncio.CancelledError | None = None
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
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception as error:
            self._fail(error)
        if chunks is not None:
            await self._close(chunks)
        if cancelled is not None and self._reason is None:
            self._judge(cancelled)

    async def _pull(self, chunks: AsyncIterator[Any], translator: Translator) -> None:
        if self._reason is not None:
            return
        taken, gap = 0, self.limits.gap_timeout
        self._pulling = True
        try:
            async for chunk in chunks:
                self._pulling = False
                if self._reason is not None:
                    break  # a source may swallow its cancellation and go on
                try:
                    if self._same_part is not None and type(chunk) is str and chunk:
                        self._more_text(chunk)
                    else:
                        self._translate(translator, chunk)
                except (InvalidEvent, TooLarge) as error:
                    self._fail(error)
                    self._expect_close()
                    await throw(chunks, error)
                taken += 1
                if self._pending_bytes > PENDING_BYTES or self.limits.lockstep is not None:
                    await self._wait_for_room()
                if taken % BREATH == 0:
                    await asyncio.sleep(0)
                if self._reason is not None:
                    break
                self._alarm.set(min(self.loop.time() + gap, self._ends_at))
                self._pulling = True
        finally:
            self._pulling = False

    async def _close(self, chunks: AsyncIterator[Any]) -> None:
        """Run the source's `finally` blocks. Bounded by `close_timeout`, after which `_late` ends the log without them."""
        self._expect_close()
        await self._take_back()
        error = await close(chunks)
        if error is not None:
            self._fail(error)

    def _expect_close(self) -> None:
        self._closing = True
        self._alarm.set(self.loop.time() + self.limits.close_timeout)

    async def _take_back(self) -> None:
        """Undo the cancellation by `_end`, delivered or not."""
        if self._cancelled and self._task is not None:
            self._cancelled = False
            self._task.uncancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    def _judge(self, cancelled: asyncio.CancelledError) -> None:
        """Tell a cancellation of this task from one that the source raised by itself, as by awaiting a cancelled task."""
        if self._task is not None and self._task.cancelling():
            self._end("interrupted", e.Error.of("interrupted"))
            raise cancelled
        self._fail(RuntimeError("the source was cancelled from inside"))

    def _translate(self, translator: Translator, chunk: Any) -> None:
        event = None
        for event in translator.feed(chunk):
            self._accept(event)
        if type(event) is e.TextDelta and type(chunk) is str and translator is self._values:
            self._same_part = e.delta_prefix(event.part)

    def _more_text(self, text: str) -> None:
        """Text after text of the same part, the hot path: there is nothing to decide, only to encode."""
        data = e.encode_delta(self._same_part or b"", text)
        self._check(len(data))
        self._push(data)

    def _accept(self, event: e.Event) -> None:
        if self._finished:
            return  # the log is lost, or was ended without its source
        self._same_part = None
        data = e.encode(event)
        self._check(len(data) if type(event) is not e.TextSnapshot else 0)
        self._grammar.accept(event)
        if type(event) is e.Usage:
            self._usage = e.TokenUsage(event.input, event.output, event.source)
        self._push(data)

    def _check(self, size: int) -> None:
        limits = self.limits
        if size > limits.max_event_bytes:
            raise TooLarge(f"An event of {size} bytes is over max_event_bytes ({limits.max_event_bytes}).")
        if self._bytes + size > limits.max_run_bytes or self.last >= limits.max_run_records:
            raise TooLarge("The run is over its limit of bytes or records.")

    def _push(self, data: bytes) -> None:
        """Number the event; append it at once if nothing is in flight. The ending goes as one batch."""
        seq = self.last = self.last + 1
        size = len(data)
        self._bytes += size
        record = Record(seq, time.time(), data, self._lease.epoch)
        if self._inflight is None and not self._finished:
            self._append([record])
        else:
            self._pending_bytes += size
            self._pending.append(record)
        if self.limits.lockstep is not None:
            self.viewers.wrote(seq, self._bytes)

    def _flush(self) -> None:
        batch, self._pending, self._pending_bytes = self._pending, [], 0
        self._append(batch, self._last_head() if self._finished else None)

    def _append(self, batch: list[Record], head: bytes | None = None) -> None:
        after, ended = batch[0].seq - 1, head is not None
        ack = self._store.append(self._name, after, batch, lease=self._lease, head=head, ended=ended)
        if not ack.done():
            self._inflight = ack
            ack.add_done_callback(self._stored)
        elif ended or ack.cancelled() or ack.exception() is not None:
            self._stored(ack)

    def _stored(self, ack: asyncio.Future[None]) -> None:
        self._inflight = None
        error = ack.exception() if not ack.cancelled() else StoreError()
        if error is not None:
            self._lose(error)
        elif self._pending:
            self._flush()
        elif self._finished and not self.done.done():
            self.done.set_result(None)
        self._moved()

    def _lose(self, error: BaseException) -> None:
        """The store refused: nothing can be added any more. What was not stored was shown to nobody."""
        level = logging.WARNING if isinstance(error, Conflict) else logging.ERROR
        log.log(level, "run %s: the log is lost to this process: %s", self.id, error)
        self.lost = error
        self._pending, self._pending_bytes = [], 0
        self._finished = True
        lost = e.Error.of("store_unavailable")
        if self._reason is None:
            self._end("failed", lost)
        else:
            self._reason = ("failed", self._reason[1] or lost)
        if not self.done.done():
            self.done.set_result(None)

    async def _wait_for_room(self) -> None:
        """Hold the source while the store, or under lockstep the slowest viewer, is behind. The run's clocks stop."""
        while self._reason is None and (self._pending_bytes > PENDING_BYTES or self._outruns_viewers()):
            self._alarm.set(self._ends_at)
            self._room = self.loop.create_future()
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
        if not self._closing:
            what = "total_timeout" if self.loop.time() >= self._ends_at else "first_event_timeout or gap_timeout"
            log.warning("run %s: over its %s", self.id, what)
            self._end("timed_out", e.Error.of("timed_out"))
        elif not self._finished:
            log.warning("run %s: its source does not close; ended without it", self.id)
            self._finish()

    def _end(self, outcome: e.Outcome, error: e.Error | None = None) -> None:
        """Decide how the run ends, unless that is decided, and make the task see it."""
        if self._reason is not None:
            return
        self._reason = (outcome, error)
        if self._pulling and self._task is not None:
            self._pulling = False
            self._cancelled = True
            self._expect_close()
            self._task.cancel()
        self._moved()

    def _fail(self, error: Exception) -> None:
        if self._reason is not None:
            log.warning("run %s: raised while it was ending", self.id, exc_info=error)
            return
        self.failure = error = unwrapped(error)
        public = e.error_of(error)
        told = public.code not in ("internal", "invalid_event", "store_unavailable")
        level, shown = (logging.INFO, None) if told else (logging.ERROR, error)
        log.log(level, "run %s failed: %s", self.id, public.code, exc_info=shown)
        self._end("failed", public)

    def _finish(self) -> None:
        """Store the ending: close what is open, then `run.ended`. Happens once."""
        if self._finished:
            return
        self._finished = True
        outcome, error = self._reason or ("interrupted", e.Error.of("interrupted"))
        self._reason = (outcome, error)
        for event in (*self._grammar.closing(outcome), heads.ending(outcome, error, self._usage)):
            self._grammar.accept(event)
            self._push(e.encode(event))
        if self._inflight is None:
            self._flush()

    def _last_head(self) -> bytes:
        outcome, error = self._reason or ("interrupted", None)
        return heads.encode(heads.ended_head(self.head, heads.ending(outcome, error, self._usage)))
