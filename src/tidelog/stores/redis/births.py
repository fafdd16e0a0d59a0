"""Opening a log, under its idempotency key, until there is an answer.

Every try begins with the key. While Redis was away somebody else may have found that we had claimed it and had opened nothing:
the log is forbidden then, so that of two that claim a key one alone opens, however late what it sent arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tidelog.errors import Conflict
from tidelog.stores.redis.claims import Claims
from tidelog.stores.redis.leases import Leases
from tidelog.stores.redis.link import Commands, Link
from tidelog.stores.redis.persist import persist
from tidelog.stores.redis.wire import Command

HOLD: Final = 5
"""How many commands `Leases.hold` gives for a log."""


class Births:
    """`lost` is called where this process had been declared dead: it lives again, without the logs that it had."""

    def __init__(
        self, link: Link, leases: Leases, claims: Claims, *, patience: float, lost: Callable[[], None]
    ) -> None:
        self._link = link
        self._leases = leases
        self._claims = claims
        self._patience = patience
        self._lost = lost

    async def open(
        self, log: str, opening: Command, beside: Sequence[Command], *, key: str | None, fingerprint: bytes | None
    ) -> str:
        """The log that has the key: this one, which is open then, or another one. What is sent again is the same each time.

        Raises `Conflict` if it exists, or may not be opened any more, `Mismatch`, and `Unavailable`: it may be open even so, now
        or in a while.
        """
        commands = [opening, *beside]
        return await persist(partial(self._try, log, commands, key, fingerprint), patience=self._patience)

    async def _try(self, log: str, commands: Commands, key: str | None, fingerprint: bytes | None) -> str:
        winner = await self._winner(log, key, fingerprint)
        if winner == log and not await self._opened(log, commands):
            winner = await self._winner(log, key, fingerprint)  # somebody else has it since, who would not wait for us
            if winner == log:
                if key is not None:
                    await self._claims.give_up(key, log)
                raise Conflict(f"{log} exists")
        return winner

    async def _winner(self, log: str, key: str | None, fingerprint: bytes | None) -> str:
        return await self._claims.claim(key, log, fingerprint) if key is not None else log

    async def _opened(self, log: str, commands: Commands) -> bool:
        found = await self._link.store(self._leases.hold(log), commands)
        if found[0]:
            self._lost()
        return bool(found[HOLD])
