"""Openers for what Python offers: async generators and iterables, sync generators and iterables, factories of them.

A sync source has one thread of its own pool from its first step to its last `finally`, and one context; a slow one blocks nobody.
"""

from __future__ import annotations

import asyncio
import contextvars
import dis
import inspect
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple

from tidelog.errors import InvalidRequest
from tidelog.run import Opened, Opener, Run, current
from tidelog.sources.pool import Job, Pool

log = logging.getLogger("tidelog")

THREADS: Final = 128
"""Sync sources at work at once; more wait for a thread."""
AHEAD: Final = 64
"""Chunks that a sync source may be ahead of its run."""
UNSTARTED: Final = dis.opmap["RETURN_GENERATOR"]
"""The last instruction of an async generator that waits for its first step (inspect tells it from 3.12 on)."""
_advanced: ContextVar[Threaded] = ContextVar("tidelog_threaded")
"""The sync source in whose thread, or context, this is."""


def emit_from_thread(run: Run, value: Any) -> None:
    """Add a value to a run from a thread, and wait until it is accepted: in the context of its sync source behind what that
    has yielded. Raises what `Run.emit` raises.
    """
    source = _advanced.get(None)
    if source is not None and source.run is run:
        source.emit(value).result()
    else:
        asyncio.run_coroutine_threadsafe(emit_in_turn(run, value), run.loop).result()


async def emit_in_turn(run: Run, value: Any) -> None:
    """`Run.emit`, once there is room: for other threads, which can wait."""
    while run.writer.behind and not run.writer.finished:  # noqa: ASYNC110 - many may wait, none is woken by name
        await asyncio.sleep(0.005)
    run.emit(value)


class Iterators:
    """Makes openers; keeps the pool of threads for the sync ones."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = Pool(threads)

    def opener(self, work: Any) -> Opener:
        """An opener for a generator that has not begun, an iterable, or a function that makes one.

        Raises `InvalidRequest` for anything else, and for a generator that has begun.
        """
        if inspect.isasyncgen(work):
            _check_unstarted(work.ag_frame is None or work.ag_code.co_code[work.ag_frame.f_lasti] != UNSTARTED)
        elif inspect.isgenerator(work):
            _check_unstarted(inspect.getgeneratorstate(work) != inspect.GEN_CREATED)
        elif not (callable(work) or hasattr(work, "__aiter__") or hasattr(work, "__iter__")):
            raise InvalidRequest(f"{type(work).__name__} is no generator, iterable or function that makes one.")
        return lambda: Opened(self._open(work))

    def close(self) -> None:
        """Take no more sync work; threads that still run end with their step."""
        self._pool.close()

    def _open(self, work: Any) -> AsyncIterator[Any]:
        """The iterator of this work. Nothing of the user's runs before its first step: a run may be stopped before that."""
        if callable(work) and not hasattr(work, "__aiter__") and not hasattr(work, "__iter__"):
            if not (inspect.isasyncgenfunction(work) or inspect.isgeneratorfunction(work)):
                return _called(work, self._open)
            work = work()
        if hasattr(work, "__aiter__"):
            found: AsyncIterator[Any] = aiter(work)
            return found
        if isinstance(work, str | bytes):
            return _plain([work])
        if isinstance(work, list | tuple | deque):
            return _plain(work)
        if hasattr(work, "__iter__"):
            return Threaded(work, self._pool)
        raise InvalidRequest(f"the function gave {type(work).__name__}, which is no generator or iterable.")


def _check_unstarted(begun: bool) -> None:
    if begun:
        raise InvalidRequest("the generator has begun: a run must open, advance and close its source itself.")


