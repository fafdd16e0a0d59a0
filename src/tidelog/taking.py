"""Going on in a log that was another process's, or nobody's: it is taken behind the record up to which it was read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from tidelog import events as e
from tidelog import head as heads
from tidelog.admission import Claim
from tidelog.attempts import ATTEMPTS
from tidelog.endings import OnEnd
from tidelog.errors import Conflict
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease, Record, Tail, run_log
from tidelog.questions import PARK_AFTER
from tidelog.replay import Written
from tidelog.seams import Parking
from tidelog.source import Opener


class Taken(NamedTuple):
    """A log that is this process's now, with what is written in it."""

    head: Head
    lease: Lease
    written: Written


class Again(NamedTuple):
    """A run that this process has taken, and how it goes on."""

    taken: Taken
    opener: Opener
    limits: Limits = Limits()
    attempts: int = ATTEMPTS
    on_end: OnEnd | None = None
    park_after: float = PARK_AFTER
    partial: str = ""
    """The text of the run that this one continues, which is not in its log yet."""
    claim: Claim | None = None
    """The slot that it has; None: it was let in long ago, and counts without asking anew."""
    first: bool = False
    """Nobody had begun with it."""


async def take(store: Parking, tail: Tail, head: Head, written: Written, events: Sequence[e.Event]) -> Taken:
    """Become the owner of a log that has no living one: it goes on with this head and these events. `written` was read from it.

    Not to be cancelled: a log that was taken needs its writer. Raises `Conflict` or `Gone` where somebody else was first.
    """
    if written.last != tail.last:
        raise Conflict(f"run {head.run} has gone on")
    for event in events:
        written.grammar.accept(event)
    records = number(tail, tail.epoch + 1, events)
    lease = await store.take(run_log(head.run), tail.last, records, head=heads.encode(head), ended=False)
    size = written.bytes + sum(len(one.data) for one in records)
    return Taken(head, lease, written._replace(last=records[-1].seq, bytes=size))


def number(tail: Tail, epoch: int, events: Sequence[e.Event]) -> list[Record]:
    """These events as the next records of a log that ends there, at this time, of this epoch."""
    now = time.time()
    return [Record(tail.last + n, now, e.encode(event), epoch) for n, event in enumerate(events, 1)]
