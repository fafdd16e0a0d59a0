"""What a run pulls: a source at work, and what opens one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from tidelog.seams import Translator


class Opened(NamedTuple):
    """A source at work. `translator` None: its chunks are plain values."""

    chunks: AsyncIterator[Any]
    translator: Translator | None = None


Opener = Callable[[], Opened]
"""Opens a source, in the run's task and context. Once for each attempt."""