async def _plain(values: Iterable[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def _called(work: Callable[[], Any], opened: Callable[[Any], AsyncIterator[Any]]) -> AsyncIterator[Any]:
    made = work()
    inner = opened(await made if inspect.isawaitable(made) else made)
    try:
        async for chunk in inner:
            yield chunk
    finally:
        aclose = getattr(inner, "aclose", None)
        if aclose is not None:
            await aclose()


class _Emitted(NamedTuple):
    """A value that was emitted, among those that were yielded; `done` tells the thread, which waits."""

    value: Any
    done: Future[None]


class Threaded:
    """A sync iterable, advanced in one thread and read on the loop. Holds at most AHEAD chunks, and what waits to be emitted."""

    def __init__(self, work: Iterable[Any], pool: Pool) -> None:
        self.run = current.get(None)
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[Any] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._closing = False
        self._room = threading.Semaphore(AHEAD)
        self._wanted: asyncio.Future[None] | None = None
        self._pool = pool
        self._begun = False
        self._job: Job | None = partial(contextvars.copy_context().run, self._work, work)
        """None once it has ended: it holds this in a cycle."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._begun and self._job is not None:
            self._begun = True
            self._pool.submit(self._job)
        while True:
            while not self._chunks:
                self._raise_error()
                if self._ended:
                    raise StopAsyncIteration
                self._wanted = self._loop.create_future()
                try:
                    await self._wanted
                finally:
                    self._wanted = None
            chunk = self._chunks.popleft()
            if type(chunk) is not _Emitted:
                self._room.release()
                return chunk
            await self._emit_in_turn(chunk)

    def emit(self, value: Any) -> Future[None]:
        """Emit behind what has been yielded. From threads only; the future ends when `run` has accepted or refused the value."""
        emitted = _Emitted(value, Future())
        self._loop.call_soon_threadsafe(self._arrived, emitted)
        return emitted.done

    async def aclose(self) -> None:
        """Ask the thread to close the source and wait until it has. A step that blocks is waited for: see `close_timeout`."""
        self._closing = True
        self._room.release()
        while self._chunks:
            if isinstance(chunk := self._chunks.popleft(), _Emitted):
                self._emit(chunk)
        if not self._begun or (self._job is not None and self._pool.cancel(self._job)):
            self._begun = self._ended = True
            self._job = None
        while not self._ended:
            self._wanted = self._loop.create_future()
            await self._wanted
        self._raise_error()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its traceback holds this frame

    async def _emit_in_turn(self, emitted: _Emitted) -> None:
        """Emit it once there is room; a run that ends meanwhile refuses it."""
        assert self.run is not None
        try:
            await emit_in_turn(self.run, emitted.value)
        except asyncio.CancelledError:
            self._emit(emitted)
            raise
        except Exception as error:
            emitted.done.set_exception(error)
        else:
            emitted.done.set_result(None)

    def _emit(self, emitted: _Emitted) -> None:
        assert self.run is not None, "who emits has found this by its run"
        try:
            self.run.emit(emitted.value)
        except Exception as error:
            emitted.done.set_exception(error)
        else:
            emitted.done.set_result(None)

    def _work(self, work: Iterable[Any]) -> None:
        error: BaseException | None = None
        _advanced.set(self)
        try:
            iterator = iter(work)
            try:
                self._advance(iterator)
            finally:
                close = getattr(iterator, "close", None)
                if close is not None and inspect.isgenerator(iterator):
                    close()
        except BaseException as raised:
            error = raised
        self._call(self._finished, error)
        del error  # its traceback holds this frame

    def _advance(self, iterator: Iterator[Any]) -> None:
        for chunk in iterator:
            self._room.acquire()
            if self._closing:
                return
            self._call(self._arrived, chunk)

    def _arrived(self, chunk: Any) -> None:
        if self._closing:
            if isinstance(chunk, _Emitted):
                self._emit(chunk)
        else:
            self._chunks.append(chunk)
            self._wake()

    def _finished(self, error: BaseException | None) -> None:
        self._ended, self._error, self._job = True, error, None
        self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is gone: so is everybody who could listen
            self._closing = True
