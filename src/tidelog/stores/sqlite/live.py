"""A log that this process writes: its last records in memory, and what of them is stored and chunked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidelog.bell import Bell
from tidelog.log import Lease, Record, Tail
from tidelog.seams import RECORD_COST, Page
from tidelog.stores.sqlite.blocks import SEQ_BITS, encode

WINDOW_RECORDS = 1024
WINDOW_BYTES = 256 * 1024
"""What a window may hold once it is chunked; half of it stays."""

Chunk = tuple[int, int, int, bytes]
"""A row of the table: id, count, epoch, data."""


class Live:
    """The window of one log: `records` begins behind `base` and holds at least what is not chunked and the last append.

    base <= chunked <= stored <= last. `read` shows what is stored; `last` counts what is in flight too.
    """

    __slots__ = (
        "base", "bell", "block_bytes", "blocks", "call", "chunked", "closed", "ended", "future", "head", "id", "last", "lease",
        "mark", "name", "number", "records", "since", "size", "stored",
    )  # fmt: skip

    def __init__(self, name: str, mark: int, number: int, *, lease: Lease, head: bytes, base: int, records: Sequence[Record]) -> None:
        self.name = name
        self.mark = mark
        self.id = number
        self.lease = lease
        self.head = head
        self.records = list(records)
        self.base = base
        self.call = -1
        """The last append's `after`, and the future of its group."""
        self.future: asyncio.Future[None]
        self.last = self.stored = self.chunked = base + len(records)
        self.size = sum(len(record.data) for record in records) + RECORD_COST * len(records)
        self.blocks: list[bytes] = []
        """What is not chunked, encoded."""
        self.block_bytes = 0
        self.number = 0
        """The group commit that holds the first of `blocks`."""
        self.since = 0.0
        self.ended = False
        self.closed = False
        """Ended, stored or in flight."""
        self.bell: Bell | None = None

    def page(self, after: int, limit: int) -> Page:
        """The stored records behind `after`, which is not before `base`."""
        start = after - self.base
        stop = self.stored - self.base
        count = stop - start
        if count == 1:
            return Page((self.records[start],), False, self.ended)
        if count <= 0:
            return Page((), False, self.ended)
        taken, size = 0, 0
        for record in self.records[start : min(stop, start + limit // RECORD_COST + 1)]:
            size += len(record.data) + RECORD_COST
            if size > limit and taken:
                break
            taken += 1
        more = taken < count
        return Page(self.records[start : start + taken], more, self.ended and not more)

    def tail(self) -> Tail:
        """Where the stored part ends."""
        return Tail(1, self.stored, self.ended, self.lease.epoch, self.head, self.lease.owner)

    def repeats(self, after: int, records: Sequence[Record], ended: bool) -> bool:
        """Whether this is the last append once more."""
        if after != self.call or len(records) != self.last - after or not (records or (ended and self.closed)):
            return False
        return self.records[after - self.base :] == list(records)

    def ring(self) -> None:
        """Wake whoever waits."""
        bell, self.bell = self.bell, None
        if bell is not None:
            bell.ring()

    def rollback(self) -> None:
        """Forget what is in flight."""
        del self.records[self.stored - self.base :]
        self.last = self.stored
        self.call = -1
        self.closed = self.ended
        self.size = sum(len(record.data) + RECORD_COST for record in self.records)
        rest = self.records[self.chunked - self.base :]
        self.blocks = [encode(rest)] if rest else []
        self.block_bytes = sum(map(len, self.blocks))

    def chunk(self) -> Chunk:
        """The row that holds all of `blocks`."""
        first, count = self.chunked + 1, self.last - self.chunked
        return self.id << SEQ_BITS | first, count, self.lease.epoch, b"".join(self.blocks)

    def chunked_to(self, last: int, blocks: int, size: int) -> None:
        """The first `blocks` are chunked now: memory may let go of their records."""
        self.chunked = last
        del self.blocks[:blocks]
        self.block_bytes -= size
        if self.size > WINDOW_BYTES or len(self.records) > WINDOW_RECORDS:
            self._trim()

    def _trim(self) -> None:
        droppable = min(self.chunked, self.call if self.call >= 0 else self.stored) - self.base
        cut = 0
        while cut < droppable and (self.size > WINDOW_BYTES // 2 or len(self.records) - cut > WINDOW_RECORDS // 2):
            self.size -= len(self.records[cut].data) + RECORD_COST
            cut += 1
        del self.records[:cut]
        self.base += cut
