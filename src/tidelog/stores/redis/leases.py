"""Who holds logs, who of them is dead, and what they left.

Every process has a number that it raises again and again. Where that stands still for long enough, by the clock of whoever looks,
the process is dead: it is marked so, and each of its logs is made nobody's before the first of them is taken.

Who was declared dead may live, and lives again as soon as it holds another log. From then on it alone looks for what it had left:
not all of that was taken, perhaps, or even fenced, when whoever was at it gave up, or died. So that no log is ever found with
nobody, others strike from what a process holds only while it is dead, when it cannot have taken anything anew.
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
STRAY_FOR: Final = 60.0
"""Seconds for which logs that are ours and nobody writes are looked for, once something went wrong."""


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
        self._dead: dict[str, bytes] = {}
        """Those among them that stood still for long enough, and where."""
        self.ended: set[str] = set()
        """Logs whose end was stored, and perhaps lost since."""
        self._doubted_until = 0.0

    @property
    def doubted(self) -> bool:
        """Whether there may be strays."""
        return self._loop.time() < self._doubted_until

    def doubt(self) -> None:
        """Something went wrong: look for strays from now on, for a while."""
        self._doubted_until = self._loop.time() + STRAY_FOR

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

    async def leave(self, owner: str, *logs: str) -> None:
        """A dead owner holds these no more. It is no harm if it is still found with them."""
        with contextlib.suppress(Unavailable):
            await self._link.store([call(scripts.LEAVE, self._of(owner), logs)])

    async def strays(self, ours: Container[str]) -> Sequence[str]:
        """Logs that Redis thinks are ours, or were until they were fenced, and that are not among `ours`: nobody writes them."""
        held = {one.decode() for one in await self._link.one("SMEMBERS", self._keys.held(self._owner))}
        names = [log for log in held | self.ended if log not in ours]
        return [log for log, left in zip(names, await self._left(self._owner, names), strict=True) if left]

    async def orphans(self, patience: float) -> Sequence[str]:
        """See `Leasing.orphans`.

        Between two looks no more than half of `patience` counts: while Redis is away nobody can beat, and a process that stood
        still itself has not seen that others did.
        """
        now, before, self._seen, self._dead = self._loop.time(), self._seen, {}, {}
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
                self._dead[owner] = beat
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
        held = await self._declare_dead(owner, self._dead.get(owner, b"")) if owner != self._owner else None
        if held is None:
            raise Conflict(f"{owner} lives")
        await self.fence(owner, held)

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
        held = [log.decode() for log in await self._link.one("SMEMBERS", self._keys.held(owner))]
        for start in range(0, len(held), AT_ONCE):
            logs = held[start : start + AT_ONCE]
            found = dict(zip(logs, await self._left(owner, logs), strict=True))
            names += [log for log in logs if found[log]]
            if not all(found.values()):
                await self.leave(owner, *(log for log in logs if not found[log]))
        if not names and await self._declare_dead(owner, beat) is not None:
            await self._forget(owner)
        return names

    async def _left(self, owner: str, logs: Sequence[str]) -> Sequence[bool]:
        """Which of these logs are the owner's, or were when they were fenced, and have not ended."""
        stands = await self._link.send([("HMGET", self._keys.of(log).meta, "owner", "was", "ended") for log in logs])
        return [(now or was) == owner.encode() and ended != b"1" for now, was, ended in stands]

    async def _declare_dead(self, owner: str, seen: bytes) -> list[str] | None:
        """What it held then; None if it has beaten since."""
        held = await self._link.run(scripts.BURY, self._of(owner), [seen, self._ttl])
        return [log.decode() for log in held] if isinstance(held, list) else None

    async def _forget(self, owner: str) -> None:
        """Who is dead and holds nothing need not be looked for. Who lives again meanwhile must be."""
        await self._link.one("SREM", self._keys.owners, owner)
        if not await self._link.run(scripts.FORGET_OWNER, self._of(owner), []):
            await self._link.one("SADD", self._keys.owners, owner)

    def _of(self, owner: str) -> list[str]:
        return [self._keys.beat(owner), self._keys.held(owner)]
