"""Server-sent events: the rules of the wire are those of spec §5."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from tidelog.frame import PLAIN, Envelope, Frame
from tidelog.log import Record

MIDDLES: Final = 2048
"""Numbers that are written from a table: to write a number costs more than the rest of a frame."""
_BREAK: Final = re.compile(rb"\r\n|\r|\n")


def _middle(seq: int) -> bytes:
    """What stands between the epoch and the data of a record."""
    return b'%d\ndata: {"seq":%d,' % (seq, seq)


_MIDDLES: Final = tuple(map(_middle, range(MIDDLES)))


class Sse:
    """Implements `seams.Framing`. The first frame with data carries `retry`."""

    media_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    heartbeat: ClassVar[bytes] = b": hb\n\n"

    def __init__(self, retry: int) -> None:
        self._retry = b"retry: %d\n" % retry
        self._run = b""
        self._epoch = 0
        self._id = self._end = b""
        """How a record's block begins in this epoch, and how it ends."""
        self._size = 0
        self._envelope = PLAIN
        self._heads = self._envelope.heads

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

    def begin(self, run: bytes, envelope: Envelope) -> None:
        """Prepare what all blocks have in common."""
        self._run, self._epoch = run, 0
        self._envelope, self._heads, self._end = envelope, envelope.heads, b"\n\n" + envelope.tail

    def verbatim(self, record: Record) -> bytes:
        """One event block of a record as it is: a few pieces, joined once."""
        if record.epoch != self._epoch:
            self._epoch = record.epoch
            self._id = b"id: %b.%d." % (self._run, record.epoch)
            self._size = len(self._id) + 1  # a brace less, two line ends more
        data = record.data
        try:
            middle = _MIDDLES[record.seq]
            head = self._heads[self._size + len(middle) + len(data)]
        except IndexError:
            middle = _middle(record.seq)
            head = self._envelope.head(self._size + len(middle) + len(data))
        return b"".join((head, self._id, middle, data[1:], self._end))
