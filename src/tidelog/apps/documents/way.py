"""Who goes first in a process where one thread indexes and another answers: Python runs one of them at a time.

A thread that works without a pause holds each wake-up of the other for 5 ms, and an upload is dozens of wake-ups.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

WORK: Final = 0.001
"""Seconds of work between two naps."""
NAP: Final = 0.000_05  # 0 would take the lock again before anybody else wakes up
NEAR: Final = 0.03
"""Seconds after a piece of an upload in which the next one, or the answer, is expected."""
PATIENCE: Final = 0.25
"""Seconds for which work gives way at most before it goes on, for as long: a client that trickles holds nobody up."""


class Way:
    """Shared by who answers (`needed`) and who works (`politely`). Any thread may call it."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._needed_until = 0.0
        self._deaf_until = 0.0

    def needed(self) -> None:
        """Somebody who waits for an answer is being served now."""
        self._needed_until = self._clock() + NEAR

    def politely(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a nap now and then, and a longer one while the way is needed."""
        until = self._clock() + WORK
        for item in items:
            yield item
            if self._clock() > until:
                self._give()
                until = self._clock() + WORK

    def _give(self) -> None:
        self._sleep(NAP)
        since = now = self._clock()
        while self._deaf_until < now < min(self._needed_until, since + PATIENCE):
            self._sleep(WORK)
            now = self._clock()
        if now >= since + PATIENCE:
            self._deaf_until = now + PATIENCE
