"""Asking something of a run, wherever its owner is, and telling the truth of what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tidelog import control
from tidelog import head as heads
from tidelog.bell import Waiter
from tidelog.control import Control
from tidelog.errors import Gone
from tidelog.head import Head
from tidelog.log import Tail, control_log, run_log
from tidelog.seams import Store

PATIENCE: Final = 5.0
"""Seconds for which the owner of a run is waited for."""


Wake = Callable[[str], Awaitable[None]]
"""Looks at a run that was asked something, for the case that nobody owns it: it is parked, and nobody else hears."""


async def head_of(store: Store, run: str) -> Head:
    """The head of a run. Raises `Gone` for one that is not there."""
    return heads.decode((await _tail_of(store, run)).head)


async def _tail_of(store: Store, run: str) -> Tail:
    tail = await store.tail(run_log(run))
    if tail is None:
        raise Gone(code="not_found")
    return tail


async def _nobody(_: str) -> None:
    pass


async def stop(store: Store, run: str, patience: float = PATIENCE, *, wake: Wake = _nobody) -> str:
    """Stop the run; what came of it: `stopped`, `already_ended` or `stopping`. Raises `Gone` for a run that is not there."""
    if (await head_of(store, run)).ended is not None:
        return "already_ended"
    await store.post(control_log(run), control.encode(control.Stop()))
    head = await seen(store, run, lambda head: head.ended is not None, wake=wake, patience=patience)
    if head is None:
        return "stopping"
    return "stopped" if head.outcome == "stopped" else "already_ended"


async def pause(store: Store, run: str, patience: float = PATIENCE) -> str:
    """Pause the run; what came of it: `paused`, `already_paused`, `pausing` or `already_ended`.

    `paused` tells that the owner has obeyed; somebody else may have resumed it since. Where nobody owns the run, because it is
    parked, there is nobody to wait for: who goes on with it will obey. Raises `Gone` for a run that is not there.
    """
    return await _turn(store, run, control.Pause(), ("paused", "already_paused", "pausing"), patience)


async def resume(store: Store, run: str, patience: float = PATIENCE) -> str:
    """Resume the run; what came of it: `resumed`, `not_paused`, `resuming` or `already_ended`. Otherwise as `pause`."""
    return await _turn(store, run, control.Resume(), ("resumed", "not_paused", "resuming"), patience)


async def _turn(store: Store, run: str, what: Control, words: tuple[str, str, str], patience: float) -> str:
    """Asked even of a run that is so already: what somebody asked before may not have been obeyed yet."""
    done, already, doing = words
    wanted = isinstance(what, control.Pause)
    tail = await _tail_of(store, run)
    before = heads.decode(tail.head)
    if before.ended is not None:
        return "already_ended"

    number = await store.post(control_log(run), control.encode(what))

    def obeyed(head: Head) -> bool:
        return head.ended is not None or (head.state == "paused") == wanted or head.asked >= number

    head = await seen(store, run, obeyed, patience=patience if tail.owner else 0.0)
    if head is not None and head.ended is not None and head.asked < number:
        return "already_ended"
    if (before.state == "paused") == wanted:
        return already
    return doing if head is None else done


async def seen(
    store: Store, run: str, until: Callable[[Head], bool], *, wake: Wake = _nobody, patience: float = PATIENCE
) -> Head | None:
    """The head of a run once `until` holds, None if it does not within `patience` seconds. Raises `Gone`.

    `wake` is called whenever nobody owns the run: something was just asked of it, and its owner may be parking it right now.
    """
    loop, waiter = asyncio.get_running_loop(), Waiter()
    give_up_at, bell = loop.time() + patience, store.changed(run_log(run))
    bell.add(waiter.wake)
    try:
        while True:
            waiter.woken = False
            tail = await store.tail(run_log(run))
            if tail is not None and not tail.owner:
                await wake(run)
                tail = await store.tail(run_log(run))
            if tail is None:
                raise Gone(code="not_found")
            head = heads.decode(tail.head)
            if until(head):
                return head
            left = give_up_at - loop.time()
            if left <= 0:
                return None
            await waiter.wait(left)
    finally:
        waiter.close()
        bell.discard(waiter.wake)
