"""How a source is closed, and told of what it did wrong: what it answers is judged here, and never escapes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

log = logging.getLogger("tidelog")


async def close(chunks: AsyncIterator[Any]) -> Exception | None:
    """Run the source's `finally` blocks; the error that they raise, if any.

    A cancellation while they run only hurries them: how the run ends is decided elsewhere.
    """
    aclose = getattr(chunks, "aclose", None)
    if aclose is None:
        return None
    try:
        await aclose()
    except asyncio.CancelledError:
        return None
    except BaseExceptionGroup as group:
        rest = group.split((GeneratorExit, asyncio.CancelledError))[1]  # task groups wrap the wish to leave, too
        if rest is not None and not isinstance(rest, Exception):
            raise
        return rest
    except Exception as error:
        return error
    return None


async def throw(chunks: AsyncIterator[Any], error: Exception) -> None:
    """Raise the error where the source yielded, so that its traceback names the line. What it answers does not matter."""
    athrow = getattr(chunks, "athrow", None)
    if athrow is None:
        return
    try:
        await athrow(error)
    except (Exception, BaseExceptionGroup) as raised:
        if raised is not error:
            log.debug("a source answered %r with %r", error, raised)


def unwrapped(error: Exception) -> Exception:
    """What a task group wrapped, where it is one error: the wrapping would hide the words that the application chose."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def without(file: str, trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the source on, behind the frames of this file: they hold the run, which holds its failure."""
    while trace is not None and trace.tb_frame.f_code.co_filename == file:
        trace = trace.tb_next
    return trace
