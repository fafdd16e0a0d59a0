"""Idempotency keys: which log has one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tidelog.errors import Gone, Mismatch
from tidelog.log import Tail
from tidelog.stores.redis import scripts
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.link import Link, call

CLAIM_PATIENCE: Final = 2.0
"""Seconds after which an idempotency key is free again whose claimant never opened its log."""
CLAIM_EVERY: Final = 0.05


class Claims:
    """A key is claimed before its log is opened: a claimant may die in between, or find Redis away."""

    def __init__(self, link: Link, keys: Keys, tail: Callable[[str], Awaitable[Tail | None]], *, ttl: int) -> None:
        self._link = link
        self._keys = keys
        self._tail = tail
        self._ttl = ttl

    async def claim(self, key: str, log: str, fingerprint: bytes | None) -> str:
        """The log that has this key: `log`, which is to be opened now, or one that is there. Raises `Mismatch`."""
        name, instead = self._keys.claim(key), b""
        value = log.encode() + b"\n" + (fingerprint or b"")
        loop = asyncio.get_running_loop()
        until, before = loop.time() + CLAIM_PATIENCE, b""
        while True:
            stands: bytes = await self._link.run(scripts.CLAIM, [name], [value, instead, self._ttl])
            winner, _, theirs = stands.partition(b"\n")
            if stands == value:
                return log
            found = await self._found(winner.decode())
            if found:
                if theirs != (fingerprint or b""):
                    raise Mismatch
                return winner.decode()
            if stands != before:  # somebody else has claimed it meanwhile, and is to have time as well
                until, before = loop.time() + CLAIM_PATIENCE, stands
            if found is None and loop.time() > until:
                found = not await self._forbidden(winner.decode())
            instead = stands if found is False else b""
            if not instead:
                await asyncio.sleep(CLAIM_EVERY)

    async def forget(self, key: str, log: str) -> None:
        """The log is gone: its key is free."""
        await self._link.run(scripts.FORGET, [self._keys.claim(key)], [log])

    async def give_up(self, key: str, log: str) -> None:
        """The log could not be opened: its key is free, unless it was opened under it, and is somebody else's since."""
        if await self._link.one("HGET", self._keys.of(log).meta, "key") != key.encode():
            await self.forget(key, log)

    async def _found(self, log: str) -> bool | None:
        """Whether the log is there; None: not yet. False: it was, or may not come any more."""
        try:
            return True if await self._tail(log) is not None else None
        except Gone:
            return False

    async def _forbidden(self, log: str) -> bool:
        """See to it that nobody opens this log any more: its claimant may live, and be late. False: it is there."""
        keys = self._keys.of(log)
        (done,) = await self._link.store([call(scripts.FORBID, [keys.meta, keys.tomb], [self._ttl])])
        return bool(done)
