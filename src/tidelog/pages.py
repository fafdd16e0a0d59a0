"""What several take of a log that is not in memory: read from the store in long stretches, once for all who come soon after."""

from __future__ import annotations

import asyncio
from bisect import bisect_right, insort
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from tidelog.bell import Bell
from tidelog.kept import KEPT_BYTES, Kept
from tidelog.seams import BATCH_BYTES, RECORD_COST, Page
from tidelog.window import LogWindow

Read = Callable[[int, int], Coroutine[Any, Any, Page]]
"""Reads the page behind a record, up to so many bytes, from the store."""


class Stretch(LogWindow):
    """Records that were read together, from which pages are cut. `more`: there were more behind them."""

    __slots__ = ("more",)

    def __init__(self, base: int, page: Page) -> None:
        super().__init__(base, page.records)
        self.more, self.ended = page.more, page.ended

    def page(self, after: int, limit: int) -> Page:
        page = super().page(after, limit)
        return Page(page.records, True, False) if self.more and not page.more else page


class Shelf:
    """The stretches of a log for as long as its bell does not ring, by where they begin.

    They grow with each that is read: a log that rings all the time is read page by page.
    """

    __slots__ = ("ahead", "bases", "reading", "rings")

    def __init__(self, rings: int) -> None:
        self.rings = rings
        self.ahead = 0
        """Bytes that the next one has at least."""
        self.bases: list[int] = []
        self.reading: dict[int, asyncio.Task[Stretch]] = {}


class Pages:
    """Up to `limit` bytes are kept, of all logs. A log's bell tells how old they are: once it rings they are worth nothing."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._kept = Kept[Stretch](limit)
        self._shelves: WeakKeyDictionary[Bell, Shelf] = WeakKeyDictionary()

    async def read(self, bell: Bell | None, after: int, limit: int, read: Read) -> Page:
        """The page of the log of this bell behind `after`. Raises what `read` raises.

        What one alone takes nobody else needs: that is read as it is asked for, and not kept.
        """
        if bell is None or bell.single:
            return await read(after, limit)
        shelf = self._shelves.get(bell)
        if shelf is None or shelf.rings != bell.rings:
            shelf = self._shelves[bell] = Shelf(bell.rings)
        stretch = self._find(shelf, after)
        if stretch is None:
            reading = shelf.reading.get(after)
            if reading is None:
                reading = self._begin(shelf, after, limit, read)
            stretch = await asyncio.shield(reading)
        return stretch.page(after, limit)

    def _begin(self, shelf: Shelf, after: int, limit: int, read: Read) -> asyncio.Task[Stretch]:
        size = max(limit, shelf.ahead)
        shelf.ahead = min(2 * size, BATCH_BYTES)
        reading = asyncio.get_running_loop().create_task(_stretch(read, after, size))
        shelf.reading[after] = reading
        reading.add_done_callback(partial(self._read, shelf, after))
        return reading

    def _find(self, shelf: Shelf, after: int) -> Stretch | None:
        at = bisect_right(shelf.bases, after) - 1
        if at < 0:
            return None
        stretch = self._kept.get((shelf, shelf.bases[at]))
        if stretch is None:
            del shelf.bases[at]  # others were asked for since
        elif after < stretch.stored or stretch.ended:
            return stretch
        return None

    def _read(self, shelf: Shelf, after: int, reading: asyncio.Task[Stretch]) -> None:
        del shelf.reading[after]
        if reading.cancelled() or reading.exception() is not None:
            return
        stretch = reading.result()
        if stretch.more or stretch.ended:  # else it may grow
            size = sum([len(record.data) + RECORD_COST for record in stretch.records])
            self._kept.keep((shelf, after), stretch, size)
            insort(shelf.bases, after)


async def _stretch(read: Read, after: int, limit: int) -> Stretch:
    return Stretch(after, await read(after, limit))
