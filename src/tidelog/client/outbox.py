"""What a producer has said and the server has not confirmed: bounded, numbered when it is sent, kept until it is answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from tidelog import events as e
from tidelog.client.writing import TEXT
from tidelog.events import Error, Event, TextDelta

BOUND: Final = 1024 * 1024
"""Bytes that may wait; then whoever writes waits."""
BATCH_BYTES: Final = 256 * 1024
BATCH_EVENTS: Final = 500


class Ending(NamedTuple):
    """How the producer ends its run."""

    outcome: str
    error: Error | None = None


class Sheaf(NamedTuple):
    """What is sent at once: encoded events from the number `seq` on, and the end if they are the last."""

    seq: int
    events: tuple[bytes, ...]
    end: Ending | None


class Outbox:
    """Filled by any thread, emptied by one. `check` is called by whoever waits, and raises when waiting makes no sense."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._text: list[str] = []
        """Text of one part that is not encoded yet: text behind text becomes one event."""
        self._text_part = ""
        self._text_length = 0
        self._sheaf: Sheaf | None = None
        self._seq = 1
        self._ending: Ending | None = None

    def begin(self, seq: int) -> None:
        """Count from this number on."""
        self._seq = seq

    def put(self, event: Event, *, wait: bool = True) -> None:
        """Add the event, once there is room unless `wait` is false. Raises `InvalidEvent` for what JSON cannot hold."""
        data = None if type(event) is TextDelta else e.encode(event)
        with self._changed:
            while wait and self._bytes > BOUND:
                self._check()
                self._changed.wait(1.0)
            self._check()
            if type(event) is TextDelta:
                self._put_text(event)
            elif data is not None:
                self._close_text()
                self._add(data)
            self._changed.notify_all()

    def end(self, ending: Ending) -> None:
        """Nothing follows but the end."""
        with self._changed:
            self._ending = ending
            self._changed.notify_all()

    def wake(self) -> None:
        """Let everybody who waits look around."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Until there is something to send, or so many seconds have passed; whether there is."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            return self._has_news()

    def ended(self, timeout: float) -> bool:
        """Wait so many seconds for the end; whether it has come."""
        until = monotonic() + timeout
        with self._changed:
            while self._ending is None and (left := until - monotonic()) > 0:
                self._changed.wait(left)
            return self._ending is not None

    def empty(self, timeout: float | None, over: Callable[[], bool]) -> bool:
        """Wait so many seconds until everything is confirmed, or it is over; whether everything is."""
        with self._changed:
            self._changed.wait_for(lambda: over() or not self._has_news(), timeout)
            return not self._has_news()

    def sheaf(self) -> Sheaf:
        """What is to be sent: the same again until it is confirmed. Without events and end it is a heartbeat."""
        with self._changed:
            if self._sheaf is None:
                self._close_text()
                events = self._cut()
                end = self._ending if not self._waiting else None
                found = Sheaf(self._seq, events, end)
                if not events and end is None:
                    return found
                self._sheaf = found
            return self._sheaf

    def confirm(self) -> None:
        """What was sent is stored."""
        with self._changed:
            if self._sheaf is not None:
                self._seq += len(self._sheaf.events)
                self._bytes -= sum(map(len, self._sheaf.events))
                self._sheaf = None
                self._changed.notify_all()

    def _has_news(self) -> bool:
        return bool(self._sheaf or self._waiting or self._text or self._ending)

    def _put_text(self, event: TextDelta) -> None:
        if event.part != self._text_part or self._text_length + len(event.text) > TEXT:
            self._close_text()
        self._text_part = event.part
        self._text.append(event.text)
        self._text_length += len(event.text)

    def _close_text(self) -> None:
        if self._text:
            text, self._text, self._text_length = "".join(self._text), [], 0
            self._add(e.encode(TextDelta(part=self._text_part, text=text)))

    def _add(self, data: bytes) -> None:
        self._waiting.append(data)
        self._bytes += len(data)

    def _cut(self) -> tuple[bytes, ...]:
        size = count = 0
        for data in self._waiting[:BATCH_EVENTS]:
            size += len(data)
            if count and size > BATCH_BYTES:
                break
            count += 1
        events, self._waiting = tuple(self._waiting[:count]), self._waiting[count:]
        return events
