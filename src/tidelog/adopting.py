"""Taking over a run whose process is gone and whose source is not: an outside producer goes on posting, whoever listens."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.bell import Bell
from tidelog.errors import Conflict
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease, Record, Tail, control_log, run_log
from tidelog.replay import Replayed, replay
from tidelog.seams import Leasing, Store


class Adopted(NamedTuple):
    """A log that is this process's now. `bell` is that of its control log; `limits` are what is left of the run's."""

    head: Head
    lease: Lease
    last: int
    replayed: Replayed
    bell: Bell
    limits: Limits


async def adopt(store: Store, tail: Tail) -> Adopted:
    """Become the owner of this run, which is at work from here on. Raises `Conflict` or `Gone` where somebody else was first."""
    head = msgspec.structs.replace(heads.decode(tail.head), state="running")
    if head.producer is None or not isinstance(store, Leasing):
        raise Conflict(f"run {head.run} has no source that lives on")
    replayed = await replay(store, run_log(head.run))
    bell = store.changed(control_log(head.run))
    event = e.RunState(state="running")
    replayed.grammar.accept(event)
    record = Record(tail.last + 1, time.time(), e.encode(event), tail.epoch + 1)
    lease = await store.take(run_log(head.run), tail.last, (record,), head=heads.encode(head), ended=False)
    limits = head.producer.limits
    left = head.created + limits.total_timeout - time.time()
    return Adopted(head, lease, record.seq, replayed, bell, limits._replace(total_timeout=max(0.0, left)))
