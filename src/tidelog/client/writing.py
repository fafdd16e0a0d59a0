"""What a program that is no generator says in a run: the same words for a producer far away and for a thread next door."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

from tidelog.errors import CallerError
from tidelog.events import Data, Event, Progress, TextDelta
from tidelog.progress import TASK, Steps, report

TEXT: Final = 16 * 1024
"""Characters of one event of text: longer text becomes several."""


class Stopped(CallerError):
    """The run has ended while it was still written to: somebody has stopped it, or it was over a limit.

    The block of the writer swallows it: what a stop means is that there is nothing left to do.
    """

    default_code = "already_ended"


class Writing:
    """Writes one run. Every method may be called in any thread."""

    def __init__(self) -> None:
        self._steps = Steps()
        self._steps_lock = threading.Lock()

    @property
    @abstractmethod
    def stopped(self) -> bool:
        """Whether the run has ended: it is no use to go on."""

    def text(self, text: str, part: str = "p1") -> None:
        """Append text to a part. Raises `Stopped`."""
        for at in range(0, len(text), TEXT):
            self._write(TextDelta(part=part, text=text[at : at + TEXT]))

    def data(self, data: Any, name: str | None = None) -> None:
        """Anything that JSON can hold. Raises `Stopped`, `InvalidEvent`."""
        self._write(Data(data=data, name=name))

    def event(self, event: Event) -> None:
        """An event of `tidelog`. Raises `Stopped`, `InvalidEvent`."""
        self._write(event)

    def progress(self, done: float, total: float | None = None, note: str | None = None, *, task: str = TASK) -> None:
        """How far a task has come. Call it at every step: see `Tidelog.progress`. Raises `Stopped`, `InvalidEvent`."""
        event = report(done, total, note, task)
        with self._steps_lock:
            told = self._steps.take(event, monotonic())
        if told is not None:
            self._write(told)
        elif self.stopped:
            raise Stopped

    def _held(self, now: float | None) -> Iterator[Progress]:
        """The progress that is to be written now; None: all of it, because nothing follows."""
        with self._steps_lock:
            yield from self._steps.flush(now)

    @abstractmethod
    def _write(self, event: Event) -> None:
        """Add the event. Waits while far too much is on its way."""
