"""What this process appends: gathered while a flush is under way, then sent for all logs together.

A flush that got no answer is sent again as it is: the script knows it by its place, count and content. While Redis is away what
was given waits, and whoever writes pauses its source; after `patience` seconds the runs are told that the store is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from tidelog.errors import Conflict, StoreError, Unavailable
from tidelog.log import Lease, Record
from tidelog.stored import Stored, done, failed
from tidelog.stores.redis.lane import Flush, Lane

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two tries."""
LINGER: Final = 10.0
"""Seconds for which an ended log stays in memory for those who still read its end."""

_log = logging.getLogger("tidelog.stores.redis")

T = TypeVar("T")

GONE, CONFLICT, LOST = 0, -1, -2
"""What else the script that appends may answer than 1: see there."""

Send = Callable[[Sequence[Flush]], Awaitable[Sequence[int]]]
"""Sends flushes and gives the scripts' answers. Raises `Unavailable`, as if nothing were known of any of them."""
Lost = Callable[[Sequence[tuple[Lane, int]]], Awaitable[Sequence[bool]]]
"""Given logs that Redis has not, or not whole, with its answers: whether it has lost them; else others took or dropped them.

What is lost stands under a new epoch then, from where Redis stands. Raises `Unavailable`.
"""


class Flow:
    """`lanes` holds the logs that this process writes, by name. `left` is called for one that it writes no more."""

    def __init__(
        self, send: Send, make: Callable[[str, Lease, int], Lane], owner: str, *, patience: float, lost: Lost,
        left: Callable[[Lane], None],
    ) -> None:  # fmt: skip
        self.lanes: dict[str, Lane] = {}
        self.owed: set[str] = set()
        """Logs whose writer was told that the store has failed it: it will end them."""
        self._send = send
        self._make = make
        self._lost = lost
        self._left = left
        self._owner = owner
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[Lane, None] = {}
        self._flight: asyncio.Task[None] | None = None
        self._closing = False

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        """See `Store.append`. A log that is not known here is Redis' to judge."""
        lane = self.lanes.get(log)
        if lane is None:
            if self._closing:
                return failed(Unavailable("The store is closed."))
            if lease.owner != self._owner:
                return failed(Conflict(f"{log} is not ours"))
            lane = self.lanes[log] = self._make(log, lease, after)
        if after != lane.last or lane.closed or lease != lane.lease or self._closing:
            return self._decline(lane, after, records, lease, ended)
        if records and records[-1].seq != after + len(records):
            return failed(Conflict(f"{log}: the records are not numbered from {after + 1} on"))
        lane.lease = lease  # who is told if this is lost
        lane.records += records
        lane.last = after + len(records)
        if head is not None:
            lane.given = head
        if ended:
            lane.closed, lane.end = True, after
        if lane.done is None:
            lane.done = Stored(loop=self._loop)
            self._dirty[lane] = None
            if self._flight is None:
                self._flight = self._loop.create_task(self._fly())
        return lane.done

    def forget(self, log: str, error: StoreError | None = None) -> None:
        """The log is dropped, or somebody else's."""
        lane = self.lanes.pop(log, None)
        if lane is not None:
            self._dirty.pop(lane, None)
            if isinstance(error, Unavailable) and not lane.ended:
                self.owed.add(log)
            lane.fail(error or Conflict(f"{log} was dropped"))
            self._left(lane)

    async def settled(self, lane: Lane) -> None:
        """Once all that was given of a log is stored. Raises what became of it instead."""
        while (under_way := lane.done or lane.flying) is not None:
            await asyncio.wait((under_way,))
            under_way.result()

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
            elif lane.done is None and not lane.closed:
                lane.done = Stored(loop=self._loop)
                self._dirty[lane] = None
        if self._dirty and self._flight is None and not self._closing:
            self._flight = self._loop.create_task(self._fly())
        return ended

    def lose(self) -> None:
        """All logs are somebody else's now."""
        for log in tuple(self.lanes):
            self.forget(log, Conflict("This process was declared dead."))

    async def close(self) -> None:
        """Store what gathers, and take nothing more."""
        self._closing = True
        if self._flight is not None:
            await asyncio.wait((self._flight,))

    def _decline(
        self, lane: Lane, after: int, records: Sequence[Record], lease: Lease, ended: bool
    ) -> asyncio.Future[None]:
        if self._closing:
            return failed(Unavailable("The store is closed."))
        if lease != lane.lease:
            return failed(Conflict(f"{lane.name} is not ours"))
        if lane.repeats(after, records, ended):
            return lane.done or lane.flying or done()
        return failed(lane.refusal(after))

    async def _fly(self) -> None:
        await asyncio.sleep(0)  # what else is appended in this turn goes along
        while self._dirty:
            lanes, self._dirty = tuple(self._dirty), {}
            flushes = [lane.take_off() for lane in lanes]
            try:
                answers = await self._persist(partial(self._send, flushes))
                refused: list[tuple[Lane, int]] = []
                for flush, answer in zip(flushes, answers, strict=True):
                    if self.lanes.get(flush.lane.name) is not flush.lane:
                        pass  # forgotten meanwhile
                    elif answer == 1:
                        self._land(flush)
                    else:
                        refused.append((flush.lane, answer))
                if refused:
                    await self._refuse(refused)
            except StoreError as error:
                for lane in lanes:
                    if lane.flying is not None:
                        self._give_up(lane, error)
        self._flight = None

    def _land(self, flush: Flush) -> None:
        flush.lane.landed(flush)
        if flush.ended:
            self.owed.discard(flush.lane.name)
            self._loop.call_later(LINGER, self._let_go, flush.lane)

    async def _refuse(self, refused: Sequence[tuple[Lane, int]]) -> None:
        lost = await self._persist(partial(self._lost, refused))
        for (lane, _), is_lost in zip(refused, lost, strict=True):
            if is_lost:
                self._give_up(lane, Unavailable(f"Redis has lost records of {lane.name}."))
            else:
                self._give_up(lane, Conflict(f"{lane.name} is not ours any more"))

    def _give_up(self, lane: Lane, error: StoreError) -> None:
        if self.lanes.get(lane.name) is lane:
            self.forget(lane.name, error)

    def _let_go(self, lane: Lane) -> None:
        if self.lanes.get(lane.name) is lane:
            del self.lanes[lane.name]
            self._left(lane)

    async def _persist(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send until there is an answer, or the patience is at its end."""
        give_up_at, wait = self._loop.time() + self._patience, FIRST_WAIT
        while True:
            try:
                async with asyncio.timeout_at(give_up_at if not self._closing else None):
                    return await send()
            except TimeoutError as error:
                raise Unavailable("Redis does not answer: store_patience is over") from error
            except Unavailable as error:
                if self._closing or self._loop.time() + wait > give_up_at:
                    raise
                _log.warning("Redis did not answer, will try again: %s", error)
            await asyncio.sleep(wait)
            wait = min(LONGEST_WAIT, wait * 2)
