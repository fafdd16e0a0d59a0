"""Server-sent events: the rules of the wire are those of spec §5."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from tidelog.frame import Frame

_BREAK: Final = re.compile(rb"\r\n|\r|\n")


class Sse:
    """Implements `seams.Framing`. The first frame with data carries `retry`."""

    media_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    heartbeat: ClassVar[bytes] = b": hb\n\n"

    def __init__(self, retry: int) -> None:
        self._retry = b"retry: %d\n" % retry

    def encode(self, frame: Frame) -> bytes:
        """One event block, LF only."""
        data, event, id_ = frame
        head = b"" if id_ is None else b"id: %b\n" % id_.encode()
        if data is None:
            return head + b"\n"
        if event is not None:
            head += b"event: %b\n" % event.encode()
        if self._retry:
            head, self._retry = head + self._retry, b""
        if b"\n" in data or b"\r" in data:
            data = _BREAK.sub(b"\ndata: ", data)
        return b"%bdata: %b\n\n" % (head, data)
