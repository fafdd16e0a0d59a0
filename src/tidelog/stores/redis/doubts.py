"""Logs of ours that somebody else may have touched: whether they are ours still is asked for all of them together.

Each log that is opened here and watched comes by, for nobody heard what was done to it before its channel was heard. Most runs
of those that are short have ended when their turn comes: these are not asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from tidelog.stores.redis.lane import Lane

DOUBT: Final = 0.05
"""Seconds for which a doubt may wait for others."""
AT_ONCE: Final = 256
"""Logs that Redis is asked for at once."""


class Doubts:
    """`ours` tells whether a log is still written here, `lost` whether it is somebody else's: then `tell` is called."""

    def __init__(
        self, *, ours: Callable[[Lane], bool], lost: Callable[[Sequence[Lane]], Awaitable[Sequence[bool]]],
        tell: Callable[[Lane], None], spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:  # fmt: skip
        self._ours = ours
        self._lost = lost
        self._tell = tell
        self._spawn = spawn
        self._lanes: dict[Lane, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, lane: Lane) -> None:
        """Ask for this one, too."""
        self._lanes[lane] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DOUBT, self._go)

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _go(self) -> None:
        self._timer = None
        lanes, self._lanes = [lane for lane in self._lanes if self._ours(lane)], {}
        for start in range(0, len(lanes), AT_ONCE):
            self._spawn(self._ask(lanes[start : start + AT_ONCE]))

    async def _ask(self, lanes: Sequence[Lane]) -> None:
        for lane, lost in zip(lanes, await self._lost(lanes), strict=True):
            if lost and self._ours(lane):
                self._tell(lane)
