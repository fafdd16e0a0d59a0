"""A view ends when the credential does by which it was opened: nobody reads on with what no longer holds (spec §12)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from starlette.types import Scope

from tidelog.alarm import Alarm
from tidelog.server.access import expires

LOOK: Final = 15.0
"""Seconds after which the clock is looked at again: one that is set meanwhile delays the end by no more."""


_NOTHING: Final = contextlib.nullcontext()


def expiring(scope: Scope, end: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """While the block lasts, call `end` once when the credential of this connection's caller ends; at once if it has."""
    until = expires(scope)
    return _NOTHING if until is None else _Expiring(until, end)


class _Expiring:
    __slots__ = ("_alarm", "_end", "_until")

    def __init__(self, until: float, end: Callable[[], None]) -> None:
        self._until = until
        self._end = end
        self._alarm = Alarm(asyncio.get_running_loop(), self._look)

    def __enter__(self) -> None:
        self._look()

    def __exit__(self, *_: object) -> None:
        self._alarm.drop()

    def _look(self) -> None:
        left = self._until - time.time()
        if left <= 0:
            self._end()
        else:
            self._alarm.set(asyncio.get_running_loop().time() + min(left, LOOK))


def left_of(scope: Scope, seconds: float) -> float:
    """So many seconds, or those for which the caller's credential still holds, if they are fewer."""
    until = expires(scope)
    return seconds if until is None else max(0.0, min(seconds, until - time.time()))
