"""A scripted source: says what it is told, waits where it is told, and remembers how it was treated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, NamedTuple

PATIENCE: Final = 10.0
"""Seconds that a wait in a test takes at most."""


class Gate:
    """A place where a script waits until the test opens it: from any thread, before anybody is there if it likes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._arrived = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()

    @property
    def is_open(self) -> bool:
        """Whether it has been opened."""
        return self._open

    @property
    def arrived(self) -> int:
        """How many have come to the gate so far."""
        return self._arrived

    def open(self) -> None:
        """Let everybody through, for ever."""
        with self._changed:
            self._open = True
            waiting, self._waiting = self._waiting, set()
            self._changed.notify_all()
        for loop, future in waiting:
            loop.call_soon_threadsafe(_resolve, future)

    async def wait(self) -> None:
        """Until it is open: for scripts, which have limits of their own."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if self._open:
                return
            loop = asyncio.get_running_loop()
            entry = (loop, loop.create_future())
            self._waiting.add(entry)
        try:
            await entry[1]
        finally:
            with self._changed:
                self._waiting.discard(entry)

    def block(self) -> None:
        """`wait` for a thread. Raises `TimeoutError` after PATIENCE."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._open, PATIENCE):
                raise TimeoutError("nobody opened the gate")

    def reached(self, arrivals: int = 1) -> None:
        """Block until that many have come to the gate. Raises `TimeoutError` after PATIENCE."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= arrivals, PATIENCE):
                raise TimeoutError(f"{self._arrived} of {arrivals} came to the gate")


class Play(NamedTuple):
    """One performance of a script: the task that opened it and the one that closed it (None: not closed), and how."""

    opened_in: object
    closed_in: object | None
    steps: int
    """Steps that were begun."""
    ended_by: type[BaseException] | None
    """`None` for the last step; else what was raised at the step where it ended, by itself or by others."""


class Script:
    """A source for `tide.response`, or for `yield` in an endpoint of your own: call it for an async generator.

    Steps: a `Gate` is waited for, an exception is raised, a function is called (and awaited at need), anything else
    is yielded. The script may be performed many times; `started`, `closed` and `plays` tell of all of them.
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.plays: list[Play] = []
        self._changed = threading.Condition()

    def __call__(self) -> AsyncIterator[Any]:
        return self._perform()

    def sync(self) -> Iterator[Any]:
        """The same as a sync generator."""
        place, step, ended = self._opened(threading.current_thread()), 0, None
        try:
            for step, one in enumerate(self.steps, 1):  # noqa: B007 (the last one is told)
                if isinstance(one, Gate):
                    one.block()
                elif callable(one) and not isinstance(one, type):
                    one()
                else:
                    yield _said(one)
        except BaseException as error:
            ended = type(error)
            raise
        finally:
            self._closed(place, threading.current_thread(), step, ended)

    @property
    def started(self) -> int:
        """How often it was begun."""
        return len(self.plays)

    @property
    def closed(self) -> int:
        """How often its `finally` has run."""
        return sum(play.closed_in is not None for play in self.plays)

    def wait_started(self, times: int = 1) -> None:
        """Block until it was begun that often. Raises `TimeoutError` after PATIENCE."""
        self._wait(lambda: self.started >= times, f"begun {self.started} of {times} times")

    def wait_closed(self, times: int = 1) -> None:
        """Block until its `finally` has run that often. Raises `TimeoutError` after PATIENCE."""
        self._wait(lambda: self.closed >= times, f"closed {self.closed} of {times} times")

    async def _perform(self) -> AsyncIterator[Any]:
        place, step, ended = self._opened(asyncio.current_task()), 0, None
        try:
            for step, one in enumerate(self.steps, 1):  # noqa: B007 (the last one is told)
                if isinstance(one, Gate):
                    await one.wait()
                elif callable(one) and not isinstance(one, type):
                    await _awaited(one)
                else:
                    yield _said(one)
        except BaseException as error:
            ended = type(error)
            raise
        finally:
            self._closed(place, asyncio.current_task(), step, ended)

    def _opened(self, where: object) -> int:
        with self._changed:
            self.plays.append(Play(where, None, 0, None))
            self._changed.notify_all()
            return len(self.plays) - 1

    def _closed(self, place: int, where: object, steps: int, ended: type[BaseException] | None) -> None:
        with self._changed:
            self.plays[place] = Play(self.plays[place].opened_in, where, steps, ended)
            self._changed.notify_all()

    def _wait(self, condition: Callable[[], bool], so_far: str) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE):
                raise TimeoutError(f"the script was {so_far}")


def _said(step: Any) -> Any:
    if isinstance(step, BaseException):
        raise step
    return step


async def _awaited(step: Callable[[], Any]) -> None:
    found = step()
    if asyncio.iscoroutine(found):
        await found


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
