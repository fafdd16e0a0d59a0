"""Words at a reader's pace: the built-in answerer is so quick that nobody would see it stream, stop or resume."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Final

from pydantic import Field

MAX_PACE: Final = 200.0
"""Words a second."""
MIN_PACE: Final = 0.5
"""Slower than this, nobody could tell it from a server that hangs."""

Pace = Annotated[float, Field(ge=0, le=MAX_PACE, allow_inf_nan=False, description="Words a second; 0: at once.")]

_CJK: Final = "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
# Most Chinese words have two characters, so two are read in the time of one English word.
_PIECE: Final = re.compile(rf"\s*(?:[{_CJK}]{{1,2}}[^\w\s]*|[^\s{_CJK}]+)\s*|\s+")


def pieces(text: str) -> list[str]:
    """The text in words, or groups of two CJK characters, each with the space around it. Joined, they are the text."""
    return _PIECE.findall(text)


async def paced(text: Iterable[str], pace: float) -> AsyncIterator[str]:
    """Sentences as they are where `pace` is 0; else their words, `pace` of them a second, the first at once."""
    if not pace:
        for sentence in text:
            yield sentence
        return
    loop = asyncio.get_running_loop()
    step = 1 / max(pace, MIN_PACE)
    due = loop.time()
    for sentence in text:
        for piece in pieces(sentence):
            # By the clock, not by naps: the pace holds however late each nap ends.
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield piece
            due += step
