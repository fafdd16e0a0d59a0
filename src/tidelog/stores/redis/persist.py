"""Sending again what got no answer, for as long as the patience lasts: what is sent must do no harm if it is sent twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tidelog.errors import Unavailable

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two tries."""

_log = logging.getLogger("tidelog.stores.redis")

T = TypeVar("T")


async def persist(
    send: Callable[[], Awaitable[T]], *, patience: float, closing: Callable[[], bool] = lambda: False
) -> T:
    """What `send` gives once there is an answer. While `closing`, it is sent once more, and waited for as long as that takes.

    Raises `Unavailable` where the patience is at its end.
    """
    loop = asyncio.get_running_loop()
    give_up_at, wait, told = loop.time() + patience, FIRST_WAIT, False
    while True:
        try:
            async with asyncio.timeout_at(give_up_at if not closing() else None):
                return await send()
        except TimeoutError as error:
            raise Unavailable("Redis does not answer: store_patience is over") from error
        except Unavailable as error:
            if closing() or loop.time() + wait > give_up_at:
                raise
            if not told:  # many may wait
                _log.warning("Redis did not answer, will try again: %s", error)
            told = True
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT, wait * 2)
