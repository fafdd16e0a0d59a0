"""What an answer waits for before it has a status: the first event of its run, the failure before that, or the end (spec §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tidelog import events as e
from tidelog.asking import head_of
from tidelog.attempts import of_the_run
from tidelog.cursor import Cursor
from tidelog.errors import TidelogError, Unavailable
from tidelog.log import Record, run_log
from tidelog.patience import patiently
from tidelog.run import Run
from tidelog.seams import Store
from tidelog.server.view import Peer

Enough = Callable[[Sequence[Record], bool], bool]
"""Given the next records, and whether the log has ended: whether nothing more need be waited for."""

QUEUED: Final = b'{"type":"run.state","state":"queued"'
ATTEMPT: Final = b'"attempt"'
RUN_STATE: Final = b'"run.state"'
"""One of these two stands in what a run says of itself; elsewhere hardly ever."""


class EarlyFailure(TidelogError):
    """A run failed before its first event."""

    def __init__(self, error: e.Error, cause: Exception | None) -> None:
        super().__init__(error.message, code=error.code, retry_after=error.retry_after, retryable=error.retryable)
        self.__cause__ = cause


async def read_until(store: Store, run: str, enough: Enough, *, peer: Peer, limit: float | None) -> bool:
    """Read a run from its start until it is enough; False after `limit` seconds, at the end, and once the client has left.

    A store that is away is waited for; without a limit raises `Unavailable` where it stays away.
    """
    cursor = Cursor(store, run_log(run))
    peer.when_gone(cursor.wake)
    loop = asyncio.get_running_loop()
    until = None if limit is None else loop.time() + limit
    try:
        while not peer.left:
            left = None if until is None else max(0.0, until - loop.time())
            records = await patiently(store, partial(cursor.next, left), f"the answer to run {run}", at_most=left)
            if enough(records, cursor.ended):
                return True
            if (until is not None and loop.time() >= until) or cursor.ended:
                return False
        return False
    except Unavailable:
        if limit is None:
            raise
        return False
    finally:
        peer.when_gone(None)
        cursor.close()


async def early_error(store: Store, run: str, live: Run | None) -> e.Error | None:
    """Why the run failed before its first event, if it did. What nobody can tell while the store is away is told in band.

    `live`: the run, if it lives in this process.
    """
    if live is not None and live.error is None:
        return None
    try:
        head = await head_of(store, run)
        return head.error if head.error is not None and await _is_silent(store, run) else None
    except Unavailable:
        return None


async def _is_silent(store: Store, run: str) -> bool:
    """Whether the log of an ended run holds nothing of its source: attempts that failed, at most."""
    page = await store.read(run_log(run), 1)
    return not page.more and not any(_is_first(record) for record in page.records[:-1])


def has_event(records: Sequence[Record], ended: bool) -> bool:
    """Whether there is an event of the source, or the end."""
    if not ended:
        for record in records:
            if record.seq > 1 and _is_first(record):
                return True
    return ended


def has_word(records: Sequence[Record], ended: bool) -> bool:
    """Whether there is something to show: a place in the queue, too."""
    return has_event(records, ended) or any(record.data.startswith(QUEUED) for record in records)


def has_ended(records: Sequence[Record], ended: bool) -> bool:
    """Whether there is the end."""
    return ended


def _is_first(record: Record) -> bool:
    """Whether the source said this, and not the run of itself: it is paused, or tries another time."""
    data = record.data
    return (ATTEMPT not in data and RUN_STATE not in data) or not of_the_run(e.decode(data))
