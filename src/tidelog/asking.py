"""Asking something of a run, wherever its owner is, and telling the truth of what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tidelog import control
from tidelog import head as heads
from tidelog.bell import Waiter
from tidelog.control import Control
from tidelog.errors import Gone
from tidelog.head import Head
from tidelog.log import control_log, run_log
from tidelog.seams import Store

PATIENCE: Final = 5.0
"""Seconds for which the owner of a run is waited for."""


async def head_of(store: Store, run: str) -> Head:
    """The head of a run. Raises `Gone` for one that is not there."""
    tail = await store.tail(run_log(run))
    if tail is None:
        raise Gone(code="not_found")
    return heads.decode(tail.head)


async def stop(store: Store, run: str, patience: float = PATIENCE) -> str:
    """Stop the run; what came of it: `stopped`, `already_ended` or `stopping`. Raises `Gone` for a run that is not there."""
    if (await head_of(store, run)).ended is not None:
        return "already_ended"
    head = await ask(store, run, control.Stop(), until=lambda head: head.ended is not None, patience=patience)
    if head.outcome is None:
        return "stopping"
    return "stopped" if head.outcome == "stopped" else "already_ended"


async def ask(
    store: Store, run: str, what: Control, *, until: Callable[[Head], bool], patience: float = PATIENCE
) -> Head:
    """Ask this of the owner; the head once `until` holds, or as it is after `patience` seconds. Raises `Gone`."""
    await store.post(control_log(run), control.encode(what))
    loop, waiter = asyncio.get_running_loop(), Waiter()
    give_up_at, bell = loop.time() + patience, store.changed(run_log(run))
    bell.add(waiter.wake)
    try:
        while True:
            waiter.woken = False
            head = await head_of(store, run)
            left = give_up_at - loop.time()
            if until(head) or left <= 0:
                return head
            await waiter.wait(left)
    finally:
        waiter.close()
        bell.discard(waiter.wake)
