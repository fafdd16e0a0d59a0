"""When a source that does not wait gives way to the loop."""

from __future__ import annotations

import asyncio
from typing import Final

BREATH_BYTES: Final = 4096
BREATH: Final = 32
"""Bytes, and chunks that are not text behind text, after which a source takes a breath, if it has not waited since the last one:
one that waits by itself is not torn in the middle of a burst.
"""


class Breath:
    """That of one run. `at` is up to how many bytes of its log it needs none."""

    __slots__ = ("_loop", "_waited", "at", "chunks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.at = BREATH_BYTES
        self.chunks = 0
        """Those since the last one that were no text behind text."""
        self._loop = loop
        self._waited = False
        """Whether the loop has had a turn since then."""

    async def take(self, size: int) -> None:
        """Let the loop have a turn, if it is time to; the log has `size` bytes."""
        if size <= self.at and self.chunks <= BREATH:
            return
        self.at, self.chunks = size + BREATH_BYTES, 0
        if not self._waited:
            await asyncio.sleep(0)
        self._waited = False
        self._loop.call_soon(self._turned)

    def _turned(self) -> None:
        self._waited = True
