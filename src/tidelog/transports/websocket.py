"""Frames as WebSocket messages: one text message a frame. A write is lines, each of which is sent as one message.

A dialect that explains itself goes out as it is. The others' frames travel in an object with what an EventSource would hand
over: `data` as text, `event` where it has a name, `id` where it has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import msgspec

from tidelog.frame import Frame
from tidelog.seams import Dialect
from tidelog.transports.lines import Lines


class Messages(Lines):
    """Implements `seams.Framing` for dialects whose frames explain themselves."""

    media_type: ClassVar[str] = "application/json"
    heartbeat: ClassVar[bytes] = b'{"type":"heartbeat"}\n'
    """A message, because no script of a page sees a ping."""


class Enveloped(Messages):
    """Implements `seams.Framing` for the dialects whose frames have names and ids beside their data."""

    def encode(self, frame: Frame) -> bytes:
        """An object with `id`, `event` and `data`, as far as the frame has them."""
        said = _Said(
            None if frame.id is None else frame.id.decode(), frame.event, None if frame.data is None else frame.data.decode()
        )  # fmt: skip
        return _encode(said) + b"\n"


class _Said(msgspec.Struct, omit_defaults=True):
    id: str | None = None
    event: str | None = None
    data: str | None = None


_encode = msgspec.json.Encoder().encode


def framing_of(dialect: type[Dialect]) -> type[Messages]:
    """The framing of a dialect over a WebSocket."""
    return Messages if dialect.verbatim else Enveloped


def messages(data: bytes) -> Iterator[str]:
    """The messages of one write."""
    return (line.decode() for line in data.split(b"\n") if line)
