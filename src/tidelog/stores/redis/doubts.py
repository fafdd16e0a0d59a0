"""Logs of ours that somebody else may have touched: whether they are ours still is asked for all of them together.

Each log that is opened here and watched comes by, for nobody heard what was done to it before its channel was heard. What is
appended tells as well: only those are asked for to which nothing was, for a little while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tidelog.stores.redis.lane import Lane

DOUBT: Final = 0.05
"""Seconds for which a doubt may wait for others, and for an append."""


class Doubts:
    """`look` asks of a log whether it still stands as we know it."""

    def __init__(self, look: Callable[[Lane], None]) -> None:
        self._look = look
        self._lanes: dict[Lane, int] = {}
        """With how far each was written."""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, lane: Lane) -> None:
        """Ask for this one, too."""
        self._lanes[lane] = lane.last
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DOUBT, self._go)

    def close(self) -> None:
        """Ask nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _go(self) -> None:
        self._timer = None
        lanes, self._lanes = self._lanes, {}
        for lane, last in lanes.items():
            if lane.last == last:
                self._look(lane)
