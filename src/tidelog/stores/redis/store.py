"""`redis://host:6379/0`, `redis+cluster://…`, `redis+sentinel://…`: logs in Redis or Valkey, for processes on many machines.

store.py   what callers see
flow.py    what gathers here and is flushed, for all logs together;  flows.py  for each node;  lane.py  a log that is written here
persist.py what is sent again while Redis is away
hub.py     the ends of watched logs, read once for all who watch them;  ears.py  the connections that hear of changes
leases.py  who holds logs, and who of them is dead;  doubts.py  whether we do;  beats.py  our lease;  parking.py  nobody's logs
births.py  how logs are opened;  claims.py  under idempotency keys;  lists.py  their names;  notes.py  their ends
link.py    what is sent;  calls.py  of a log;  errand.py  on its way;  nodes.py, cluster.py  to whom;  wire.py;  scripts.py  Lua
pure       keys.py  names;  blocks.py  records as bytes;  place.py  the address
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Final

from tidelog.bell import Bell
from tidelog.errors import Conflict, Gone, StoreError, Unavailable
from tidelog.log import Due, Lease, Record, Tail
from tidelog.pages import Pages
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.redis import blocks, calls, scripts
from tidelog.stores.redis.beats import Beats
from tidelog.stores.redis.births import Births
from tidelog.stores.redis.claims import Claims
from tidelog.stores.redis.doubts import Doubts
from tidelog.stores.redis.flow import FLIGHTS, GONE, LOST, Flow
from tidelog.stores.redis.flows import Flows
from tidelog.stores.redis.hub import Hub, Stand
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.lane import Birth, Lane
from tidelog.stores.redis.leases import Leases
from tidelog.stores.redis.link import Link
from tidelog.stores.redis.lists import Lists
from tidelog.stores.redis.notes import Notes
from tidelog.stores.redis.parking import Parked
from tidelog.stores.redis.place import parse

DROPS: Final = 16
"""Logs that retention drops at once."""

_log = logging.getLogger("tidelog.stores.redis")


class RedisStore:
    """Implements `seams.Store`, `Patient`, `Peeking`, `Listing`, `Expiring`, `Leasing` and `Parking`.

    `url`: what redis-py takes, and options of ours: see `place`. Raises `InvalidRequest` for anything else.
    """

    def __init__(self, url: str) -> None:
        self._place = parse(url)
        self.patience = self._place.patience
        self._keys = Keys(self._place.prefix, sharded=self._place.kind == "cluster")
        self._pages = Pages()
        self._owner = ""
        self._open = False

    async def start(self, owner: str) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._link = Link(self._place)
        self._leases = Leases(self._link, self._keys, owner, ttl=self._place.ttl)
        self._opening: set[str] = set()
        self._lists = Lists(self._link, self._keys, ttl=self._place.ttl)
        self._parked = Parked(self._link, self._keys, self._leases, ttl=self._place.ttl)
        self._notes = Notes(self._link, self._keys, owner, ttl=self._place.ttl)
        self._claims = Claims(self._link, self._keys, self.tail, ttl=self._place.ttl)
        self._births = Births(self._link, self._leases, self._claims, patience=self._place.patience, lost=self._lose)
        self._lost_at = 0.0
        try:
            await self._link.start()
            await self._leases.enter()
            self._hub = Hub(
                self._link.nodes, read=self._fetch, stand=self._stand, mend=self._mend,
                ours=lambda log: log in self._flow.lanes, touched=self._touched, again=self._again,
            )  # fmt: skip
            await self._hub.start()
        except BaseException:
            await self._link.aclose()
            raise
        flow = partial(
            Flow, self._link.flush, self._lane, owner, ttl=self._place.ttl, patience=self._place.patience, lost=self._lost,
            left=self._left, ended=self._notes.ended, flights=FLIGHTS if self._place.ack == "memory" else 1,
        )  # fmt: skip
        self._flow = flow() if self._place.kind != "cluster" else Flows(flow, self._link, self._keys)
        self._doubts = Doubts(self._flow.look)
        self.append = self._flow.append  # type: ignore[method-assign]  # a call less for each event
        self._beats = Beats(self._place, self._keys, owner, dead=self._died)
        self._beats.start()
        self._open = True

    async def aclose(self) -> None:
        if not self._open:
            return
        await self._flow.close()
        await self._notes.aclose()
        self._open = False
        await self._loop.run_in_executor(None, self._beats.close)
        self._flow.lanes.clear()
        await self._hub.aclose()
        self._doubts.close()
        await self._link.aclose()

    async def open(
        self, log: str, head: bytes, *, records: Sequence[Record] = (), principal: str = "",
        key: str | None = None, fingerprint: bytes | None = None, entry: tuple[str, bytes] | None = None,
    ) -> str:  # fmt: skip
        self._check()
        keys, ttl = self._keys.of(log), self._place.ttl
        lane = Lane(log, keys, Lease(self._owner), base=0, records=records)
        lane.head, lane.known, lane.sure = head, True, True
        lane.birth = Birth(principal, key or "", len(records), blocks.encode(records))
        beside = [calls.posting(self._keys.of(entry[0]), entry[1], ttl, once=True)] if entry is not None else []
        self._opening.add(log)
        try:
            opening = calls.opening(lane, ttl)
            listing = calls.listing(lane, self._keys, ttl)
            winner = await self._births.open(log, opening, [*listing, *beside], key=key, fingerprint=fingerprint)
        except Unavailable:
            self._leases.doubt()  # it may be open even so, now or in a while
            raise
        finally:
            self._opening.discard(log)
        if winner == log:
            self._adopt(lane)
        return winner

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        raise Unavailable("The store is not started.")

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        self._check()
        (number,) = await self._link.store([calls.posting(self._keys.of(log), data, self._place.ttl, once=once)])
        if number < 0:
            raise Conflict(f"{log} has an owner")
        return int(number)

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        self._check()
        lane = self._flow.lanes.get(log)
        if lane is not None and after >= lane.base:
            return lane.page(after, limit)
        channel = self._keys.of(log).channel
        if lane is None:
            await self._hub.ready(channel)
        bell = self._hub.held(channel)
        return await self._pages.read(bell, after, limit, partial(self._fetch, log))

    def window(self, log: str) -> Window | None:
        lane = self._flow.lanes.get(log)
        return lane if lane is not None else self._hub.window(self._keys.of(log).channel)

    async def tail(self, log: str) -> Tail | None:
        self._check()
        lane = self._flow.lanes.get(log)
        if lane is not None and lane.known:
            return lane.tail()
        keys = self._keys.of(log)
        last, ended, epoch, head, owner = await self._link.one(
            "HMGET", keys.meta, "last", "ended", "epoch", "head", "owner"
        )
        if last is None:
            if await self._link.one("EXISTS", keys.tomb):
                raise Gone(code="expired")
            return None
        return Tail(1, int(last), ended == b"1", int(epoch or 1), head or b"", (owner or b"").decode())

    async def drop(self, log: str) -> None:
        self._check()
        await self._drop(log, trace=False)

    def changed(self, log: str) -> Bell:
        lane = self._flow.lanes.get(log)
        bell = self._hub.bell(log, self._keys.of(log), ours=lane is not None)
        if lane is not None:
            lane.bell = bell
        return bell

    async def list(self, prefix: str, principal: str | None, limit: int) -> Sequence[tuple[str, Tail]]:
        self._check()
        found: list[tuple[str, Tail]] = []
        async for log in self._lists.newest(principal, limit):
            with contextlib.suppress(Gone):
                tail = await self.tail(log) if log.startswith(prefix) else None
                if tail is not None:
                    found.append((log, tail))
            if len(found) == limit:
                break
        return found

    async def expire(self, before: float) -> Sequence[str]:
        self._check()
        await self._notes.write()
        names: list[str] = []
        async for old in self._lists.ended(before):
            for start in range(0, len(old), DROPS):
                await asyncio.gather(*(self._drop(log, trace=True) for log in old[start : start + DROPS]))
            names += old
        await self._lists.trim()
        return names

    async def orphans(self, patience: float) -> Sequence[str]:
        self._check()
        found = await self._leases.orphans(patience)
        if self._leases.doubted:
            ours = self._opening | self._flow.owed | self._flow.lanes.keys()
            found = [*found, *await self._leases.strays(ours)]
        else:
            self._leases.ended.clear()
        return found

    async def age(self, owner: str) -> float | None:
        self._check()
        return await self._leases.age(owner)

    async def park(self, log: str, after: int, *, lease: Lease, due: float) -> None:
        self._check()
        lane = self._flow.lanes.get(log)
        if lane is not None:
            if lane.lease != lease or lane.last != after or lane.closed:
                raise Conflict(f"{log} is not ours to park at {after}")
            await self._flow.settled(lane)
        elif lease.owner != self._owner:
            raise Conflict(f"{log} is not ours to park")
        try:
            await self._parked.park(log, after, lease, due)
        except Conflict:
            if lane is not None:  # it is ours even so, if Redis has lost its end: that is told, and it is a stray then
                with contextlib.suppress(StoreError):
                    await self.append(log, after, (), Lease(self._owner, lease.epoch))
            self._leases.doubt()
            raise
        finally:
            self._flow.release(log, lane)

    async def parked(self, due: float) -> Sequence[Due]:
        self._check()
        return await self._parked.due(due)

    async def defer(self, log: str, seen: float, due: float) -> None:
        self._check()
        await self._parked.defer(log, seen, due)

    async def take(
        self, log: str, after: int, records: Sequence[Record], *,
        head: bytes | None = None, ended: bool = True, due: float | None = None, orphan: bool = False,
    ) -> Lease:  # fmt: skip
        self._check()
        tail = await self.tail(log)
        if tail is None or tail.ended:
            raise Conflict(f"{log} is not there, or has ended")
        was = await self._leases.free(log, tail.owner, stray=log not in self._flow.lanes and log not in self._opening)
        if orphan and not was:
            raise Conflict(f"{log} is parked")
        keys, lease = self._keys.of(log), Lease(self._owner, tail.epoch + 1)
        taking = calls.take(keys, was, after, records, lease, head=head, ended=ended, due=due, ttl=self._place.ttl)
        self._opening.add(log)
        try:
            holding = self._leases.hold(log if due is None else "")
            found = await self._link.store([*holding, *self._parked.naming(log, due)], [taking])
        except Unavailable:
            self._leases.doubt()
            raise
        finally:
            self._opening.discard(log)
        if found[0]:
            self._lose()
        if not found[-1]:
            raise Conflict(f"{log} was taken by somebody else, or goes on")
        if ended:
            self._notes.ended(log)
        elif due is None:
            lane = Lane(log, keys, lease, base=after, records=records)
            lane.head, lane.known, lane.sure = head if head is not None else tail.head, True, True
            self._adopt(lane)
        if was not in ("", self._owner):
            await self._leases.leave(was, log)
        return lease if due is None else Lease("", lease.epoch)

    def _died(self, sent: float) -> None:
        """In the thread that beats."""
        self._loop.call_soon_threadsafe(self._lose, sent)

    def _lose(self, sent: float = inf) -> None:
        """What we had is lost. What a beat found that was sent before we lived again is known, and not of what came since."""
        if sent > self._lost_at:
            self._lost_at = time.monotonic()
            self._flow.lose()
            self._leases.doubt()  # who declared us dead may have come to grief before it took what we had

    def _check(self) -> None:
        if not self._open:
            raise Unavailable("The store is closed.")

    def _left(self, lane: Lane) -> None:
        self._hub.disown(lane.keys, Stand(lane.stored, lane.lease.epoch) if lane.sure else None)

    def _adopt(self, lane: Lane) -> None:
        self._flow.lanes[lane.name] = self._equip(lane)
        self._hub.own(lane.keys)
        if lane.bell is not None:
            lane.bell.ring()

    def _lane(self, log: str, lease: Lease, after: int) -> Lane:
        """A log that was not opened here: Redis knows whether it is ours."""
        return self._equip(Lane(log, self._keys.of(log), lease, base=after))

    def _equip(self, lane: Lane) -> Lane:
        lane.life = self._link.life(lane.keys.meta)
        lane.bell = self._hub.held(lane.keys.channel)
        lane.prefix = calls.prefix(lane, self._place.ttl)
        return lane

    def _again(self) -> None:
        """Redis is heard again after a time in which it was not: it may have lost something, or be another one."""
        self._leases.ended |= set(self._flow.knock())
        self._leases.doubt()  # an ending may be lost

    async def _lost(self, refused: Sequence[tuple[Lane, int]]) -> Sequence[bool]:
        """See `flow.Lost`."""
        found = [
            answer == LOST
            or (
                answer == GONE and lane.birth is not None and lane.sure and lane.life != self._link.life(lane.keys.meta)
            )
            for lane, answer in refused
        ]
        lost = [refusal for refusal, is_lost in zip(refused, found, strict=True) if is_lost]
        if len(lost) < len(refused):
            self._leases.doubt()
        ttl = self._place.ttl
        for lane, answer in lost:
            again = calls.opening_again(lane, self._keys, ttl) if answer == GONE else ()
            await self._link.send(self._leases.hold(lane.name), again)
            self._hub.lose(lane.keys.channel)
        return found

    async def _drop(self, log: str, *, trace: bool) -> None:
        keys = self._keys.of(log)
        principal, key, owner, was = await self._link.run(
            scripts.DROP,
            [keys.meta, keys.stream, keys.tomb],
            [keys.channel, self._place.ttl if trace else 0, keys.fence],
        )
        self._flow.forget(log)
        self._notes.forget(log)
        lists = [self._keys.all, self._keys.ended, self._keys.parked, self._keys.mine(principal.decode())]
        await self._link.send(
            [*(("ZREM", name, log) for name in lists),
             *(("SREM", self._keys.held(one.decode()), log) for one in (owner, was) if one)]
        )  # fmt: skip
        if key:
            await self._claims.forget(key.decode(), log)
        bell = self._hub.held(keys.channel)
        if bell is not None:
            bell.ring()

    async def _fetch(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        keys = self._keys.of(log)
        found = await self._link.look(scripts.READ, [keys.meta, keys.stream], [after, limit])
        if not isinstance(found, list):
            raise Gone(code="expired" if await self._link.one("EXISTS", keys.tomb) else "not_found")
        return blocks.page(found, after, limit)

    async def _stand(self, log: str) -> Stand:
        found = await self._link.one("HMGET", self._keys.of(log).meta, "last", "epoch", "lost", "lost_epoch")
        return Stand(*(int(one or 0) for one in found))

    async def _mend(self, log: str, last: int) -> None:
        await self._link.run(scripts.MEND, [self._keys.of(log).meta], [last, self._place.ttl])

    def _touched(self, log: str) -> None:
        """Somebody else has changed a log that was ours. Where nobody watches it, the next append tells what became of it."""
        lane = self._flow.lanes.get(log)
        if lane is not None and lane.bell is not None:
            self._doubts.add(lane)
