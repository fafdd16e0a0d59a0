"""What this process appends: gathered while a group is under way, under load for a moment more, then sent for all logs together.

A group that got no answer is sent again as it is: the script knows each part by its place and content. While Redis is away what
was given waits, and whoever writes pauses its source; after `patience` seconds the runs are told that the store is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from tidelog.errors import Conflict, StoreError, Unavailable
from tidelog.log import Lease, Record
from tidelog.stored import done, failed
from tidelog.stores.redis import calls
from tidelog.stores.redis.group import Group
from tidelog.stores.redis.lane import Lane
from tidelog.stores.redis.persist import persist

GAP: Final = 0.006
"""The widest window, in seconds from group to group; it opens in proportion to the rate of logs that are sent."""
GAP_RATE: Final = 3000.0
"""Logs a second from which on the window is at its widest."""
RATE_SPAN: Final = 0.05
"""Seconds over which the rate is averaged."""
FLIGHTS: Final = 4
"""Groups that may be under way before what gathers waits for one of them. With one alone all logs soon went together, and this
process and Redis waited for each other. Where Redis waits for its disk or a replica, groups would queue up there instead.
"""

LINGER: Final = 10.0
"""Seconds for which an ended log stays in memory for those who still read its end."""

_log = logging.getLogger("tidelog.stores.redis")

T = TypeVar("T")

GONE, CONFLICT, LOST = 0, -1, -2
"""What else the script that appends may answer than 1: see there."""

Send = Callable[[Sequence[bytes]], Awaitable[Sequence[int]]]
"""Sends packed commands and gives the scripts' answers. Raises `Unavailable`, as if nothing were known of any of them."""
Lost = Callable[[Sequence[tuple[Lane, int]]], Awaitable[Sequence[bool]]]
"""Given logs that Redis has not, or not whole, with its answers: whether it has lost them; else others took or dropped them.

What is lost stands under a new epoch then, from where Redis stands. Raises `Unavailable`.
"""


