"""The end of a log in memory: what stores keep of logs that are written or watched here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from tidelog.bell import Bell
from tidelog.errors import Conflict
from tidelog.log import Lease, Record, Tail
from tidelog.seams import Page

WINDOW_RECORDS: Final = 256
WINDOW_BYTES: Final = 64 * 1024
"""What a window holds of records that it may let go of; where there is more, half of this stays."""
ENDED_BYTES: Final = 16 * 1024
"""The same once the log has ended: whoever still reads here is about to have it all."""
SHORTEST: Final = 32
"""Bytes that the data of a record has at least, or counts for."""
CUTS: Final = 1024
"""Ends of pages that a window remembers."""
LOOK_EVERY: Final = 64
"""Records after which `look` is due."""
_NOTHING: Final = Page((), False, False)
_NOWHERE: Final = (-1, 0, 0, False)


class LogWindow:
    """Implements `seams.Window`: `records` begins behind `base`; those behind `stored` are not to be shown."""

    __slots__ = ("_cuts", "_page", "_place", "base", "ended", "look_at", "records", "stored")

    def __init__(self, base: int, records: Sequence[Record] = ()) -> None:
        self.base = base
        self.records = list(records)
        self.stored = base + len(records)
        self.ended = False
        self.look_at = self.stored + LOOK_EVERY
        self._place = _NOWHERE
        """Where the last long page was read: who stands at the same place gets the same one."""
        self._page = _NOTHING
        self._cuts: dict[tuple[int, int], int] = {}
        """Where pages end that are full, by where they begin and their limit: many take a long log in the same pages."""

    def page(self, after: int, limit: int) -> Page:
        """The stored records behind `after`, which is not before `base`, up to `limit` bytes."""
        count = self.stored - after
        if count == 1:
            return Page((self.records[after - self.base],), False, self.ended)
        if count <= 0:
            return Page((), False, self.ended)
        place = (after, self.stored, limit, self.ended)
        if place != self._place:
            self._page, self._place = self._cut(after, limit), place
        return self._page

    def look(self, upto: int) -> None:
        """`shrink`, for stores that do not count bytes: once something is stored behind `look_at`."""
        self.shrink(sum([len(record.data) for record in self.records]), upto)
        self.look_at = self.stored + LOOK_EVERY

    def shrink(self, size: int, upto: int) -> int:
        """Let go of the oldest records, none behind `upto`, if their number or their `size` in bytes is too large; the size of
        what stays, as if all were of one size.
        """
        count, most = len(self.records), ENDED_BYTES if self.ended else WINDOW_BYTES
        if count <= WINDOW_RECORDS and size <= most:
            return size
        keep = min(WINDOW_RECORDS, most * count // (size + 1)) // 2
        cut = max(0, min(count - keep, upto - self.base))
        del self.records[:cut]
        self.base += cut
        self._forget_page()
        return size * (count - cut) // count

    def _forget_page(self) -> None:
        """It would keep what the window has let go of."""
        self._page, self._place = _NOTHING, _NOWHERE

    def _cut(self, after: int, limit: int) -> Page:
        """What is in memory anyway counts for its data alone."""
        end = self._cuts.get((after, limit))
        if end is None:
            start, stop = after - self.base, self.stored - self.base
            sizes = accumulate(
                [len(record.data) for record in self.records[start : min(stop, start + limit // SHORTEST + 1)]]
            )
            end = after + (bisect_right(list(sizes), limit) or 1)
            if end < self.stored:
                if len(self._cuts) >= CUTS:
                    self._cuts.clear()
                self._cuts[after, limit] = end
        more = end < self.stored
        return Page(self.records[after - self.base : end - self.base], more, self.ended and not more)


class OwnWindow(LogWindow):
    """A log that this process writes into a store that gathers.

    base <= stored <= sent <= last: what is stored is shown; up to `sent` it is on its way, up to `last` it gathers.
    """

    __slots__ = ("bell", "call", "closed", "end", "head", "last", "lease", "name", "sent")

    def __init__(self, name: str, lease: Lease, *, head: bytes, base: int, records: Sequence[Record]) -> None:
        super().__init__(base, records)
        self.name = name
        self.lease = lease
        self.head = head
        self.last = self.sent = self.call = self.stored
        """`call`: the number before the first record of the last stored group."""
        self.closed = False
        """Ended, stored or not."""
        self.end = -1
        """The number before the records that came with the end."""
        self.bell: Bell | None = None

    def tail(self) -> Tail:
        """Where the stored part ends."""
        return Tail(1, self.stored, self.ended, self.lease.epoch, self.head, self.lease.owner)

    def repeats(self, after: int, records: Sequence[Record], ended: bool) -> bool:
        """Whether this is the last append once more."""
        if not records:
            return ended and self.closed and after == self.end == self.last
        return after >= max(self.call, self.base) and self.records[after - self.base :] == list(records)

    def refusal(self, after: int) -> Conflict:
        """Why an append behind `after` does not fit."""
        return Conflict(
            f"{self.name} " + (f"stands at {self.last}, not at {after}" if after != self.last else "has ended")
        )

    def ring(self) -> None:
        """Wake whoever waits."""
        if self.bell is not None:
            self.bell.ring()
