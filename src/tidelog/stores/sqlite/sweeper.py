"""Removes logs, on the loop: at once for readers, then transaction by transaction, so that others may write in between.

Each removal is a task of its own, so that it goes on whoever still waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from tidelog.errors import StoreError, Unavailable
from tidelog.stores.sqlite import reading, removal
from tidelog.stores.sqlite.blocks import mark_of
from tidelog.stores.sqlite.removal import Removed

EXPIRE_SLICE: Final = 16
"""Logs that one transaction lets go of, so that appends need not wait for all."""
PAUSE: Final = 0.02
"""Seconds between two transactions that remove large logs: others who wait to write come in here."""

_log = logging.getLogger("tidelog.stores.sqlite")


class Sweeper:
    """`run` and `read` are the store's, `empty` empties the write-ahead log; `gone` is called with the names that are gone.

    When the store closes, what is under way ends as `Unavailable`; the next to open the file goes on.
    """

    def __init__(
        self, *, run: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]],
        empty: Callable[[], Awaitable[bool]], gone: Callable[[Sequence[str]], None],
    ) -> None:  # fmt: skip
        self._run = run
        self._read = read
        self._empty = empty
        self._gone = gone
        self._tasks: set[asyncio.Task[Any]] = set()

    async def drop(self, log: str) -> None:
        """Remove the log, every byte."""
        await asyncio.shield(self._begin(self._drop(log)))

    async def expire(self, before: float) -> Sequence[str]:
        """Remove what ended before this Unix time; the names."""
        names: Sequence[str] = await asyncio.shield(self._begin(self._expire(before)))
        return names

    def go_on(self, logs: Sequence[int]) -> None:
        """Remove what somebody else has left of these."""
        self._begin(self._remove(logs, logs))

    async def ended(self) -> None:
        """Wait until nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), StoreError):
            _log.debug("something that was dropped is still in the file: %s", error)

    async def _drop(self, log: str) -> None:
        removed: Removed = await self._run(partial(removal.drop, log, mark_of(log)), self._removed)
        await self._remove(removed.logs, removed.left)

    async def _expire(self, before: float) -> Sequence[str]:
        names: list[str] = []
        try:
            while (removed := await self._run(partial(removal.expire, before, EXPIRE_SLICE), self._removed)).names:
                names += removed.names
                await self._sweep(removed.left)
            logs = await self._read(reading.gone)  # of others too, who may have died over it
            await self._remove(logs, logs)
        except Unavailable as error:
            if not names:
                raise
            _log.warning("what has expired is not all removed, the next time will go on: %s", error)
        return names

    async def _remove(self, logs: Sequence[int], left: Sequence[int]) -> None:
        """Remove what is `left` of logs that are gone, then empty the write-ahead log of all of them."""
        await self._sweep(left)
        if logs and await self._empty():
            with contextlib.suppress(Unavailable):  # the bytes are gone; that it is noted can wait for the next start
                await self._run(partial(removal.finish, logs))

    async def _sweep(self, left: Sequence[int]) -> None:
        while left:
            await asyncio.sleep(PAUSE)
            left = await self._run(partial(removal.sweep, left))

    def _removed(self, removed: Removed) -> None:
        self._gone(removed.names)
