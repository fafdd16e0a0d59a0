"""The tasks of a process: held until they are done, told where they fail, and ended with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger("tidelog")
T = TypeVar("T")

LEAVE_TIMEOUT: Final = 0.5
"""How long `end` waits for its tasks, such as a source that swallows its cancellation."""


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
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        self.beginning.add(task)
        task.add_done_callback(self._begun)
        self.changed()
        return await asyncio.shield(task)

    async def end(self) -> None:
        """Cancel all of them, and leave those behind that do not end within LEAVE_TIMEOUT."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=LEAVE_TIMEOUT)
            if stuck:
                log.warning("tidelog: %d tasks do not end and are left behind: %s", len(stuck), stuck)

    def _begun(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self.beginning.discard(task)
        self.changed()

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tidelog: a background task failed", exc_info=error)


def _nothing() -> None:
    pass
