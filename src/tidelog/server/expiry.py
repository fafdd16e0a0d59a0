"""A view ends when the credential does by which it was opened: nobody reads on with what no longer holds (spec §12)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from starlette.types import Scope

from tidelog.alarm import Alarm
from tidelog.server.access import expires

LOOK: Final = 15.0
"""Seconds after which the clock is looked at again: one that is set meanwhile delays the end by no more."""


def expiring(scope: Scope, end: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """While the block lasts, call `end` once when the credential of this connection's caller ends; at once if it has."""
    until = expires(scope)
    return contextlib.nullcontext() if until is None else _until(until, end)


@contextlib.contextmanager
def _until(until: float, end: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def look() -> None:
        left = until - time.time()
        if left <= 0:
            end()
        else:
            alarm.set(loop.time() + min(left, LOOK))

    alarm = Alarm(loop, look)
    look()
    try:
        yield
    finally:
        alarm.drop()


def left_of(scope: Scope, seconds: float) -> float:
    """So many seconds, or those for which the caller's credential still holds, if they are fewer."""
    until = expires(scope)
    return seconds if until is None else max(0.0, min(seconds, until - time.time()))
