"""The keeper: ends what dead processes left behind, and drops what is old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from math import inf
from typing import Final

from tidelog import events as e
from tidelog import head as heads
from tidelog.endings import Ending, OnEnd, ending_of
from tidelog.errors import Conflict, Gone, StoreError
from tidelog.head import Head
from tidelog.log import Lease, Tail, control_log, feed_log, run_log
from tidelog.replay import replay
from tidelog.seams import Expiring, Leasing, Parking, Store
from tidelog.taking import number

log = logging.getLogger("tidelog")

RETRY_ENDING: Final = 1.0
"""Seconds between attempts to store an ending that the store refused."""
LEASE_PATIENCE: Final = 8.0
"""Seconds for which a process's lease must stand still before its runs are ended."""
RETENTION: Final = 7 * 24 * 3600.0
"""Seconds for which ended runs are kept."""
AT_ONCE: Final = 16
"""Runs of dead processes that are settled at once."""
EXPIRE_EVERY: Final = 600.0
LOOK_EVERY: Final = 60.0
"""Seconds between two looks at every parked run, due or not: who answered one may have died before it was heard."""


class Keeper:
    """Looks around every quarter of `lease_patience`. `retention` None keeps runs for ever."""

    def __init__(
        self, store: Store, *, lease_patience: float = LEASE_PATIENCE, retention: float | None = RETENTION
    ) -> None:
        self._store = store
        self._patience = lease_patience
        self._retention = retention
        self.reaped: Callable[[OnEnd | None, Ending], None] | None = None
        """Called for each run without a living owner that this process has ended, with the `on_end` declared for it."""
        self.reaping: Callable[[float], Awaitable[None]] = _nothing
        """Called at every look, with the patience that dead processes are given: for what else they have left."""
        self.adopt: Callable[[Tail, Head], Awaitable[None]] = _nothing
        """Called for each run of a dead process whose producer goes on: until somebody takes it, at every look."""
        self.again: Callable[[Tail, Head], Awaitable[None]] = _nothing
        """Called for each run of a dead process that is a worker's to begin, or to begin again."""
        self.wake: Callable[[str, float | None], Awaitable[None]] = _nothing
        """Called for each parked run that should be looked at, with the time at which it was due, if that has come."""

    async def work(self) -> None:
        """For ever; a store that fails is tried again."""
        expire_at = look_at = 0.0
        while True:
            try:
                await self.reap()
                await self.reaping(self._patience)
                if time.monotonic() < look_at:
                    await self.look(time.time())
                else:
                    look_at = time.monotonic() + LOOK_EVERY
                    await self.look(inf)
                if time.monotonic() >= expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY
                    await self.expire()
            except StoreError as error:
                log.warning("tidelog: looking after old runs failed, will try again: %s", error)
            await asyncio.sleep(self._patience / 4)

    async def reap(self) -> None:
        """Settle what becomes of the runs of dead owners."""
        if not isinstance(self._store, Leasing):
            return
        names = [name for name in await self._store.orphans(self._patience) if name.startswith("run/")]
        random.shuffle(names)  # others have found them, too, and are best at work on other ones
        for start in range(0, len(names), AT_ONCE):
            settling = map(self._see_to, names[start : start + AT_ONCE])
            for failed in filter(None, await asyncio.gather(*settling, return_exceptions=True)):
                raise failed

    async def look(self, due: float) -> None:
        """Look at the parked runs that are due at this Unix time."""
        if isinstance(self._store, Parking):
            for name, at in await self._store.parked(due):
                with _passing_over(name):
                    await self.wake(name.partition("/")[2], at if due < inf else None)

    async def end_unowned(
        self, run: str, outcome: e.Outcome, error: e.Error | None, *,
        before: Sequence[e.Event] = (), on_end: OnEnd | None = None,
    ) -> bool:  # fmt: skip
        """End a run that no living process owns, unless somebody else is first; `before` comes first. Whether it was us."""
        ended = await self._end(run_log(run), outcome, error, before=before)
        if ended is not None and self.reaped is not None:
            self.reaped(on_end, ended)
        return ended is not None

    async def expire(self) -> None:
        """Drop what ended longer than `retention` ago."""
        if self._retention is None or not isinstance(self._store, Expiring):
            return
        for name in await self._store.expire(time.time() - self._retention):
            for beside in (control_log, feed_log):
                await self._store.drop(beside(name.partition("/")[2]))

    async def end_lost(self, run: str, error: e.Error, *, lease: Lease) -> Ending | None:
        """Store the ending of a run of this process whose store had failed; None if somebody else has ended it, or dropped it.

        `lease` is what the run had; a store that has lost records of ours has raised the epoch since. An ending that the store
        kept, and reported as failed, is ours: it is told as it is stored. Raises `StoreError` if the store still fails, and if
        what was under way has reached it only now.
        """
        return await self._end(run_log(run), "failed", error, lease=lease)

    async def end_owed(self, run: str, error: e.Error, *, lease: Lease) -> Ending | None:
        """`end_lost`, until the store takes it."""
        while True:
            try:
                return await self.end_lost(run, error, lease=lease)
            except StoreError:
                await asyncio.sleep(RETRY_ENDING)

    async def _see_to(self, name: str) -> None:
        """Settle it, unless nobody can read what it is."""
        with _passing_over(name):
            await self._settle(name)

    async def _settle(self, name: str) -> None:
        """What becomes of a dead owner's run: its producer goes on with it, a worker begins, or it is parked, or it ends."""
        tail = await self._store.tail(name)
        if tail is None or tail.ended:
            return
        head = heads.decode(tail.head)
        if head.producer is not None:
            await self.adopt(tail, head)
        elif head.for_a_worker or (head.work is not None and head.work.restart and not head.parkable):
            await self.again(tail, head)
        elif head.parkable:
            await self._park(tail, head)
        else:
            await self.end_unowned(head.run, "interrupted", e.Error.of("interrupted"))

    async def _park(self, tail: Tail, head: Head) -> None:
        """Park the run of a dead owner, which only waited for an answer."""
        assert isinstance(self._store, Parking), "else it could not be parked"
        with contextlib.suppress(Conflict, Gone):  # somebody else was first
            await self._store.take(run_log(head.run), tail.last, (), ended=False, due=head.due, orphan=True)
            log.info("run %s is parked for its owner, who is gone", head.run)
            await self.wake(head.run, None)

    async def _end(
        self, name: str, outcome: e.Outcome, error: e.Error | None, *,
        lease: Lease | None = None, before: Sequence[e.Event] = (),
    ) -> Ending | None:  # fmt: skip
        """Close the log legally from wherever it was cut: under our own lease, or by taking it over. None: it was not us."""
        tail = await self._store.tail(name)
        if tail is None or (lease is not None and (tail.owner != lease.owner or tail.epoch < lease.epoch)):
            return None
        if tail.ended:
            return ending_of(heads.decode(tail.head), tail.last) if lease is not None else None
        try:
            written = await replay(self._store, name, heard=bool(tail.owner))
            if lease is None and written.last != tail.last:
                return None  # somebody else is at it
            for event in before:
                written.grammar.accept(event)
            head = heads.decode(tail.head)
            last = heads.ending(head, outcome, error, written.spent())
            epoch = tail.epoch if lease is not None else tail.epoch + 1
            records = number(tail, epoch, (*before, *written.grammar.closing(outcome), last))
            ended = heads.ended_head(head, last)
            if lease is not None:
                own = Lease(tail.owner, tail.epoch)
                await self._store.append(name, tail.last, records, lease=own, head=heads.encode(ended), ended=True)
            elif isinstance(self._store, Parking):
                await self._store.take(name, tail.last, records, head=heads.encode(ended))
        except Conflict:
            if lease is not None:
                raise
            return None  # somebody else was first
        except Gone:
            return None
        level = logging.WARNING if tail.owner else logging.INFO
        log.log(level, "run %s ended for its owner: %s", name.partition("/")[2], outcome)
        return ending_of(ended, records[-1].seq)


@contextlib.contextmanager
def _passing_over(name: str) -> Iterator[None]:
    """One log that cannot be read, such as a later version's, must not keep the others from being looked after."""
    try:
        yield
    except StoreError:
        raise
    except Exception:
        log.exception("run %s cannot be looked after", name.partition("/")[2])


async def _nothing(*_: object) -> None:
    pass
