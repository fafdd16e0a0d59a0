"""Server-sent events: the rules of the wire are those of spec §5."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from tidelog.frame import Frame
from tidelog.log import Record

_BREAK: Final = re.compile(rb"\r\n|\r|\n")


class Sse:
    """Implements `seams.Framing`. The first frame with data carries `retry`."""

    media_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    heartbeat: ClassVar[bytes] = b": hb\n\n"

    def __init__(self, retry: int) -> None:
        self._retry = b"retry: %d\n" % retry

    def encode(self, frame: Frame) -> bytes:
        """One event block, LF only."""
        data = frame.data
        if data is None:
            return b"id: %b\n\n" % (frame.id or b"")
        if frame.bare:
            data = _BREAK.sub(b"\ndata: ", data)
        if frame.event is None and not self._retry and frame.id is not None:
            return b"id: %b\ndata: %b\n\n" % (frame.id, data)
        head = b"" if frame.id is None else b"id: %b\n" % frame.id
        if frame.event is not None:
            head += b"event: %b\n" % frame.event.encode()
        head, self._retry = head + self._retry, b""
        return b"%bdata: %b\n\n" % (head, data)

    def verbatim(self, run: bytes, record: Record) -> bytes:
        """One event block of a record as it is."""
        seq = record.seq
        return b'id: %b.%d.%d\ndata: {"seq":%d,%b\n\n' % (run, record.epoch, seq, seq, record.data[1:])
