"""The keeper: ends what dead processes left behind, and drops what is old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.endings import Ending, ending_of
from tidelog.errors import Conflict, Gone, StoreError
from tidelog.log import Lease, Record, Tail, control_log, feed_log, run_log
from tidelog.replay import replay
from tidelog.seams import Expiring, Leasing, Store

log = logging.getLogger("tidelog")

LEASE_PATIENCE: Final = 8.0
"""Seconds for which a process's lease must stand still before its runs are ended."""
RETENTION: Final = 7 * 24 * 3600.0
"""Seconds for which ended runs are kept."""
EXPIRE_EVERY: Final = 600.0


class Keeper:
    """Looks around every quarter of `lease_patience`. `retention` None keeps runs for ever."""

    def __init__(
        self, store: Store, *, lease_patience: float = LEASE_PATIENCE, retention: float | None = RETENTION
    ) -> None:
        self._store = store
        self._patience = lease_patience
        self._retention = retention
        self.reaped: Callable[[Ending], None] | None = None
        """Called for each run of a dead process that this one has ended."""
        self.adopt: Callable[[str], Awaitable[bool]] | None = None
        """Called for the log of each run of a dead process: whether it is not to be ended, because its source lives on."""

    async def work(self) -> None:
        """For ever; a store that fails is tried again."""
        expire_at = 0.0
        while True:
            try:
                await self.reap()
                if time.monotonic() >= expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY
                    await self.expire()
            except StoreError as error:
                log.warning("tidelog: looking after old runs failed, will try again: %s", error)
            await asyncio.sleep(self._patience / 4)

    async def reap(self) -> None:
        """End the runs of dead owners as `interrupted`."""
        if not isinstance(self._store, Leasing):
            return
        for name in await self._store.orphans(self._patience):
            if name.startswith("run/"):
                try:
                    if self.adopt is not None and await self.adopt(name):
                        continue
                    ended = await self._end(name, "interrupted", e.Error.of("interrupted"))
                except msgspec.DecodeError:
                    log.exception("run %s cannot be ended for its owner", name.partition("/")[2])
                    continue
                if ended is not None and self.reaped is not None:
                    self.reaped(ended)

    async def expire(self) -> None:
        """Drop what ended longer than `retention` ago."""
        if self._retention is None or not isinstance(self._store, Expiring):
            return
        for name in await self._store.expire(time.time() - self._retention):
            for beside in (control_log, feed_log):
                await self._store.drop(beside(name.partition("/")[2]))

    async def end_lost(self, run: str, error: e.Error, *, lease: Lease) -> Ending | None:
        """Store the ending of a run of this process whose store had failed; None if somebody else has ended it, or dropped it.

        An ending that the store kept, and reported as failed, is ours: it is told as it is stored.
        Raises `StoreError` if the store still fails.
        """
        return await self._end(run_log(run), "failed", error, lease=lease)

    async def _end(self, name: str, outcome: e.Outcome, error: e.Error, *, lease: Lease | None = None) -> Ending | None:
        """Close the log legally from wherever it was cut: under our own lease, or by taking it over. None: it was not us."""
        tail = await self._store.tail(name)
        if tail is None or lease not in (None, Lease(tail.owner, tail.epoch)):
            return None
        if tail.ended:
            return ending_of(heads.decode(tail.head), tail.last) if lease is not None else None
        try:
            grammar, _, usage, _, _ = await replay(self._store, name)
            head = heads.decode(tail.head)
            last = heads.ending(head, outcome, error, usage)
            epoch = lease.epoch if lease is not None else tail.epoch + 1
            records = _number(tail, epoch, (*grammar.closing(outcome), last))
            ended = heads.ended_head(head, last)
            if lease is not None:
                await self._store.append(name, tail.last, records, lease=lease, head=heads.encode(ended), ended=True)
            elif isinstance(self._store, Leasing):
                await self._store.take(name, tail.last, records, head=heads.encode(ended))
        except (Conflict, Gone):
            return None  # somebody else was first
        log.warning("run %s ended for its owner: %s", name.partition("/")[2], outcome)
        return ending_of(ended, records[-1].seq)


def _number(tail: Tail, epoch: int, events: tuple[e.Event, ...]) -> list[Record]:
    now = time.time()
    return [Record(tail.last + n, now, e.encode(event), epoch) for n, event in enumerate(events, 1)]
