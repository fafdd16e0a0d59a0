"""Server-sent events as a browser reads them (WHATWG HTML, "interpreting an event stream"). No code of the writer's."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

_BREAK: Final = re.compile(r"\r\n|\r|\n")


class Frame(NamedTuple):
    """One dispatched event. `id` is the last event id that was known when it was dispatched."""

    data: str
    event: str = "message"
    id: str = ""

    @property
    def json(self) -> Any:
        """The data, read as JSON. Raises `ValueError` if it is none."""
        return json.loads(self.data)


class Parser:
    """Bytes in, frames out, at any chunking. A block that the end of the stream cuts is dropped, as the standard says.

    `last_id` and `retry` (ms) are what a browser would reconnect with, `comments` what it skipped.
    """

    def __init__(self) -> None:
        self.last_id = ""
        self.retry: int | None = None
        self.comments: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial: list[str] = []
        self._begun = False
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> Iterable[Frame]:
        """The frames that these bytes complete."""
        text = self._decoder.decode(data)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        for line in self._lines(text):
            frame = self._take(line)
            if frame is not None:
                yield frame

    def _lines(self, text: str) -> Iterable[str]:
        """Whole lines: they end at CR, LF or CRLF, and nowhere else."""
        if text and self._after_cr:
            text, self._after_cr = text.removeprefix("\n"), False
        *whole, partial = _BREAK.split(text)
        for line in whole:
            yield "".join((*self._partial, line))
            self._partial = []
        if text.endswith("\r"):
            self._after_cr = True
        if partial:
            self._partial.append(partial)

    def _take(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
            return None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)
        return None

    def _dispatch(self) -> Frame | None:
        """A blank line: the id is taken over even where there is no data to dispatch."""
        data, event = self._data, self._event
        self.last_id, self._data, self._event = self._id, [], ""
        return Frame("\n".join(data), event or "message", self.last_id) if data else None
