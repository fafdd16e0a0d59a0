"""A frame: what a dialect says, before a framing makes bytes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

import msgspec

HEADS: Final = 512
Why = Literal["reconnect", "reauth"]
"""Why a viewer is sent away: the server goes, or the viewer's credential has expired."""
_UNSAFE: Final = re.compile("[\r\n\0\ud800-\udfff]")


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message to a viewer. `data` is UTF-8; None is a frame that only carries its id.

    `event` and `id` must not hold CR, LF or NUL: whoever makes a frame from foreign text passes it through `safe_name`.
    """

    data: bytes | None
    event: str | None = None
    id: bytes | None = None
    bare: bool = False
    """`data` is bare text, which may hold line ends; JSON never does."""


class Envelope:
    """What a connection puts around each write of `size` bytes: `head(size)` and `tail`.

    To write a number costs as much as all the rest of a short frame, so `heads` holds those below HEADS.
    """

    __slots__ = ("head", "heads", "tail")

    def __init__(self, head: Callable[[int], bytes] = lambda size: b"", tail: bytes = b"") -> None:
        self.head = head
        self.tail = tail
        self.heads = tuple(map(head, range(HEADS)))

    def around(self, data: bytes) -> bytes:
        """The data in its envelope."""
        return b"".join((self.head(len(data)), data, self.tail))


PLAIN: Final = Envelope()
"""Nothing around it."""


def safe_name(text: str, instead: str) -> str:
    """The text as an SSE event name, or `instead` where it is empty or could break a frame."""
    return instead if not text or _UNSAFE.search(text) else text


def utf8(text: str) -> bytes:
    """The text as UTF-8; surrogate pairs become the character they mean, lone ones U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
