"""The source of a run whose events an outside producer posts: it pulls them from the run's feed, wherever they were posted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from tidelog.bell import Waiter
from tidelog.errors import Gone, SourceError, TidelogError
from tidelog.events import Error, Event
from tidelog.feed import End, Feed, decode
from tidelog.log import feed_log
from tidelog.run import Opened, Opener, current
from tidelog.seams import Page, Store

LOOK: Final = 1.0
"""Seconds after which the feed is looked at even if nobody rang."""


def pushed(store: Store, run: str, known: int = 0) -> Opener:
    """An opener of what is posted for this run. The first `known` events are in its log already."""
    return lambda: Opened(_pull(store, run, known), _AsTheyAre())


class _AsTheyAre:
    """Implements `seams.Translator`: what a batch adds is one chunk, of events that the feed has checked."""

    def feed(self, chunk: Any) -> Iterable[Event]:
        found: tuple[Event, ...] = chunk
        return found

    def end(self) -> Iterable[Event]:
        return ()


async def _pull(store: Store, run: str, known: int) -> AsyncIterator[tuple[Event, ...]]:
    """What each batch adds; nothing for one that only tells that the producer lives."""
    name, feed, after = feed_log(run), Feed(), 0
    bell, waiter = store.changed(name), Waiter()
    bell.add(waiter.wake)
    try:
        while feed.end is None:
            waiter.woken = False
            page = await _read(store, name, after)
            for record in page.records:
                after = record.seq
                events = _taken(feed, record.data)
                new = max(0, feed.count - known)
                yield events[max(0, len(events) - new) :]
            if feed.end is None and not page.more:
                await waiter.wait(LOOK)
    finally:
        waiter.close()
        bell.discard(waiter.wake)
    _obey(feed.end)


async def _read(store: Store, name: str, after: int) -> Page:
    try:
        return await store.read(name, after)
    except Gone:  # nothing was posted yet, or the run is being deleted
        return Page((), False, False)


def _taken(feed: Feed, data: bytes) -> tuple[Event, ...]:
    """What the batch adds: nothing where it was refused, which its producer has been told."""
    try:
        return feed.take(decode(data)).events
    except TidelogError:
        return ()


def _obey(end: End) -> None:
    """End the run as the producer wishes."""
    if end.outcome == "failed":
        error = end.error or Error.of("internal")
        raise SourceError(error.message, code=error.code, retry_after=error.retry_after, retryable=error.retryable)
    if end.outcome == "stopped":
        current.get().stop()
