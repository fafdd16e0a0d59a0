"""A frame: what a dialect says, before a framing makes bytes of it."""

from __future__ import annotations

from typing import NamedTuple


class Frame(NamedTuple):
    """One message to a viewer. `data` is UTF-8; None is a frame that only carries its id.

    `event` and `id` must not hold CR, LF or NUL: whoever makes a frame from foreign text passes it through `safe_name`.
    """

    data: bytes | None
    event: str | None = None
    id: str | None = None


def safe_name(text: str, instead: str) -> str:
    """The text as an SSE event name, or `instead` where it is empty or could break a frame."""
    if not text or any(mark in text for mark in "\r\n\0"):
        return instead
    return text
