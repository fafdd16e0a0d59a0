"""Threads: the runs of a conversation in order. A thread is a log that many may post to, and it belongs to a principal."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tidelog.errors import Gone
from tidelog.events import Mode
from tidelog.log import thread_log
from tidelog.seams import Store


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of the thread; `of` and `mode` where it retries or continues another."""

    run: str
    of: str | None = None
    mode: Mode | None = None


_decoder = msgspec.json.Decoder(Entry)


async def add(store: Store, thread: str, principal: str | None, entry: Entry) -> None:
    """Put the run at the end of the thread, which is created at need."""
    await store.post(thread_log(thread, principal), msgspec.json.encode(entry))


async def entries(store: Store, thread: str, principal: str | None) -> Sequence[Entry]:
    """The runs of the thread in order; empty for a thread that this principal does not have."""
    log, found, after = thread_log(thread, principal), list[Entry](), 0
    try:
        while True:
            page = await store.read(log, after)
            found.extend(_decoder.decode(record.data) for record in page.records)
            if not page.more:
                return found
            after = page.records[-1].seq
    except Gone:
        return []


async def drop(store: Store, thread: str, principal: str | None) -> None:
    """Forget the thread; its runs are the caller's to drop."""
    await store.drop(thread_log(thread, principal))
