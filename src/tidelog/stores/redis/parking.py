"""Logs that nobody holds for a while, and when each is due."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from tidelog.errors import Conflict
from tidelog.log import Due, Lease, new_id
from tidelog.stores.redis import scripts
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.leases import Leases
from tidelog.stores.redis.link import Commands, Link, call


class Parked:
    """A sorted set names them; what is true is in the hash of each log, as the set is another key.

    A log is named there before it is parked, and until it has ended or is dropped: so none is ever forgotten. A time in the set
    that is not the log's own is set right when the log is looked at.
    """

    def __init__(self, link: Link, keys: Keys, leases: Leases, *, ttl: int) -> None:
        self._link = link
        self._keys = keys
        self._leases = leases
        self._ttl = ttl

    def naming(self, log: str, due: float | None) -> Commands:
        """What comes before a log is parked, if it is."""
        return [] if due is None else [("ZADD", self._keys.parked, due, log), ("EXPIRE", self._keys.parked, self._ttl)]

    async def park(self, log: str, after: int, lease: Lease, due: float) -> None:
        """Give up a log of ours, all of which is stored. Raises `Conflict` if it is not ours, or does not end there."""
        keys, naming = self._keys.of(log), self.naming(log, due)
        found = await self._link.store(
            naming, [call(scripts.PARK, [keys.meta], [lease.owner, lease.epoch, after, due, self._ttl, keys.channel])],
            [("SREM", self._keys.held(lease.owner), log)],
        )  # fmt: skip
        if not found[len(naming)]:
            await self._link.store(self._leases.hold(log))  # it may be ours even so
            raise Conflict(f"{log} is not ours to park at {after}")

    async def defer(self, log: str, seen: float, due: float) -> None:
        """See `Parking.defer`."""
        keys = self._keys.of(log)
        if not await self._link.run(scripts.DEFER, [keys.meta], [seen, due, self._ttl, new_id()]):
            raise Conflict(f"{log} is not due at {seen}")
        await self._link.one("ZADD", self._keys.parked, "XX", due, log)

    async def due(self, due: float) -> Sequence[Due]:
        """See `Parking.parked`."""
        found = await self._link.one("ZRANGEBYSCORE", self._keys.parked, "-inf", due, "WITHSCORES")
        scores = {name.decode(): float(score) for name, score in found}
        stands = await self._link.send([("HMGET", self._keys.of(log).meta, "last", "ended", "due") for log in scores])
        names: list[Due] = []
        mend = Commands()
        for (log, score), (last, ended, at) in zip(scores.items(), stands, strict=True):
            time = float(at) if at is not None else inf
            if last is None or ended == b"1":
                mend.append(("ZREM", self._keys.parked, log))
            elif time != score:
                mend.append(("ZADD", self._keys.parked, "XX", time, log))
            if at is not None and ended != b"1" and time <= due:
                names.append(Due(log, time))
        await self._link.send(mend)
        return sorted(names, key=lambda one: (one.at, one.log))
