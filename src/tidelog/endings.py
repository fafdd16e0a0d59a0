"""Who wants to know how runs end: `on_end`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from tidelog.events import Error, Mode, Outcome, TokenUsage
from tidelog.head import Head

log = logging.getLogger("tidelog")

ON_END_TIMEOUT: Final = 2.0
"""Seconds for which a process that goes waits for `on_end` functions that are still at work."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. Times are Unix time in seconds; `records` counts the records of its log."""

    run: str
    thread: str
    principal: str | None
    route: str | None
    of: str | None
    mode: Mode | None
    outcome: Outcome
    error: Error | None
    usage: TokenUsage
    records: int
    created: float
    ended: float


OnEnd = Callable[[Ending], Awaitable[Any] | Any]
"""A function, which is called in a thread, or a coroutine function, which is awaited on the loop."""


def ending_of(head: Head, records: int) -> Ending:
    """The ending that the head of an ended run tells."""
    return Ending(
        run=head.run, thread=head.thread, principal=head.principal, route=head.route, of=head.of, mode=head.mode,
        outcome=head.outcome or "failed", error=head.error, usage=head.usage or TokenUsage(),
        records=records, created=head.created, ended=head.ended or head.created,
    )  # fmt: skip


class Endings:
    """Calls `on_end` functions in the background, each once; what they raise is logged."""

    def __init__(self) -> None:
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, on_end: OnEnd, ending: Ending) -> None:
        """Call the function with this ending."""
        task = asyncio.get_running_loop().create_task(_tell(on_end, ending))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def aclose(self) -> None:
        """Wait up to ON_END_TIMEOUT for those at work, and give the rest up."""
        telling = tuple(self._telling)
        if not telling:
            return
        _, late = await asyncio.wait(telling, timeout=ON_END_TIMEOUT)
        for task in late:
            task.cancel()
        if late:
            log.warning("tidelog: %d on_end functions take too long and are given up", len(late))


async def _tell(on_end: OnEnd, ending: Ending) -> None:
    try:
        if _is_async(on_end):
            await on_end(ending)
        elif inspect.isawaitable(made := await asyncio.to_thread(on_end, ending)):
            await made
    except Exception:
        log.exception("run %s: its on_end failed", ending.run)


def _is_async(function: OnEnd) -> bool:
    while isinstance(function, functools.partial):  # by its class: a mock has every attribute, `func` after `func`
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
