"""Framings without an envelope: JSON lines, and bare text."""

from __future__ import annotations

from typing import ClassVar

from tidelog.frame import PLAIN, Envelope, Frame
from tidelog.log import Record


class Lines:
    """Implements `seams.Framing`: one JSON object a line. A heartbeat is an empty line, which readers of lines skip."""

    media_type: ClassVar[str] = "application/x-ndjson"
    heartbeat: ClassVar[bytes] = b"\n"

    def __init__(self, retry: int) -> None:
        self._envelope = PLAIN

    def begin(self, run: bytes, envelope: Envelope) -> None:
        """Lines carry no id."""
        self._envelope = envelope

    def encode(self, frame: Frame) -> bytes:
        """The frame's data and LF; frames without data have no line."""
        return b"" if frame.data is None else frame.data + b"\n"

    def verbatim(self, record: Record) -> bytes:
        """One line of a record as it is."""
        return self._envelope.around(b'{"seq":%d,%b\n' % (record.seq, record.data[1:]))


class Bare:
    """Implements `seams.Framing`: the data alone. There is nothing to beat with."""

    media_type: ClassVar[str] = "text/plain; charset=utf-8"
    heartbeat: ClassVar[bytes] = b""

    def __init__(self, retry: int) -> None:
        self._envelope = PLAIN

    def begin(self, run: bytes, envelope: Envelope) -> None:
        """Lines carry no id."""
        self._envelope = envelope

    def encode(self, frame: Frame) -> bytes:
        """The frame's data."""
        return frame.data or b""

    def verbatim(self, record: Record) -> bytes:
        """The record's JSON as it is."""
        return self._envelope.around(b'{"seq":%d,%b' % (record.seq, record.data[1:]))
