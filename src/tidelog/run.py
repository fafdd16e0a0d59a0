"""A run: one source, one log, one task. The writing loop.

The tricky rules first. Only the pull is cancellable: `stop` cancels the task while it waits for the source and at no other
time, and the cancellation is taken back before the source is closed, so that its `finally` blocks may wait.
The source is opened, advanced and closed by this task alone, in its context. Records are appended by whoever calls `_accept`
(always on the loop).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

from tidelog import events as e
from tidelog.attempts import ATTEMPTS, Attempts
from tidelog.blame import error_of, severity
from tidelog.breath import BREATH, Breath
from tidelog.clocks import PAUSED_TOO_LONG, Clocks
from tidelog.closing import close, throw, unwrapped, without
from tidelog.errors import InvalidEvent, TidelogError, TooLarge
from tidelog.gate import Gate
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease
from tidelog.progress import Progressing
from tidelog.questions import UNANSWERED
from tidelog.replay import Written
from tidelog.seams import RunTranslator, Store, Translator
from tidelog.source import Opened as Opened
from tidelog.source import Opener as Opener
from tidelog.stitch import Stitch
from tidelog.turn import Turn
from tidelog.viewers import Viewers
from tidelog.waiting import PARKED, Questions
from tidelog.writer import Writer

log = logging.getLogger("tidelog")

EMIT_BYTES: Final = 4 * 1024 * 1024
"""What `emit`, which cannot wait, may add on top before it raises."""

current: ContextVar[Run] = ContextVar("tidelog_run")
"""The run whose source is being advanced."""


class Run:
    """A live run in this process. `done` is a future that is resolved when the ending is stored, or cannot be."""

    def __init__(
        self, store: Store, head: Head, lease: Lease, *, values: RunTranslator, limits: Limits = Limits(),
        written: Written, attempts: int = ATTEMPTS, turn: Turn | None = None,
    ) -> None:  # fmt: skip
        self.id, self.thread = head.run, head.thread
        self.mode = head.mode
        """`retry` or `continue` for a run that follows another (`head.of`), else None."""
        self.limits = limits
        self.failure: Exception | None = None  # which ended the run, for the request that waits for its status
        self.partial: str = ""  # for a run that continues another: the text so far
        self.on_ending: Callable[[], None] | None = None
        """Called when it is decided how the run ends."""
        self.viewers = Viewers()
        self.loop = asyncio.get_running_loop()
        self.writer = Writer(store, head, lease, written=written, limits=limits, moved=self._moved, turn=turn)
        self.done = self.writer.done
        self.clocks = Clocks(self.loop, limits, self.writer, over=self._late)
        self._gate = Gate(self.writer, self.viewers, self.clocks, lockstep=limits.lockstep)
        self.progress = Progressing(self.loop, self.writer.accept)
        self._values = values
        over = partial(self._end, "timed_out", UNANSWERED)
        self.questions = Questions(self.writer, self.clocks, asked=values.part, park=self.park, over=over)
        self._reason: tuple[e.Outcome | None, e.Error | None] | None = None
        """How it ends; PARKED: it does not."""
        self._attempts = Attempts(attempts)
        self._task: asyncio.Task[None] | None = None
        self._pulling = False
        self._breath = Breath(self.loop)
        self._cancelled = False

    @property
    def head(self) -> Head:
        """The head of its log, as it was last given to the store."""
        return self.writer.head

    @property
    def last(self) -> int:
        """The last record that was accepted, stored or not."""
        return self.writer.last

    @property
    def outcome(self) -> e.Outcome | None:
        """How the run ended, or None while it lives."""
        return self._reason[0] if self.writer.finished and self._reason else None

    @property
    def parked(self) -> bool:
        """Whether this process has left its log to whoever goes on with it."""
        return self.writer.finished and self._reason is PARKED

    @property
    def error(self) -> e.Error | None:
        """Why the run ended, or None while it lives and where it ended well."""
        return self._reason[1] if self.writer.finished and self._reason else None

    @property
    def attempt(self) -> int:
        """Which attempt of its source this is, from 1 on."""
        return self._attempts.number

    async def work(self, opener: Opener) -> None:
        """Pull the source to its end and store the ending. Raises nothing that the source raises."""
        self._task = asyncio.current_task()
        current.set(self)
        self.writer.silent_until = self.writer.last
        self.clocks.begin()
        raised: BaseException | None = None
        again = self._reason is None
        try:
            while again:
                chunks, raised = None, None
                try:
                    if self._gate.paused:
                        await self._gate.passed()
                    self.clocks.expect_first()
                    chunks, translator = self._open(opener)
                    await self._pull(chunks, translator)  # no deeper: each coroutine between costs every event
                    self._complete(translator)
                except (Exception, asyncio.CancelledError) as error:
                    raised = error
                again = await self._after(chunks, raised)
        finally:
            raised = None  # its traceback holds this frame
            self._finish()
            self.clocks.drop()
            if self.failure is not None:
                self.failure.__traceback__ = without(__file__, self.failure.__traceback__)

    async def wait(self) -> e.Outcome | None:
        """Until the ending is stored; how the run ended. None: it was parked, and goes on elsewhere once it is answered."""
        await asyncio.shield(self.done)
        return None if self.parked else self.outcome or "failed"

    def start_with(self, event: e.Event) -> None:
        """Accept this event before the source is opened. One that cannot be ends the run."""
        try:
            for each in self._values.feed(event):
                self.writer.accept(each)
        except TidelogError as error:
            self._fail(error)

    def emit(self, value: Any) -> None:
        """Add a value as if the source had yielded it. On the loop only.

        Raises `InvalidEvent` for what the grammar forbids or after the end, `TooLarge` when far more is emitted than stored.
        """
        if self.writer.pending_bytes > EMIT_BYTES:
            raise TooLarge("emit() is faster than the store; yield events instead.")
        if self._reason is not None:
            raise InvalidEvent("the run is ending")
        for event in self._values.feed(value):
            self.writer.accept(event)

    @property
    def paused(self) -> bool:
        """Whether somebody has paused it, and nobody resumed it."""
        return self._gate.paused

    def pause(self, *, asked: int = 0) -> None:
        """Pull the source no more until `resume`, and stop the clocks of the run. What is on its way is still kept.

        A run that is paused or ending already stays as it is. On the loop only. `asked` is the record that asked for it.
        """
        self._breath.chunks = BREATH + 1  # look around behind the next chunk
        self._turn(self._gate.pause, asked)

    def resume(self, *, asked: int = 0) -> None:
        """Pull the source again. A run that is not paused, or is ending, stays as it is. On the loop only."""
        self._turn(self._gate.resume, asked)
        self.questions.resumed()

    def stop(self) -> None:
        """End the run as `stopped`. Later calls, and calls after the end, do nothing."""
        self._end("stopped")

    def park(self) -> None:
        """Close the source and leave the log to whoever goes on once the question is answered. For a run that can be parked."""
        if self._reason is None and self.head.parkable:
            self._conclude(PARKED)

    def interrupt(self) -> None:
        """End the run as `interrupted`, because the process goes; or park it, where it can be."""
        self.park()
        if self._reason is not PARKED:
            self._end("interrupted", e.Error.of("interrupted"))

    def shed(self, retry_after: float | None = None) -> None:
        """End the run as `failed` (`overloaded`), because the process has no room for it."""
        self._end("failed", e.Error.of("overloaded", retry_after=retry_after))

    def enter(self, state: e.RunningState, position: int | None = None) -> None:
        """Tell that it is in this state, now or from its `resume` on: for who sets it to work."""
        self._turn(self._gate.enter, state, position)

    def _turn(self, how: Callable[..., None], *told: object) -> None:
        try:
            how(*told)
        except TooLarge as error:
            self._fail(error)

    def _open(self, opener: Opener) -> tuple[AsyncIterator[Any], Translator]:
        opened = opener()
        translator = opened.translator or self._values
        return opened.chunks, Stitch(translator, self.partial) if self.partial else translator

    def _complete(self, translator: Translator) -> None:
        if self._reason is None:
            for event in translator.end():
                self.writer.accept(event)
            self._end("completed")

    async def _after(self, chunks: AsyncIterator[Any] | None, raised: BaseException | None) -> bool:
        """Close the source and decide how the run ends; whether the source is to be tried again, once it is time to."""
        wait: float | None = None
        if isinstance(raised, Exception):
            wait = self._wait_before_next(raised)
            if wait is None:
                self._fail(raised)
        if chunks is not None:
            await self._close(chunks)
        if isinstance(raised, asyncio.CancelledError) and self._reason is None:
            self._judge(raised)
        return wait is not None and self._reason is None and await self._rest(wait)

    def _wait_before_next(self, error: Exception) -> float | None:
        """Seconds until the next attempt; None where there is none: the source has said something, or it would not help."""
        if self._reason is not None or self.writer.last != self.writer.silent_until:
            return None
        return self._attempts.next(unwrapped(error), left=self.clocks.left)

    async def _rest(self, wait: float) -> bool:
        """Announce the next attempt and wait for it; whether it may begin. Stop and the limit of the whole run hold."""
        self.clocks.expect_nothing()
        try:
            self.writer.silent_until = self.writer.last + 1  # set before it is heard
            self.writer.accept(self._attempts.announced())
            self._pulling = self._reason is None  # else the log was lost just now
            await asyncio.sleep(wait if self._pulling else 0)
        except TooLarge as error:
            self.writer.silent_until = self.writer.last
            self._fail(error)
        except asyncio.CancelledError as cancelled:
            await self._take_back()
            if self._reason is None:
                self._judge(cancelled)
        finally:
            self._pulling = False
        failed, self._attempts.failed = self._attempts.failed, None
        if failed is not None and self.writer.last != self.writer.silent_until:
            self._fail(failed)  # somebody emitted meanwhile, and another attempt would say it twice
        self._values.again()
        return self._reason is None

    async def _pull(self, chunks: AsyncIterator[Any], translator: Translator) -> None:
        """The hot loop. Who ends the run while a chunk is taken cancels the next pull."""
        if self._reason is not None:
            return
        writer, breath, look_at = self.writer, self._breath, self._look_at()
        self._pulling = True
        try:
            async for chunk in chunks:
                if self._reason is not None:
                    break  # a source may swallow its cancellation and go on
                try:
                    if writer.follows and type(chunk) is str and chunk:
                        writer.more_text(chunk)
                    else:
                        self._translate(translator, chunk)
                except (InvalidEvent, TooLarge) as error:
                    self._pulling = False
                    self._fail(error)
                    self.clocks.expect_close()
                    await throw(chunks, error)
                    break  # the source has swallowed it
                if writer.bytes > look_at or breath.chunks > BREATH:
                    if await self._look_around():
                        break
                    look_at = self._look_at()
        finally:
            self._pulling = False

    def _look_at(self) -> int:
        """Bytes from which on it is time to look around; under lockstep that is after each chunk."""
        return self._breath.at if self.limits.lockstep is None else -1

    async def _look_around(self) -> bool:
        """Give way to the loop; hold the source while the gate is shut. True if the run ended meanwhile."""
        self._pulling = False
        await self._breath.take(self.writer.bytes)
        await self._gate.passed()
        self._pulling = self._reason is None
        return not self._pulling

    async def _close(self, chunks: AsyncIterator[Any]) -> None:
        """Run the source's `finally` blocks. Bounded by `close_timeout`, after which `_late` ends the log without them."""
        self.clocks.expect_close()
        await self._take_back()
        error = await close(chunks)
        if error is not None:
            self._fail(self._attempts.failed or error)

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
            self.writer.accept(event)
        self._breath.chunks += 1
        self.clocks.heard = self.loop.time()
        if type(event) is e.TextDelta and type(chunk) is str and translator is self._values:
            self.writer.follows = True

    def _moved(self) -> None:
        """Something was stored, a viewer went on, or the log was lost: which is how the run ends, whatever was decided."""
        if self.writer.lost is not None:
            lost = e.Error.of("store_unavailable")
            if self._reason is None:
                self._end("failed", lost)
            self._reason = ("failed", (self._reason and self._reason[1]) or lost)
        if self._reason is not None:
            self._gate.lift()
        self._gate.wake()

    def _late(self, limits: str) -> None:
        """One of these limits of time has passed."""
        if limits != "close_timeout":
            log.warning("run %s: over its %s", self.id, limits)
            self._end("timed_out", PAUSED_TOO_LONG if limits == "pause_limit" else e.Error.of("timed_out"))
        elif not self.writer.finished:
            log.warning("run %s: its source does not close; ended without it", self.id)
            self._finish()

    def _end(self, outcome: e.Outcome, error: e.Error | None = None) -> None:
        """Decide how the run ends, unless that is decided, and make the task see it."""
        if self._reason is None:
            self._conclude((outcome, error))
        elif self._reason is PARKED and not self.writer.finished:
            self._reason = (outcome, error)

    def _conclude(self, reason: tuple[e.Outcome | None, e.Error | None]) -> None:
        self._reason = reason
        self.questions.close()
        if self.on_ending is not None:
            self.on_ending()
        if self._pulling and self._task is not None:
            self._pulling = False
            self._cancelled = True
            self.clocks.expect_close()
            self._task.cancel()
        self._moved()

    def _fail(self, error: Exception) -> None:
        if self._reason is not None:
            log.warning("run %s: raised while it was ending", self.id, exc_info=error)
            return
        self.failure = error = unwrapped(error)
        public = error_of(error)
        level = severity(error)
        log.log(level, "run %s failed: %s", self.id, public.code, exc_info=error if level > logging.INFO else None)
        self._end("failed", public)

    def _finish(self) -> None:
        if self._attempts.failed is not None and self._reason is None:
            self._fail(self._attempts.failed)  # its source did not close, and nothing follows
        outcome, error = self._reason = self._reason or ("interrupted", e.Error.of("interrupted"))
        self.progress.close()
        used = None if self.writer.finished else self._values.usage()
        self.writer.finish(outcome, error, used) if outcome is not None else self.writer.leave(used)
