"""Taking over a run whose process is gone and whose source is not: an outside producer goes on posting, whoever listens."""

from __future__ import annotations

import time

import msgspec

from tidelog import events as e
from tidelog.errors import Conflict
from tidelog.head import Head
from tidelog.log import Tail, run_log
from tidelog.parts import Parts
from tidelog.replay import replay
from tidelog.seams import Parking, Store
from tidelog.sources.pushed import pushed
from tidelog.taking import Again, take


async def adopt(store: Store, tail: Tail, head: Head) -> Again:
    """Become the owner of this run, which is at work from here on, or paused as it was; with what is left of its limits.

    Raises `Conflict` or `Gone` where somebody else was first.
    """
    if head.producer is None or not isinstance(store, Parking):
        raise Conflict(f"run {head.run} has no source that lives on")
    state: e.RunningState = "paused" if head.state == "paused" else "running"
    now = msgspec.structs.replace(head, state=state, position=None)
    written = await replay(store, run_log(head.run), heard=False)
    written = written._replace(parts=Parts())  # its producer names parts and tells usage, and tidelog guesses neither
    taken = await take(store, tail, now, written, (e.RunState(state=state),))
    limits = head.producer.limits
    left = head.created + limits.total_timeout - time.time()
    return Again(taken, pushed(store, head.run, written.said), limits._replace(total_timeout=max(0.0, left)))