class Flow:
    """`lanes` holds the logs that this process writes, by name.

    `ended` is called for one whose end is stored, `left` for one that it writes no more. At most `flights` groups are under way.
    """

    def __init__(
        self, send: Send, make: Callable[[str, Lease, int], Lane], owner: str, *, ttl: int, patience: float, lost: Lost,
        left: Callable[[Lane], None], ended: Callable[[str], None], flights: int = FLIGHTS,
    ) -> None:  # fmt: skip
        self.lanes: dict[str, Lane] = {}
        self.owed: set[str] = set()
        """Logs whose writer was told that the store has failed it: it will end them."""
        self._send = send
        self._make = make
        self._lost = lost
        self._left = left
        self._ended = ended
        self._owner = owner
        self._ttl = ttl
        self._patience = patience
        self._flights = flights
        self._loop = asyncio.get_running_loop()
        self._group = Group(self._loop)
        self._due = False
        """Whether this group has its time."""
        self._flying: dict[Group, asyncio.Task[None]] = {}
        self._flushed = self._loop.time()
        self._rate = 0.0
        self._closing = False

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        """See `Store.append`. A log that is not known here is Redis' to judge."""
        lane = self.lanes.get(log)
        if lane is None or after != lane.last or lane.closed or self._closing:
            if lane is not None or self._closing or lease.owner != self._owner:
                return self._decline(log, lane, after, records, lease, ended)
            lane = self.lanes[log] = self._make(log, lease, after)
        if lease is not lane.lease:
            if lease != lane.lease:
                return self._decline(log, lane, after, records, lease, ended)
            lane.lease = lease  # who is told if this is lost
        if records:
            last = after + len(records)
            if records[-1].seq != last:
                return failed(Conflict(f"{log}: the records are not numbered from {after + 1} on"))
            lane.records += records
            lane.last = last
        group = lane.group or self._gather(lane)
        if head is not None:
            group.heads[lane] = head
        if ended:
            lane.closed, lane.end = True, after
            group.ended[lane] = None
        return group.future if lease.lost is not None else group.ack(lane, lease)

    def forget(self, log: str, error: StoreError | None = None) -> None:
        """The log is dropped, or somebody else's."""
        lane = self.lanes.pop(log, None)
        if lane is not None:
            if isinstance(error, Unavailable) and not lane.ended:
                self.owed.add(log)
            error = error or Conflict(f"{log} was dropped")
            lane.fail(error)
            for group in self._groups_of(lane):
                group.forget(lane, error)
            self._left(lane)

    async def settled(self, lane: Lane) -> None:
        """Once all that was given of a log is stored. Raises what became of it instead."""
        while lane.error is None and (under_way := next(self._groups_of(lane), None)) is not None:
            await asyncio.wait((under_way.future,))
        if lane.error is not None:
            raise lane.error

    def release(self, log: str, lane: Lane | None) -> None:
        """The writer of this log has given it up, and need not be told."""
        if lane is not None and self.lanes.get(log) is lane:
            lane.lease = Lease(lane.lease.owner, lane.lease.epoch)
            self.forget(log, Conflict(f"{log} was given up"))
        self.owed.discard(log)

    def knock(self) -> Sequence[str]:
        """Redis was away: ask of every log whether it still has what it had stored. The logs that had ended of late."""
        ended = [lane.name for lane in self.lanes.values() if lane.ended]
        for lane in tuple(self.lanes.values()):
            if lane.ended:
                self._let_go(lane)  # Redis knows better now
            else:
                self.look(lane)
        return ended

    def look(self, lane: Lane) -> None:
        """Ask of this log whether it still stands as we know it: by an append of nothing."""
        if lane.closed or self._closing or self.lanes.get(lane.name) is not lane:
            return
        if lane.group is None:
            self._gather(lane)

    def lose(self) -> None:
        """All logs are somebody else's now."""
        for log in tuple(self.lanes):
            self.forget(log, Conflict("This process was declared dead."))
        self.owed.clear()

    async def close(self) -> None:
        """Store what gathers, and take nothing more."""
        self._closing = True
        while self._flying or self._group.lanes:
            await asyncio.wait([group.future for group in self._flying] or (self._group.future,))

    def _decline(
        self, log: str, lane: Lane | None, after: int, records: Sequence[Record], lease: Lease, ended: bool
    ) -> asyncio.Future[None]:
        if self._closing:
            return failed(Unavailable("The store is closed."))
        if lane is None or lease != lane.lease:
            return failed(Conflict(f"{log} is not ours"))
        if lane.repeats(after, records, ended):
            group = next(self._groups_of(lane), None)
            return group.ack(lane, lease) if group is not None else done()
        return failed(lane.refusal(after))

    def _groups_of(self, lane: Lane) -> Iterator[Group]:
        """The groups that are not stored and have to do with it, the last one first."""
        for group in (lane.group, lane.flight):
            if group is not None:
                yield group

    def _gather(self, lane: Lane) -> Group:
        """The group with which what came of this log goes: behind the one with which it is under way, if it is."""
        flight = lane.flight
        if flight is None:
            group = self._group
            self._arm()
        else:
            group = flight.following = flight.following or Group(self._loop)
        group.add(lane)
        return group

    def _arm(self) -> None:
        """Send in this turn of the loop if the window is closed, else when it closes; or behind one that is under way."""
        if self._due or len(self._flying) >= self._flights:
            return
        self._due = True
        due = self._flushed + GAP * min(1.0, self._rate / GAP_RATE)
        if due <= self._loop.time():
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_at(due, self._flush)

    def _flush(self) -> None:
        group, self._group = self._group, Group(self._loop)
        self._due = False
        now = self._loop.time()
        since, self._flushed = now - self._flushed, now
        self._rate += (len(group.lanes) - self._rate * since) / (RATE_SPAN + since)
        self._flying[group] = self._loop.create_task(self._fly(group, now))

    async def _fly(self, group: Group, now: float) -> None:
        try:
            if group.lanes:
                group.packed = calls.appends(group, self._ttl, now=now)
                answers = await self._persist(partial(self._send, group.packed))
                await self._settle(group, answers)
            else:  # all of them were forgotten meanwhile
                group.settle()
        except StoreError as error:
            self._fail(group, error)
        except Exception:  # somebody appended what is no record: fail, but do not stand still
            _log.exception("a group could not be sent")
            self._fail(group, Unavailable())
        finally:
            self._land(group)

    def _land(self, group: Group) -> None:
        del self._flying[group]
        for lane in group.lanes:
            lane.flight = None
        if group.following is not None:
            self._group.absorb(group.following)
        if self._group.lanes:
            self._arm()
        elif self._group.begun and not self._due:  # all of it was forgotten
            self._group.settle()
            self._group = Group(self._loop)

    async def _settle(self, group: Group, answers: Sequence[int]) -> None:
        """Tell all of a group what became of theirs, and show what is stored."""
        refused: Sequence[tuple[Lane, int]] = ()
        if answers.count(1) != len(answers):
            refused = [(lane, answer) for lane, answer in zip(group.lanes, answers, strict=True) if answer != 1]
            await self._refuse([(lane, answer) for lane, answer in refused if lane.error is None])
        for lane, head in group.heads.items():
            lane.head = head
        for lane in group.ended.keys() - {lane for lane, _ in refused}:
            self._ended(lane.name)
            if lane.error is None:
                lane.ended = True
                self.owed.discard(lane.name)
                self._loop.call_later(LINGER, self._let_go, lane)
        group.settle(group.lanes[0].error if refused and len(refused) == len(answers) else None)
        for lane in group.lanes:  # the hot loop
            if lane.error is None:
                lane.call, lane.stored = lane.stored, lane.sent
                lane.sure = True
                if lane.stored > lane.look_at:
                    lane.look(lane.call)  # the last append stays
                bell = lane.bell
                if bell is not None:
                    bell.ring()

    async def _refuse(self, refused: Sequence[tuple[Lane, int]]) -> None:
        lost = await self._persist(partial(self._lost, refused))
        for (lane, _), is_lost in zip(refused, lost, strict=True):
            if is_lost:
                self._give_up(lane, Unavailable(f"Redis has lost records of {lane.name}."))
            else:
                self._give_up(lane, Conflict(f"{lane.name} is not ours any more"))

    def _fail(self, group: Group, error: StoreError) -> None:
        for lane in tuple(group.lanes):
            self._give_up(lane, error)
        group.settle(error)

    def _give_up(self, lane: Lane, error: StoreError) -> None:
        if self.lanes.get(lane.name) is lane:
            self.forget(lane.name, error)

    def _let_go(self, lane: Lane) -> None:
        if self.lanes.get(lane.name) is lane:
            del self.lanes[lane.name]
            self._left(lane)

    async def _persist(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send until there is an answer, or the patience is at its end."""
        return await persist(send, patience=self._patience, closing=lambda: self._closing)
