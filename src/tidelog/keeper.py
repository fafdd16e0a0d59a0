"""The keeper: ends what dead processes left behind, and drops what is old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Conflict, Gone, InvalidEvent, StoreError
from tidelog.grammar import Grammar
from tidelog.log import Lease, Record, Tail, control_log, run_log
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
                    await self._end(name, "interrupted", e.Error.of("interrupted"))
                except msgspec.DecodeError:
                    log.exception("run %s cannot be ended for its owner", name.partition("/")[2])

    async def expire(self) -> None:
        """Drop what ended longer than `retention` ago."""
        if self._retention is None or not isinstance(self._store, Expiring):
            return
        for name in await self._store.expire(time.time() - self._retention):
            await self._store.drop(control_log(name.partition("/")[2]))

    async def end_lost(self, run: str, error: e.Error, *, lease: Lease) -> bool:
        """Store the ending of a run of this process whose store had failed; False if it still fails."""
        try:
            await self._end(run_log(run), "failed", error, lease=lease)
        except StoreError:
            return False
        return True

    async def _end(self, name: str, outcome: e.Outcome, error: e.Error, *, lease: Lease | None = None) -> None:
        """Close the log legally from wherever it was cut: under our own lease, or by taking it over."""
        tail = await self._store.tail(name)
        if tail is None or tail.ended or lease not in (None, (tail.owner, tail.epoch)):
            return
        try:
            grammar, usage = await self._replay(name)
            last = heads.ending(outcome, error, usage)
            epoch = lease.epoch if lease is not None else tail.epoch + 1
            records = _number(tail, epoch, (*grammar.closing(outcome), last))
            head = heads.encode(heads.ended_head(heads.decode(tail.head), last))
            if lease is not None:
                await self._store.append(name, tail.last, records, lease=lease, head=head, ended=True)
            elif isinstance(self._store, Leasing):
                await self._store.take(name, tail.last, records, head=head)
            log.warning("run %s ended for its owner: %s", name.partition("/")[2], outcome)
        except (Conflict, Gone):
            pass  # somebody else was first

    async def _replay(self, name: str) -> tuple[Grammar, e.TokenUsage]:
        grammar, usage, after = Grammar(), e.TokenUsage(), 0
        while True:
            page = await self._store.read(name, after)
            for record in page.records:
                event = e.decode(record.data)
                if event is not None:
                    with contextlib.suppress(InvalidEvent):  # after events of a later version; an ending must be had
                        grammar.accept(event)
                if isinstance(event, e.Usage):
                    usage = e.TokenUsage(event.input, event.output, event.source)
                after = record.seq
            if not page.more:
                return grammar, usage
            await asyncio.sleep(0)


def _number(tail: Tail, epoch: int, events: tuple[e.Event, ...]) -> list[Record]:
    now = time.time()
    return [Record(tail.last + n, now, e.encode(event), epoch) for n, event in enumerate(events, 1)]
