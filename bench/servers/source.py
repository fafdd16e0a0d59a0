"""What every server streams: text that knows when it was meant to come, from one async generator, as an SDK gives it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from time import monotonic_ns


async def tokens(seconds: float, rate: float) -> AsyncIterator[str]:
    """Text i at i / ``rate`` seconds from now, for ``seconds``: ``<i>:<due, ns>;``."""
    start, step = monotonic_ns(), 1e9 / rate
    for number in range(round(seconds * rate)):
        due = start + round(number * step)
        await asyncio.sleep(max(0, due - monotonic_ns()) / 1e9)
        yield f"{number}:{due};"


async def one_token() -> AsyncIterator[str]:
    """One text, then a wait that only the end of the viewer ends."""
    yield f"0:{monotonic_ns()};"
    await asyncio.Event().wait()


def run_id() -> str:
    """As long as an id of tidelog, so that frames are of one size."""
    return secrets.token_hex(13)


def data(number: int, text: str) -> str:
    """The JSON that tidelog sends for a text delta, made the cheapest way there is."""
    return f'{{"seq":{number},"type":"text.delta","part":"p1","text":"{text}"}}'


def frame(run: str, number: int, text: str) -> bytes:
    """An event on the wire."""
    return f"id: {run}.1.{number}\ndata: {data(number, text)}\n\n".encode()
