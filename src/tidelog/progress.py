"""Progress that is told often and stored seldom: a loop of a million steps must not make a million records.

Of each task the first report and the last are stored, and between them the newest one, at most every EVERY seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from tidelog.errors import InvalidEvent, TidelogError
from tidelog.events import Progress

EVERY: Final = 0.25
"""Seconds between two stored reports of one task."""
TASK: Final = "work"
"""The task of a report that names none."""
TASKS: Final = 1000
"""Tasks that are kept apart; of more, the one that was silent for longest is forgotten, and its next report is a first one."""
OWN: Final = "attempt"
"""The task by which a run announces its attempts: nobody else's."""


def report(done: float, total: float | None, note: str | None, task: str) -> Progress:
    """The event of a report. Raises `InvalidEvent` for what is no finite number, and for the run's own task."""
    for number in (done, total):
        if number is not None and not (isinstance(number, int | float) and math.isfinite(number)):
            raise InvalidEvent(f"progress: {number!r} is no finite number.")
    if task == OWN:
        raise InvalidEvent(f"progress: the task {OWN!r} is the run's own.")
    return Progress(task=task, done=done, total=total, note=note)


class _Task:
    __slots__ = ("at", "held", "told")

    def __init__(self, told: Progress, at: float) -> None:
        self.told = told
        self.at = at
        self.held: Progress | None = None


class Steps:
    """Decides which reports are stored. `now` is any clock in seconds that never goes back."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._tasks: dict[str, _Task] = {}

    def take(self, event: Progress, now: float) -> Progress | None:
        """The event, if it is to be stored now; None if it is held until `flush`, or says nothing new."""
        task = self._tasks.pop(event.task, None)
        if task is None:
            task = _Task(event, now)
            self._keep(task)
            return event
        self._keep(task)  # the last one of the dict: it was heard
        if now >= task.at + self._every or (_is_last(event) and not _is_last(task.told)):
            return self._tell(task, event, now)
        task.held = event if event != task.told else None
        return None

    def flush(self, now: float | None = None) -> list[Progress]:
        """The held reports whose time has come; all that are held where `now` is None, because nothing follows."""
        due = [task for task in self._tasks.values() if task.held and (now is None or now >= task.at + self._every)]
        return [self._tell(task, task.held, task.at if now is None else now) for task in due if task.held]

    @property
    def due(self) -> float | None:
        """When the next held report is to be stored; None where none is held."""
        return min((task.at + self._every for task in self._tasks.values() if task.held), default=None)

    def _keep(self, task: _Task) -> None:
        self._tasks[task.told.task] = task
        if len(self._tasks) > TASKS:
            del self._tasks[next(iter(self._tasks))]

    def _tell(self, task: _Task, event: Progress, now: float) -> Progress:
        task.told, task.at, task.held = event, now, None
        return event


def _is_last(event: Progress) -> bool:
    return event.total is not None and event.done >= event.total


class Progressing:
    """The progress of a run: reports may come from its loop and from any thread. `accept` is called on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accept: Callable[[Progress], None]) -> None:
        self._loop = loop
        self._home = threading.get_ident()
        self._accept = accept
        self._lock = threading.Lock()
        self._steps = Steps()
        self._timer: asyncio.TimerHandle | None = None
        self._armed = False

    def __call__(self, done: float, total: float | None = None, note: str | None = None, *, task: str = TASK) -> None:
        """Tell how far a task has come: see `Tidelog.progress`."""
        self.report(report(done, total, note, task))

    def report(self, event: Progress) -> None:
        """Take a report. One that is merged costs no turn of the loop."""
        with self._lock:
            told = self._steps.take(event, monotonic())
            arm = told is None and not self._armed and self._steps.due is not None
            self._armed = self._armed or arm
        if told is None and not arm:
            return
        if threading.get_ident() == self._home:
            self._say(told)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and everybody who could listen with it
                self._loop.call_soon_threadsafe(self._say, told)

    def close(self) -> None:
        """Nothing follows: what is held is stored."""
        with self._lock:
            held = self._steps.flush()
        if self._timer is not None:
            self._timer.cancel()
        for event in held:
            self._say(event)

    def _say(self, event: Progress | None) -> None:
        if event is None:
            self._timer = self._loop.call_later(EVERY, self._flush)
            return
        with contextlib.suppress(TidelogError):  # over a limit, which the source itself will meet
            self._accept(event)

    def _flush(self) -> None:
        with self._lock:
            held, due = self._steps.flush(monotonic()), self._steps.due
            self._armed = due is not None
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - monotonic()), self._flush)
        for event in held:
            self._say(event)
