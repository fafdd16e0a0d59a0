"""Streams whose chunks do not tell whose they are, such as dicts: wrapped, each chunk names its library."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from tidelog.errors import InvalidRequest
from tidelog.parts import Chunk


def wrapped(library: str, stream: Any) -> AsyncIterator[Chunk] | Iterator[Chunk]:
    """The same stream, async or sync, of named chunks; closing it closes the stream. Raises `InvalidRequest` for no stream."""
    if hasattr(stream, "__aiter__"):
        return wrapped_async(library, stream)
    if hasattr(stream, "__iter__") and not isinstance(stream, str | bytes | dict):
        return _sync(library, stream)
    raise InvalidRequest(
        f"{type(stream).__name__} is no stream: pass the iterator itself, not a coroutine or its result."
    )


async def wrapped_async(library: str, stream: AsyncIterable[Any]) -> AsyncGenerator[Chunk]:
    """An async stream; closing the generator closes it."""
    iterator = aiter(stream)
    try:
        async for chunk in iterator:
            yield Chunk(library, chunk)
    finally:
        # The stream's own before `close`, which some streams have as well and which is no coroutine there.
        close = getattr(iterator, "aclose", None) or getattr(stream, "aclose", None) or getattr(stream, "close", None)
        if close is not None and inspect.isawaitable(closing := close()):
            await closing


def _sync(library: str, stream: Iterable[Any]) -> Iterator[Chunk]:
    iterator = iter(stream)
    try:
        for chunk in iterator:
            yield Chunk(library, chunk)
    finally:
        close = getattr(iterator, "close", None) or getattr(stream, "close", None)
        if close is not None:
            close()
