"""Who holds logs, who of them is dead, and what they left.

Every process has a number that it raises again and again. Where that stands still for long enough, by the clock of whoever looks,
the process is dead: it is marked so, and each of its logs is made nobody's before the first of them is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Container, Sequence
from typing import Final, NamedTuple

from tidelog.errors import Conflict, Unavailable
from tidelog.stores.redis import scripts
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.link import Link, call
from tidelog.stores.redis.wire import Command

AT_ONCE: Final = 256
"""Logs that Redis is asked for at once."""


class Seen(NamedTuple):
    """A beat that was last looked at `at`, and has stood still for `still` seconds that count."""

    beat: bytes
    still: float
    at: float


class Leases:
    """The leases of all processes, as `owner` sees them."""

    def __init__(self, link: Link, keys: Keys, owner: str, *, ttl: int) -> None:
        self._link = link
        self._keys = keys
        self._owner = owner
        self._ttl = ttl
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, Seen] = {}
        """Of the others."""
        self.ended: set[str] = set()
        """Logs whose end was stored, and perhaps lost since."""

    async def enter(self) -> None:
        """Live, from now on."""
        beat = ("SET", self._keys.beat(self._owner), 1, "EX", self._ttl)
        await self._link.send([beat, *self.hold("")[1:]])

    def hold(self, log: str) -> list[Command]:
        """Be found with this log, by those who look for the dead.

        The first answer is 1 for a process that was declared dead: it lives again, without the logs that it had.
        """
        keys, owner, held = self._keys, self._owner, self._keys.held(self._owner)
        found = [
            call(scripts.REVIVE, [keys.beat(owner)], [self._ttl]),
            ("SADD", keys.owners, owner), ("EXPIRE", keys.owners, self._ttl),
        ]  # fmt: skip
        return [*found, ("SADD", held, log), ("EXPIRE", held, self._ttl)] if log else found

    async def leave(self, log: str, *owners: str) -> None:
        """They hold it no more. It is no harm if they are still found with it."""
        if owners:
            with contextlib.suppress(Unavailable):
                await self._link.store([("SREM", self._keys.held(owner), log) for owner in owners])

    async def strays(self, ours: Container[str]) -> Sequence[str]:
        """Logs that Redis thinks are ours, and that are not among `ours`: nobody writes them."""
        held = {one.decode() for one in await self._link.one("SMEMBERS", self._keys.held(self._owner))}
        names = [log for log in held | self.ended if log not in ours]
        stands = await self._link.send([("HMGET", self._keys.of(log).meta, "owner", "ended") for log in names])
        return [log for log, at in zip(names, stands, strict=True) if at == [self._owner.encode(), b"0"]]

    async def orphans(self, patience: float) -> Sequence[str]:
        """See `Leasing.orphans`.

        Between two looks no more than half of `patience` counts: while Redis is away nobody can beat, and a process that stood
        still itself has not seen that others did.
        """
        now, before, self._seen = self._loop.time(), self._seen, {}
        names: list[str] = []
        for name in await self._link.one("SMEMBERS", self._keys.owners):
            owner = name.decode()
            if owner == self._owner:
                continue
            beat = await self._link.one("GET", self._keys.beat(owner)) or b"dead"
            seen = before.get(owner)
            still = seen.still + min(now - seen.at, patience / 2) if seen is not None and seen.beat == beat else 0.0
            self._seen[owner] = Seen(beat, still, now)
            if beat == b"dead" or still >= patience:
                names += await self._left_by(owner, beat)
        return names

    async def age(self, owner: str) -> float | None:
        """See `Leasing.age`."""
        if owner == self._owner:
            return 0.0
        beat = await self._link.one("GET", self._keys.beat(owner))
        if beat is None or beat == b"dead":
            return None
        seen = self._seen.get(owner)
        return seen.still + self._loop.time() - seen.at if seen is not None and seen.beat == beat else 0.0

    async def bury(self, owner: str) -> None:
        """Fence all logs of an owner that we have seen dead. Raises `Conflict` for one that may live."""
        seen = self._seen.get(owner)
        if owner == self._owner or not await self._declare_dead(owner, seen.beat if seen is not None else b""):
            raise Conflict(f"{owner} lives")
        await self.fence(owner, [name.decode() for name in await self._link.one("SMEMBERS", self._keys.held(owner))])

    async def free(self, log: str, owner: str, *, stray: bool) -> str:
        """Fence the log of a dead owner, whom it names; '' for a log that is parked. `stray`: it may be one of our own.

        Raises `Conflict` if the owner may live.
        """
        if not owner:
            was, due = await self._link.one("HMGET", self._keys.of(log).meta, "was", "due")
            if was is None and due is None:
                raise Conflict(f"{log} is not to be taken")
            return was.decode() if due is None else ""  # whoever fenced it has fenced the others with it
        if owner == self._owner and stray:
            await self.fence(owner, (log,))
        else:
            await self.bury(owner)
        return owner

    async def fence(self, owner: str, logs: Sequence[str]) -> None:
        """Make these logs nobody's that the owner has."""
        named = map(self._keys.of, logs)
        await self._link.send([call(scripts.FENCE, [keys.meta], [owner, keys.channel, keys.fence]) for keys in named])

    async def _left_by(self, owner: str, beat: bytes) -> Sequence[str]:
        """The logs that a dead owner has left; an owner without any is forgotten."""
        names: list[str] = []
        others: list[str] = []
        held = [log.decode() for log in await self._link.one("SMEMBERS", self._keys.held(owner))]
        for start in range(0, len(held), AT_ONCE):
            logs = held[start : start + AT_ONCE]
            asked = [("HMGET", self._keys.of(log).meta, "owner", "was", "ended") for log in logs]
            for log, (owned, was, ended) in zip(logs, await self._link.send(asked), strict=True):
                left = (owned or was) == owner.encode() and ended != b"1"
                (names if left else others).append(log)
        if others:
            await self._link.send([("SREM", self._keys.held(owner), *others)])
        if not names and await self._declare_dead(owner, beat):
            await self._link.send([("SREM", self._keys.owners, owner), ("DEL", self._keys.beat(owner))])
        return names

    async def _declare_dead(self, owner: str, seen: bytes) -> bool:
        """False if it has beaten since."""
        return bool(await self._link.run(scripts.BURY, [self._keys.beat(owner)], [seen, self._ttl]))
