"""Plain values become events: a str is text, a dict or a model is data, an event is itself."""

from __future__ import annotations

import codecs
import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tidelog import events as e
from tidelog.errors import InvalidEvent

log = logging.getLogger("tidelog")


class Values:
    """The translator of what users yield. Text goes to the part `p1`; after a tool call, or once it was ended, to the next."""

    def __init__(self) -> None:
        self._number = 1
        self._open = False
        self._break = False
        self._warned = False
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this value. Raises `InvalidEvent` for a value that is none."""
        if type(chunk) is str:
            return self._text(chunk) if chunk else ()
        if isinstance(chunk, e.Event):
            return self._event(chunk)
        if chunk is None:
            return ()
        if isinstance(chunk, bytes):
            return self.feed(self._bytes.decode(chunk))
        if isinstance(chunk, str):
            return self.feed(str.__str__(chunk))
        return (_data(chunk),)

    def end(self) -> Iterable[e.Event]:
        """The text of bytes that were cut in a character."""
        return self.feed(self._bytes.decode(b"", True))

    def _text(self, text: str) -> Iterable[e.Event]:
        if text.startswith("data:") and not self._warned:
            self._warned = True
            log.warning(
                "a run yields %r: tidelog writes the SSE frames itself; yield the text alone (docs/coming-from.md)",
                text[:40],
            )
        if self._break:
            self._break = False
            if self._open:
                yield e.TextEnded(part=f"p{self._number}")
                self._number += 1
        yield e.TextDelta(part=f"p{self._number}", text=text)
        self._open = True  # only once it was accepted

    def _event(self, event: e.Event) -> Iterable[e.Event]:
        kind = type(event)
        if isinstance(event, e.RunStarted | e.RunEnded):
            raise InvalidEvent(f"{kind.__name__} is the run's own; return from the generator, or raise, to end it.")
        # Structs do not check their fields, and no reader would see such an event.
        if e.decode(e.encode(event)) is None:
            raise InvalidEvent(f"{kind.__name__} is no event of this protocol, or has a field of a wrong type.")
        if kind is e.ToolStarted:
            self._break = True
        elif isinstance(event, e.TextDelta | e.TextSnapshot) and event.part == f"p{self._number}":
            self._open = True
        elif isinstance(event, e.TextEnded) and event.part == f"p{self._number}":
            self._open, self._number = False, self._number + 1
        return (event,)


def _data(value: Any) -> e.Data:
    if isinstance(value, Mapping):
        return e.Data(data=dict(value))
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return e.Data(name=type(value).__name__, data=dump(mode="json"))
    if isinstance(value, msgspec.Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return e.Data(name=type(value).__name__, data=msgspec.to_builtins(value))
    raise InvalidEvent(
        f"a run cannot yield {type(value).__name__}: yield str, dict, an event, a pydantic model or a dataclass."
    )
