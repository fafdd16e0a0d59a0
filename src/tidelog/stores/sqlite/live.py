"""A log that this process writes: its last records in memory, and what of them is stored and chunked."""

from __future__ import annotations

from collections.abc import Sequence

from tidelog.log import Lease, Record
from tidelog.stores.sqlite.blocks import SEQ_BITS, encode, pack_whose
from tidelog.window import OwnWindow

Chunk = tuple[int, int, int, bytes]
"""A row of the table: id, count, epoch, data."""


class Live(OwnWindow):
    """The window of one log: `records` begins behind `base` and holds at least what is not chunked and the last append.

    base <= chunked <= stored <= sent <= last. `read` shows what is stored; up to `sent` a commit is in flight, up to `last`
    the next one gathers.
    """

    __slots__ = (
        "block_bytes", "blocks", "bytes", "chunked", "epoch", "group", "id", "mark", "number", "since", "whose",
    )  # fmt: skip

    def __init__(
        self, name: str, mark: int, row: int, *, lease: Lease, head: bytes, base: int, records: Sequence[Record]
    ) -> None:
        super().__init__(name, lease, head=head, base=base, records=records)
        self.mark = mark
        self.id = row
        self.epoch = lease.epoch
        self.whose = pack_whose(mark, row, lease.epoch)
        self.group = 0
        """The number of the last group commit that has to do with it."""
        self.chunked = self.stored
        self.bytes = 0
        """About the size of what is in `records` and chunked."""
        self.blocks: list[bytes] = []
        """What is not chunked, encoded."""
        self.block_bytes = 0
        self.number = 0
        """The group commit that holds the first of `blocks`."""
        self.since = 0.0

    def cut(self, last: int) -> None:
        """Forget everything behind this record; nothing of it is stored."""
        del self.records[last - self.base :]
        self.last = self.sent = last
        self.closed = self.ended
        self.group = 0

    def rollback(self) -> None:
        """Forget what gathers and what is in flight."""
        self.cut(self.stored)
        rest = self.records[self.chunked - self.base :]
        self.blocks = [encode(rest)] if rest else []
        self.block_bytes = sum(map(len, self.blocks))

    def chunk(self) -> Chunk:
        """The row that holds all of `blocks`."""
        first, records = self.chunked + 1, self.sent - self.chunked
        return self.id << SEQ_BITS | first, records, self.epoch, b"".join(self.blocks)

    def chunked_all(self) -> None:
        """What is stored is chunked now: memory may let go of it, except for the last append."""
        self.chunked = last = self.stored
        self.bytes += self.block_bytes
        self.blocks.clear()
        self.block_bytes = 0
        self.bytes = self.shrink(self.bytes, min(self.call, last - 1))  # not of the last append, nor of the last record
