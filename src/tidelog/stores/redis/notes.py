"""The ends of logs are noted soon after they are stored, many together: nobody need wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from tidelog.errors import Unavailable
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.link import Link
from tidelog.tasks import cancelled

AFTER: Final = 0.05
"""Seconds within which ends are noted together."""
AGAIN: Final = 1.0

_log = logging.getLogger("tidelog.stores.redis")


class Notes:
    """For retention, and so that nobody looks for a log among those that `owner` holds."""

    def __init__(self, link: Link, keys: Keys, owner: str, *, ttl: int) -> None:
        self._link = link
        self._keys = keys
        self._owner = owner
        self._ttl = ttl
        self._loop = asyncio.get_running_loop()
        self._ended: dict[str, float] = {}
        self._sending: asyncio.Task[None] | None = None

    def ended(self, log: str) -> None:
        """The end of this log is stored."""
        self._ended[log] = time.time()
        if self._sending is None:
            self._sending = self._loop.create_task(self._send())

    def forget(self, log: str) -> None:
        """The log is dropped."""
        self._ended.pop(log, None)

    async def write(self) -> None:
        """Note what there is, now. Raises `Unavailable`."""
        notes = dict(self._ended)
        if notes:
            ended = ("ZADD", self._keys.ended, *(part for log, at in notes.items() for part in (at, log)))
            expire = ("EXPIRE", self._keys.ended, self._ttl)
            await self._link.send(
                [ended, expire], [("SREM", self._keys.held(self._owner), *notes), ("ZREM", self._keys.parked, *notes)]
            )
            dropped = [log for log in notes if self._ended.pop(log, None) is None]
            if dropped:  # meanwhile: who dropped them was perhaps first
                await self._link.send([("ZREM", self._keys.ended, *dropped)])

    async def aclose(self) -> None:
        """Note what there is. What cannot be noted is kept until its keys expire."""
        if self._sending is not None:
            await cancelled(self._sending)
        try:
            await self.write()
        except Unavailable as error:
            _log.warning("the ends of %d logs could not be noted: %s", len(self._ended), error)

    async def _send(self) -> None:
        await asyncio.sleep(AFTER)
        while self._ended:
            try:
                await self.write()
            except Unavailable as error:
                _log.warning("the ends of %d logs could not be noted, will try again: %s", len(self._ended), error)
                await asyncio.sleep(AGAIN)
        self._sending = None
