"""The keeper: ends what dead processes left behind, and drops what is old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.endings import Ending, ending_of
from tidelog.errors import Conflict, Gone, InvalidEvent, StoreError
from tidelog.grammar import Grammar
from tidelog.log import Lease, Record, Tail, control_log, run_log
from tidelog.parts import Parts
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
            await self._store.drop(control_log(name.partition("/")[2]))

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
            grammar, usage = await self._replay(name)
            last = heads.ending(outcome, error, usage)
            epoch = lease.epoch if lease is not None else tail.epoch + 1
            records = _number(tail, epoch, (*grammar.closing(outcome), last))
            ended = heads.ended_head(heads.decode(tail.head), last)
            if lease is not None:
                await self._store.append(name, tail.last, records, lease=lease, head=heads.encode(ended), ended=True)
            elif isinstance(self._store, Leasing):
                await self._store.take(name, tail.last, records, head=heads.encode(ended))
        except (Conflict, Gone):
            return None  # somebody else was first
        log.warning("run %s ended for its owner: %s", name.partition("/")[2], outcome)
        return ending_of(ended, records[-1].seq)

    async def _replay(self, name: str) -> tuple[Grammar, e.TokenUsage]:
        """What is open at the end of the log, and its usage: what was told, and an estimate of what was said since."""
        grammar, parts, usage, after = Grammar(), Parts(), e.TokenUsage(), 0
        while True:
            page = await self._store.read(name, after)
            for record in page.records:
                event = e.decode(record.data)
                if event is not None:
                    with contextlib.suppress(InvalidEvent):  # after events of a later version; an ending must be had
                        grammar.accept(event)
                if isinstance(event, e.Usage):
                    parts.told(event)
                    usage = e.TokenUsage(event.input, event.output, event.source)
                elif isinstance(event, e.TextDelta | e.ReasoningDelta | e.ToolInputDelta):
                    parts.hear(event.json if isinstance(event, e.ToolInputDelta) else event.text)
                after = record.seq
            if not page.more:
                guess = parts.estimate()
                return grammar, usage if guess is None else e.TokenUsage(guess.input, guess.output, guess.source)
            await asyncio.sleep(0)


def _number(tail: Tail, epoch: int, events: tuple[e.Event, ...]) -> list[Record]:
    now = time.time()
    return [Record(tail.last + n, now, e.encode(event), epoch) for n, event in enumerate(events, 1)]
