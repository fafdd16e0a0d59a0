"""Threads: the runs of a conversation in order, and what the user said to each.

A thread is a log that many may post to, and it belongs to a principal. It names the runs alone: what the user said is kept in
the head of the run that answers it, stored in one step with the run's first record, and goes with the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Literal

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.bell import Waiter
from tidelog.errors import Gone
from tidelog.head import Head
from tidelog.log import Tail, run_log, thread_log
from tidelog.seams import Store

LOOK_BACK: Final = 64
"""The newest entries among which a run that is at work is looked for."""
JOIN_TIMEOUT: Final = 1.0
"""Seconds for which a run that was just opened is waited for in its thread."""
MESSAGES: Final = 200
"""Messages of a thread that one look gives, the newest."""
HISTORY: Final = 32_000
"""Characters of a thread that a model is given, the newest."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="thread.run"):
    """A run of the thread; `of` and `mode` where it retries or continues another. Whoever watches the thread sees it as it is."""

    run: str
    of: str | None = None
    mode: e.Mode | None = None
    concurrent: bool = False
    """It was let in without a look at the others."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody said in a thread. `run` is the run that answers, or answered; `id` is the answer's message id."""

    role: Literal["user", "assistant"]
    content: str
    run: str
    id: str | None = None
    state: e.State | None = None
    outcome: e.Outcome | None = None


_decoder = msgspec.json.Decoder(Entry)


def entry_of(head: Head, *, concurrent: bool = False) -> Entry:
    """The entry of this run."""
    return Entry(head.run, head.of, head.mode, concurrent)


async def add(store: Store, thread: str, principal: str | None, entry: Entry) -> int:
    """Put the run at the end of the thread, which is created at need; the place that it got, from 1 on.

    Many times are as once: where the entry is there already, it stays where it is.
    """
    return await store.post(*posted(thread, principal, entry), once=True)


def posted(thread: str, principal: str | None, entry: Entry) -> tuple[str, bytes]:
    """What `add` posts, and to which log."""
    return thread_log(thread, principal), msgspec.json.encode(entry)


async def entries(store: Store, thread: str, principal: str | None) -> Sequence[Entry]:
    """The runs of the thread in order; empty for a thread that this principal does not have."""
    return await _entries(store, thread_log(thread, principal), 0)


async def busy(
    store: Store, thread: str, principal: str | None, *, before: int | None = None, of: str | None = None
) -> str | None:
    """The run that is at work in the thread, of those that stand before this place; None if there is none.

    `of`: a run that does not count, for the one that is looked for is to take its place.
    """
    log = thread_log(thread, principal)
    if before is None:
        tail = await store.tail(log)
        before = tail.last + 1 if tail is not None else 1
    start, found = max(0, before - 1 - LOOK_BACK), None
    for entry in reversed((await _entries(store, log, start))[: before - 1 - start]):
        run = await _find(store, entry.run) if entry.run != of else None
        if run is not None and run[0].ended is None:
            found = entry.run
        elif run is not None and not entry.concurrent:
            break  # when this one was let in, all before it had ended
    return found


async def kept_out(store: Store, thread: str, principal: str | None, run: str) -> str | None:
    """The run that keeps this one out of the thread, where it was put without a look at the others; None if it is let in.

    Waits up to JOIN_TIMEOUT for its entry, which whoever opened its log posts next.
    """
    loop, waiter, bell = asyncio.get_running_loop(), Waiter(), store.changed(thread_log(thread, principal))
    until = loop.time() + JOIN_TIMEOUT
    bell.add(waiter.wake)
    try:
        while True:
            waiter.woken = False
            for place, entry in enumerate(await entries(store, thread, principal), 1):
                if entry.run == run:
                    if entry.concurrent:
                        return None
                    return await busy(store, thread, principal, before=place, of=entry.of)
            if (left := until - loop.time()) <= 0:
                return None
            await waiter.wait(left)
    finally:
        waiter.close()
        bell.discard(waiter.wake)


