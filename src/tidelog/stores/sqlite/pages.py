"""Pages of the file that several ask for: read and decoded once for who comes together, or soon after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any
from weakref import ref

from tidelog.bell import Bell
from tidelog.kept import Kept
from tidelog.seams import RECORD_COST, Page

Place = tuple[ref[Bell], int, int, int]


class Pages:
    """What was read of logs that are watched. A log's bell tells how old that is: what rings makes it worthless."""

    def __init__(self) -> None:
        self._kept = Kept[Page]()
        self._reading: dict[Place, asyncio.Task[Page]] = {}

    async def read(self, bell: Bell, after: int, limit: int, read: Callable[[], Coroutine[Any, Any, Page]]) -> Page:
        """The page of the log of this bell behind `after`; `read` reads it, if nobody has. Raises what that raises."""
        place: Place = (ref(bell), bell.rings, after, limit)
        page = self._kept.get(place)
        if page is not None:
            return page
        reading = self._reading.get(place)
        if reading is None:
            reading = self._reading[place] = asyncio.get_running_loop().create_task(read())
            reading.add_done_callback(partial(self._read, place))
        return await asyncio.shield(reading)

    def _read(self, place: Place, reading: asyncio.Task[Page]) -> None:
        del self._reading[place]
        if reading.cancelled() or reading.exception() is not None:
            return
        page, bell = reading.result(), place[0]()
        if (
            page.more and bell is not None and not bell.single
        ):  # the last one may grow; what one alone reads nobody else needs
            self._kept.keep(place, page, sum([len(record.data) + RECORD_COST for record in page.records]))
