"""A log that this process writes: what of it gathers, what is on its way, and its end in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from tidelog.errors import StoreError
from tidelog.log import Lease, Record
from tidelog.stores.redis.blocks import encode
from tidelog.stores.redis.keys import LogKeys
from tidelog.window import OwnWindow

WINDOW_RECORDS: Final = 1024
"""Stored records beyond which half of them leave the memory."""


class Birth(NamedTuple):
    """What a log was opened with."""

    principal: str
    key: str
    records: int
    block: bytes


class Lane(OwnWindow):
    """Up to `sent` a flush is under way, up to `last` one gathers."""

    __slots__ = ("birth", "done", "flying", "given", "keys", "known", "life", "sure")

    def __init__(self, name: str, keys: LogKeys, lease: Lease, *, base: int, records: Sequence[Record] = ()) -> None:
        super().__init__(name, lease, head=b"", base=base, records=records)
        self.keys = keys
        self.given: bytes | None = None
        """A head that gathers."""
        self.done: asyncio.Future[None] | None = None
        """Of what gathers."""
        self.flying: asyncio.Future[None] | None = None
        """Of what is under way."""
        self.known = False
        """Whether `head` is that of the store: of a log that was not opened here, it is not."""
        self.sure = False
        """Whether what is `stored` is known to have been: if Redis has less, it has lost it."""
        self.birth: Birth | None = None
        """How it was opened, where that was here."""
        self.life = ""
        """The life of Redis in which it came here."""

    def take_off(self) -> Flush:
        """What gathers is under way now."""
        found = Flush(self)
        self.sent = self.last
        self.flying, self.done, self.given = self.done, None, None
        return found

    def landed(self, flush: Flush) -> None:
        """It is stored: show it."""
        if flush.count:
            self.call = flush.after
        self.sure = True
        self.stored = flush.after + flush.count
        if flush.head is not None:
            self.head = flush.head
        if flush.ended:
            self.ended = True
        self._settle(None)
        if self.stored - self.base > WINDOW_RECORDS:
            cut = min(WINDOW_RECORDS // 2, self.call - self.base)
            if cut > 0:
                del self.records[:cut]
                self.base += cut
        self.ring()

    def fail(self, error: StoreError) -> None:
        """Nothing that is not stored will be: whoever writes is told."""
        live = not self.ended
        self.closed = True
        self._settle(error)
        self.flying, self.done = self.done, None
        self._settle(error)
        if live:
            self.lease.tell(error)
        self.ring()

    def _settle(self, error: StoreError | None) -> None:
        future, self.flying = self.flying, None
        if future is None:
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # not everybody waits for an append: who wrote is told by the lease


class Flush:
    """What gathered of one log, as it is sent, and sent again where nobody knows what came of it."""

    __slots__ = ("after", "block", "count", "ended", "head", "lane")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.after = lane.sent
        self.count = lane.last - lane.sent
        self.block = encode(lane.records[lane.sent - lane.base :])
        self.head = lane.given
        self.ended = lane.closed
