"""One lazy timer: moving its limit is an assignment, so that a limit which moves with every event costs next to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final

NEAR: Final = 0.001
"""Seconds before its limit at which an alarm may ring: uvloop's clock counts milliseconds, and would be asked again and again."""


class Alarm:
    """Calls once when the loop's time reaches the limit that was set last."""

    __slots__ = ("_at", "_call", "_limit", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call
        self._limit = self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, limit: float) -> None:
        """Call at this loop time instead of any earlier limit."""
        self._limit = limit
        if self._timer is None or self._at > limit:
            self.close()
            self._at = limit
            # In a context of its own: a timer that is cancelled stays in the loop's heap for a while, with all that it holds.
            self._timer = self._loop.call_at(limit, self._fire, context=Context())

    def close(self) -> None:
        """Call no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop(self) -> None:
        """Call never again, and hold nothing: what is called often holds the alarm."""
        self.close()
        self._call = _nothing

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() + NEAR >= self._limit:
            self._call()
        else:
            self.set(self._limit)


def _nothing() -> None:
    pass
