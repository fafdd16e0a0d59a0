"""What the suite reads and waits with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from tidelog.bell import Bell
from tidelog.log import Record
from tidelog.seams import BATCH_BYTES, Store

PATIENCE = 30.0
"""Seconds that a test waits for what must happen."""
OWNER = "one"
LOG = "run/a"

Opener = Callable[..., Awaitable[Store]]


def records(after: int, count: int, *, size: int = 8, epoch: int = 1) -> list[Record]:
    """`count` records from `after` + 1 on, each with its number in its data."""
    return [
        Record(n, 1000.0 + n / 8, str(n).encode().rjust(size, b"."), epoch) for n in range(after + 1, after + count + 1)
    ]


async def whole(store: Store, log: str, after: int = 0, limit: int = BATCH_BYTES) -> list[Record]:
    """All stored records behind `after`, read page by page."""
    found: list[Record] = []
    while True:
        page = await store.read(log, found[-1].seq if found else after, limit)
        found += page.records
        if not page.more:
            return found


class Ear:
    """Stands at a bell from now on."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell  # a bell lives as long as somebody holds it
        self.heard = asyncio.Event()
        bell.add(self.heard.set)


async def rung(ear: Ear) -> bool:
    """Wait until the bell has rung; False after PATIENCE."""
    try:
        await asyncio.wait_for(ear.heard.wait(), PATIENCE)
    except TimeoutError:
        return False
    return True


async def eventually(condition: Callable[[], Awaitable[bool]]) -> bool:
    """Ask until it is true; False after PATIENCE."""
    until = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.02)
    return True
