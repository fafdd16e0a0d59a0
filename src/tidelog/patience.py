"""Patience with a store that is away: what has begun must not fail for a moment without it, and is repeated meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tidelog.errors import Unavailable
from tidelog.seams import Patient, Store

log = logging.getLogger("tidelog")
T = TypeVar("T")

PATIENCE: Final = 15.0
"""Seconds for which a store that names no patience of its own is waited for."""
AGAIN: Final = 0.25
"""Seconds between two tries."""


async def patiently(store: Store, call: Callable[[], Awaitable[T]], what: str, *, at_most: float | None = None) -> T:
    """What `call` gives once the store answers. Once or many times must be the same: a try may have done it without an answer.

    `what` is it that waits, for the log. Raises `Unavailable` where the store is away for longer than its patience, or than
    `at_most` seconds.
    """
    loop = asyncio.get_running_loop()
    began, told = loop.time(), False
    while True:
        try:
            return await call()
        except Unavailable as error:
            if loop.time() >= began + _patience(store, at_most):
                raise
            if not told:
                log.warning("%s waits for the store, which is away: %s", what, error)
            told = True
        await asyncio.sleep(AGAIN)


def _patience(store: Store, at_most: float | None) -> float:
    patience = store.patience if isinstance(store, Patient) else PATIENCE
    return patience if at_most is None else min(patience, at_most)
