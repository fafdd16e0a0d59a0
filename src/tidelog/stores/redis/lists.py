"""Which logs there are, and which have ended: sorted sets of names, by the time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.link import Link

BATCH: Final = 500
"""Names of old logs that are asked for at once."""


class Lists:
    """What they name may be gone: a list is another key than the log, so both cannot change in one step."""

    def __init__(self, link: Link, keys: Keys, *, ttl: int) -> None:
        self._link = link
        self._keys = keys
        self._ttl = ttl

    async def newest(self, principal: str | None, page: int) -> AsyncIterator[str]:
        """All names, newest first, asked for by the page; None means every principal's."""
        name = self._keys.all if principal is None else self._keys.mine(principal)
        start, full = 0, True
        while full:
            found = await self._link.one("ZREVRANGE", name, start, start + page - 1)
            for log in found:
                yield log.decode()
            start, full = start + page, len(found) == page

    async def ended(self, before: float) -> AsyncIterator[list[str]]:
        """The logs that ended before this time, in batches; whoever asks drops each batch before the next."""
        full = True
        while full:
            found = await self._link.one("ZRANGEBYSCORE", self._keys.ended, "-inf", f"({before}", "LIMIT", 0, BATCH)
            yield [log.decode() for log in found]
            full = len(found) == BATCH

    async def trim(self) -> None:
        """Forget the names of logs that nobody ended or dropped, and that have expired."""
        await self._link.send([("ZREMRANGEBYSCORE", self._keys.all, "-inf", time.time() - self._ttl)])
