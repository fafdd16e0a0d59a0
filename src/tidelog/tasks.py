"""The tasks of a process: held until they are done, told where they fail, and ended with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

log = logging.getLogger("tidelog")
T = TypeVar("T")

LEAVE_TIMEOUT: Final = 0.5
"""How long `end` waits for its tasks, such as a source that swallows its cancellation."""
CANCEL_AGAIN: Final = 0.2
"""Seconds after which `cancelled` tries again."""


class Tasks:
    """Used on one loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.beginning: set[asyncio.Task[Any]] = set()
        """Tasks after which there may be one more run."""
        self.changed: Callable[[], None] = _nothing
        """Called when there is another one of these, and when one is done."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do it in the background; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in a task of its own: whoever waits for it may be cancelled, and a log that is open needs its writer.

        A process that goes waits for it: there may be one more run then.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(_tell(work, told))
        self._tasks.add(task)
        self.beginning.add(task)
        task.add_done_callback(partial(self._begun, work))
        self.changed()
        try:
            return await told
        finally:
            del told  # an error that it holds holds this frame

    async def end(self) -> None:
        """Cancel all of them, and leave those behind that do not end within LEAVE_TIMEOUT."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=LEAVE_TIMEOUT)
            if stuck:
                log.warning("tidelog: %d tasks do not end and are left behind: %s", len(stuck), stuck)

    def _begun(self, work: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        work.close()  # where its task was cancelled before the first step
        self._tasks.discard(task)
        self.beginning.discard(task)
        self.changed()

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tidelog: a background task failed", exc_info=error)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel it until it is over: where a connection is made in that moment, a cancellation may be swallowed."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_AGAIN)


async def _tell(work: Coroutine[Any, Any, T], told: asyncio.Future[T]) -> None:
    """Do it, and tell what came of it: half the work of `asyncio.shield`. Whoever waits may have been cancelled."""
    try:
        result = await work
    except asyncio.CancelledError:
        told.cancel()
        raise
    except Exception as error:
        if not told.done():
            told.set_exception(error)
    else:
        if not told.done():
            told.set_result(result)
    finally:
        del told


def _nothing() -> None:
    pass
