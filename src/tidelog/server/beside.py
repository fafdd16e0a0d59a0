"""A thread of the same process that writes a run of its own: `with tide.writer() as run:`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

from tidelog.client.writing import Stopped, Writing
from tidelog.errors import InvalidEvent, InvalidRequest
from tidelog.events import Event
from tidelog.progress import TASK
from tidelog.run import Run
from tidelog.sources.iterators import emit_in_turn

Start = Callable[[Callable[[], AsyncIterator[Any]]], Awaitable[Run]]
"""Starts a run over this source, on the loop."""


CLOSING: Final = 0.25
"""Seconds for which an event that was refused waits for the news that the run is ending, which would be why."""


class Beside(Writing):
    """Writes one run: use it with `with`, in a thread that is not the loop's.

    The run ends as that of a generator would: `completed` at the end of the block, `failed` where it raises, `stopped` at Ctrl-C.
    Once somebody else has ended it, the methods raise `Stopped`, which the block swallows.
    """

    run: Run
    """The run. Its `id` names it."""

    def __init__(self, start: Start, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._start = start
        self._loop = loop
        self._written: asyncio.Future[None]
        self._over = threading.Event()

    @property
    def stopped(self) -> bool:
        return self._over.is_set()

    def __enter__(self) -> Self:
        """Start the run. Raises what `Tidelog.start` raises, and `InvalidRequest` on the loop, where nothing may wait."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            raise InvalidRequest("tide.writer() is for threads; on the loop, give tide.start() a generator.")
        self.run = self._called(self._begin())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._loop.call_soon_threadsafe(self._end, error)
        self._called(self.run.wait())
        return isinstance(error, Stopped)

    def progress(self, done: float, total: float | None = None, note: str | None = None, *, task: str = TASK) -> None:
        if self.stopped:
            raise Stopped
        self.run.progress(done, total, note, task=task)

    def _write(self, event: Event) -> None:
        try:
            self._called(emit_in_turn(self.run, event))
        except InvalidEvent:
            if self._over.wait(CLOSING):
                raise Stopped from None
            raise

    def _called(self, work: Awaitable[Any]) -> Any:
        async def called() -> Any:
            return await work

        running: Future[Any] = asyncio.run_coroutine_threadsafe(called(), self._loop)
        return running.result()

    # On the loop.

    async def _begin(self) -> Run:
        self._written = self._loop.create_future()
        return await self._start(self._wait)

    async def _wait(self) -> AsyncIterator[Any]:
        """The source: it gives nothing, and lasts as long as the block."""
        try:
            await self._written
        finally:
            self._over.set()
        return
        yield

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, BaseException) and not isinstance(error, Exception):
            self.run.stop()
        elif not self._written.done():
            if error is None:
                self._written.set_result(None)
            else:
                self._written.set_exception(error)
