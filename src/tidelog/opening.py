"""Opening the log of a new run: under its idempotency key, and in its thread."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple, NoReturn

from tidelog import control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.asking import head_of
from tidelog.bell import Bell
from tidelog.errors import Gone, Mismatch, Overloaded, StoreError
from tidelog.head import Head
from tidelog.launch import Launch, begin
from tidelog.log import Record, control_log, run_log
from tidelog.patience import patiently
from tidelog.run import Opener
from tidelog.seams import Store

TRIES: Final = 3
"""How often a start is tried again whose idempotency key found a run that was dropped meanwhile."""


class Opened(NamedTuple):
    """A new log. `opener` opens the source, unless the run could not join its thread; `bell` is that of its control log."""

    head: Head
    first: e.RunStarted
    opener: Opener
    bell: Bell
    unjoined: StoreError | None = None
    """Why it could not join."""


async def open_run(
    store: Store, launch: Launch, *, refused: Overloaded | None = None, tries: int = TRIES
) -> Opened | Head:
    """Store `run.started`; or the head of the run that this idempotency key has started before.

    `refused`: there is no room for one more run, and it is raised unless the key leads to one. Raises `Mismatch` for a key of
    another request, and for a thread in which another run is at work (`thread_busy`).
    """
    if launch.thread is not None and not launch.concurrent and launch.key is None:  # a key may find the run at work
        busy = partial(threads.busy, store, launch.thread, launch.principal)
        _refuse(await patiently(store, busy, "a start"))
    made, first = begin(launch)
    name = run_log(made.run)
    waits = (e.RunState(state="queued"),) if made.for_a_worker else ()
    records = [Record(n, made.created, e.encode(event)) for n, event in enumerate((first, *waits), 1)]
    bell = store.changed(control_log(made.run))
    won = await store.open(
        name, heads.encode(made), records=records, principal=launch.principal or "",
        key=launch.key, fingerprint=launch.fingerprint, entry=_first_of_thread(made) if launch.thread is None else None,
    )  # fmt: skip
    if won != name:
        return await _found(store, won.partition("/")[2], launch, refused, tries)
    if refused is not None:
        await patiently(store, partial(store.drop, name), f"run {made.run}")
        raise refused
    opener, unjoined = launch.opener, None
    if launch.thread is not None:
        try:
            await patiently(store, partial(_join, store, made, launch), f"run {made.run}")
        except StoreError as error:  # the log is open: it must have its ending
            opener, unjoined = partial(_raise, error), error
    return Opened(made, first, opener, bell, unjoined)


def _first_of_thread(made: Head) -> tuple[str, bytes]:
    """The entry of a run in a thread of its own, which nobody else knows yet: nobody can be at work there."""
    return threads.posted(made.thread, made.principal, threads.entry_of(made))


async def _join(store: Store, made: Head, launch: Launch) -> None:
    """Put the run into its thread. Raises `Mismatch` (`thread_busy`) where another one is at work, and forgets this one.

    Everybody posts first and reads then, so of two that start at once, in whatever processes, both see the one that the
    store put first, and only that one goes on. A run whose process died is at work until it is reaped. Many times are as once.
    """
    place = await threads.add(store, made.thread, made.principal, threads.entry_of(made, concurrent=launch.concurrent))
    if launch.concurrent:
        return
    other = await threads.busy(store, made.thread, made.principal, before=place, of=launch.of)
    if other is not None:
        await store.drop(run_log(made.run))
        _refuse(other)


async def announce(store: Store, launch: Launch, run: str) -> None:
    """Have the run name this one that it retries or continues, if any: to be done beside it. Many times are as once."""
    if launch.of is not None and launch.mode is not None:
        said = control.encode(control.Succeeded(by=run, mode=launch.mode))
        await patiently(store, partial(store.post, control_log(launch.of), said, once=True), f"run {run}")


async def _found(store: Store, run: str, launch: Launch, refused: Overloaded | None, tries: int) -> Opened | Head:
    """The run of this key. One that its thread does not let in is dropped any moment, and its key is free again."""
    try:
        return await patiently(store, partial(_let_in, store, run, launch), "a start")
    except Gone as gone:
        if gone.code != "not_found" or not tries:
            raise
        return await open_run(store, launch, refused=refused, tries=tries - 1)


async def _let_in(store: Store, run: str, launch: Launch) -> Head:
    """The head of a run that was there before. Raises `Gone`, and `Mismatch` (`thread_busy`) where its thread keeps it out."""
    head = await head_of(store, run)
    if launch.thread is not None and not launch.concurrent and head.ended is None:
        _refuse(await threads.kept_out(store, head.thread, head.principal, run))
        head = await head_of(store, run)
    return head


def _refuse(busy: str | None) -> None:
    if busy is not None:
        raise Mismatch(code="thread_busy", run=busy)


def _raise(error: Exception) -> NoReturn:
    raise error