async def exchanges(
    store: Store, thread: str, principal: str | None, *, before: str | None = None
) -> AsyncIterator[tuple[Head, Tail]]:
    """The runs that count, newest first: of a run and those that retried or continued it, the latest that is still there.

    With `before`, those only that come before this run, or before the one that it takes the place of.
    """
    for group in reversed(_groups(await entries(store, thread, principal), before)):
        for run in reversed(group):
            if (found := await _find(store, run)) is not None:
                yield found
                break


async def messages(store: Store, thread: str, principal: str | None, *, limit: int = MESSAGES) -> list[Message]:
    """What was said in the thread, in order; of a longer one the newest."""
    found: list[Message] = []
    async for head, _ in exchanges(store, thread, principal):
        text = await text_of(store, head.run)
        found.append(Message("assistant", text, head.run, head.message, head.state, head.outcome))
        if head.said is not None:
            found.append(Message("user", head.said, head.run))
        if len(found) >= limit:
            break
    return found[:limit][::-1]


async def history(
    store: Store,
    thread: str,
    principal: str | None,
    *,
    chars: int = HISTORY,
    now: Head | None = None,
    partial: str = "",
) -> list[dict[str, str]]:
    """What was said, in order, as a model takes it: at most `chars` characters, the newest, in whole messages.

    `now` is the run that asks, which may not be in the thread yet: what comes behind it is left out, and its own answer is
    `partial`. Empty messages are left out, and answers to questions that did not fit. The newest message is always there, at
    need only its end. Raises `ValueError` for `chars` below 1.
    """
    if chars < 1:
        raise ValueError("chars must be at least 1.")
    found, left = list[dict[str, str]](), chars
    async for role, content in _said(store, thread, principal, now, partial):
        if content and (len(content) <= left or not found):
            found.append({"role": role, "content": content[-left:]})
            left -= len(found[-1]["content"])
        elif content:
            break
    while found[-1:] and found[-1]["role"] == "assistant" and any(one["role"] == "user" for one in found):
        found.pop()
    return found[::-1]


async def text_of(store: Store, run: str) -> str:
    """The text of a run so far; empty for one that is not there."""
    pieces, after, more = list[str](), 0, True
    try:
        while more:
            page = await store.read(run_log(run), after)
            more = page.more
            for record in page.records:
                event, after = e.decode(record.data), record.seq
                if isinstance(event, e.TextDelta | e.TextSnapshot):
                    pieces.append(event.text)
            await asyncio.sleep(0)
    except Gone:
        return ""
    return "".join(pieces)


async def drop(store: Store, thread: str, principal: str | None) -> None:
    """Forget the thread; its runs are the caller's to drop."""
    await store.drop(thread_log(thread, principal))


async def _said(
    store: Store, thread: str, principal: str | None, now: Head | None, partial: str
) -> AsyncIterator[tuple[str, str]]:
    """Roles and words, newest first."""
    if now is not None:
        yield "assistant", partial
        yield "user", now.said or ""
    async for head, _ in exchanges(store, thread, principal, before=now.run if now is not None else None):
        yield "assistant", await text_of(store, head.run)
        yield "user", head.said or ""


def _groups(found: Iterable[Entry], before: str | None) -> list[list[str]]:
    """Each run that was no other's successor with all its successors, in order."""
    roots, groups = dict[str, str](), dict[str, list[str]]()
    for entry in found:
        root = roots.get(entry.of, entry.of) if entry.of is not None else entry.run
        roots[entry.run] = root
        groups.setdefault(root, []).append(entry.run)
    ordered = list(groups)
    if before is not None and before in roots:
        ordered = ordered[: ordered.index(roots[before])]
    return [groups[root] for root in ordered]


async def _find(store: Store, run: str) -> tuple[Head, Tail] | None:
    try:
        tail = await store.tail(run_log(run))
    except Gone:
        return None
    return (heads.decode(tail.head), tail) if tail is not None else None


async def _entries(store: Store, log: str, after: int) -> list[Entry]:
    found = list[Entry]()
    try:
        while True:
            page = await store.read(log, after)
            found.extend(_decoder.decode(record.data) for record in page.records)
            if not page.more:
                return found
            after = page.records[-1].seq
    except Gone:
        return []
