"""The end of a log in memory: what stores keep of logs that are written or watched here."""

from __future__ import annotations

from collections.abc import Sequence

from tidelog.log import Record
from tidelog.seams import RECORD_COST, Page


class LogWindow:
    """Implements `seams.Window`: `records` begins behind `base`; those behind `stored` are not to be shown."""

    __slots__ = ("base", "ended", "records", "stored")

    def __init__(self, base: int, records: Sequence[Record] = ()) -> None:
        self.base = base
        self.records = list(records)
        self.stored = base + len(records)
        self.ended = False

    def page(self, after: int, limit: int) -> Page:
        """The stored records behind `after`, which is not before `base`, up to `limit` bytes."""
        start, stop = after - self.base, self.stored - self.base
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
