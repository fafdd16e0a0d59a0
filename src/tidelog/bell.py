"""Bells wake whoever waits at a log. They carry no data: a lost ring costs a delay, never a record.

A log has one bell for as long as somebody holds it. Hang up *before* you read; what rings while you read makes you read again.
Where a store has lost records, the bell of those who may have read them says so, and rings no more: later readers get another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tidelog.alarm import Alarm

log = logging.getLogger("tidelog")

Wake = Callable[[], None]


class Bell:
    """Many may wait at one bell, and one may wait at many. `rings` tells how often it has rung.

    Whoever waits alone is called at once. A crowd is called once in a turn of the loop, however often it rings there.
    """

    __slots__ = ("__weakref__", "_order", "_ringing", "_single", "_waiting", "lost", "rings")

    def __init__(self) -> None:
        self.rings = 0
        self.lost = False
        """Whether the log may have lost records that were read under this bell."""
        self._waiting: dict[Wake, None] = {}
        self._single: Wake | None = None
        """Whoever waits alone, as nearly always."""
        self._order: tuple[Wake, ...] | None = ()
        """Whom to call, as it was when the ring began; None after a change."""
        self._ringing = False
        """Whether the crowd is called in the next turn."""

    @property
    def rung(self) -> bool:
        """Whether it has ever rung."""
        return self.rings > 0

    @property
    def single(self) -> bool:
        """Whether one waits alone."""
        return self._single is not None

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def ring(self) -> None:
        """Call all that wait. What one raises hurts neither the others nor the writer."""
        self.rings += 1
        wake = self._single
        if wake is not None:
            try:
                wake()
            except Exception:
                log.exception("tidelog: a reader failed")
        elif self._waiting and not self._ringing:
            self._ringing = True
            asyncio.get_running_loop().call_soon(self._ring_all)

    def add(self, wake: Wake) -> None:
        """Call `wake` at every ring from now on."""
        self._waiting[wake] = None
        self._change()

    def discard(self, wake: Wake) -> None:
        """Do not call `wake` any more."""
        self._waiting.pop(wake, None)
        self._change()

    def _change(self) -> None:
        self._single = next(iter(self._waiting)) if len(self._waiting) == 1 else None
        self._order = None

    def _ring_all(self) -> None:
        self._ringing = False
        order = self._order
        if order is None:
            order = self._order = tuple(self._waiting)
        for wake in order:
            try:
                wake()
            except Exception:
                log.exception("tidelog: a reader failed")


class Waiter:
    """One task's place to wait, with a limit of time. Hang `wake` at bells; clear `woken` before you read."""

    __slots__ = ("_alarm", "_future", "_loop", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._alarm = Alarm(self._loop, self.rouse)

    async def wait(self, timeout: float | None) -> bool:
        """Until `woken` is set (True) or `timeout` seconds have passed (False). None waits without limit."""
        if self.woken or (timeout is not None and timeout <= 0):
            return self.woken
        if timeout is None:
            self._alarm.close()  # it may still be set for an earlier wait
        else:
            self._alarm.set(self._loop.time() + timeout)
        self._future = self._loop.create_future()
        try:
            await self._future
        finally:
            self._future = None
        return self.woken

    def wake(self) -> None:
        """End the wait, or the next one."""
        self.woken = True
        self.rouse()

    def rouse(self) -> None:
        """End the wait as if its time were over. Without a wait nothing happens."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def close(self) -> None:
        """Forget the timer."""
        self._alarm.drop()
