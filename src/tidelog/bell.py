"""Bells wake whoever waits at a log. They carry no data: a lost ring costs a delay, never a record.

A bell rings once. Take it *before* you read; if it has been rung when you want to wait, read again instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from tidelog.alarm import Alarm


class Bell:
    """A one-shot bell at which many may wait, and one may wait at many."""

    __slots__ = ("__weakref__", "_waiting", "rung")

    def __init__(self) -> None:
        self.rung = False
        self._waiting: dict[Callable[[], None], None] = {}

    def ring(self) -> None:
        """Wake all that wait. Later calls do nothing."""
        self.rung = True
        waiting, self._waiting = self._waiting, {}
        for wake in waiting:
            wake()

    def add(self, wake: Callable[[], None]) -> None:
        """Call `wake` at the ring; at once if it has rung."""
        if self.rung:
            wake()
        else:
            self._waiting[wake] = None

    def discard(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._waiting.pop(wake, None)


class Waiter:
    """One task's place to wait at bells, with a limit of time."""

    __slots__ = ("_alarm", "_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[bool] | None = None
        self._alarm = Alarm(self._loop, self._give_up)

    async def wait(self, bells: Collection[Bell], timeout: float | None) -> bool:
        """Until one of the bells rings (True) or `timeout` seconds have passed (False). None waits without limit."""
        if timeout is not None:
            if timeout <= 0:
                return any(bell.rung for bell in bells)
            self._alarm.set(self._loop.time() + timeout)
        else:
            self._alarm.close()  # it may still be set for an earlier wait
        future: asyncio.Future[bool] = self._loop.create_future()
        self._future = future
        for bell in bells:
            bell.add(self.wake)
        try:
            return await future
        finally:
            self._future = None
            for bell in bells:
                if not bell.rung:
                    bell.discard(self.wake)

    def wake(self, rung: bool = True) -> None:
        """End the wait as if a bell had rung, or as if the time were over."""
        if self._future is not None and not self._future.done():
            self._future.set_result(rung)

    def extend(self, timeout: float | None) -> None:
        """Count the time of the wait from now."""
        if timeout is not None:
            self._alarm.set(self._loop.time() + timeout)

    def close(self) -> None:
        """Forget the timer."""
        self._alarm.close()

    def _give_up(self) -> None:
        self.wake(False)
