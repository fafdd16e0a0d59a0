"""Taking a producer's batches, in whatever process they arrive: they go into the run's feed, which its owner pulls.

The verdict on a batch is what the fold of the feed says of the record that it became: the same in every process, so that two
that take the same batch at once both tell the truth, and it counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from typing import Final, NamedTuple

from tidelog import feed as feeds
from tidelog import head as heads
from tidelog.bell import Waiter
from tidelog.errors import Ended, Gone, NotFound, Refused, TidelogError
from tidelog.feed import Batch, Feed
from tidelog.head import Head
from tidelog.log import Record, Tail, feed_log, run_log
from tidelog.seams import Store

AHEAD_BYTES: Final = 4 * 1024 * 1024
"""What may stand in a feed that its run has not pulled."""
ROOM_PATIENCE: Final = 5.0
"""Seconds for which a batch waits for room, before the producer is asked to come back."""
BEAT: Final = 5.0
"""Seconds, or a quarter of the run's `gap_timeout`, before which a heartbeat tells nothing new, and is not written."""
FEEDS: Final = 256
"""Folds that are kept; one that was forgotten is made anew from the feed."""


class Posted(NamedTuple):
    """Where the producer and its run stand. `expected` is the number of the event that must come next, in `epoch`."""

    head: Head
    epoch: int
    expected: int


class _Followed:
    """The fold of one feed, as far as this process has read it."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.lock = asyncio.Lock()
        self.position = 0
        self.at = 0.0
        """When the last record was posted."""
        self.refused: TidelogError | None = None
        """Why the last record does not count, if so."""
        self._waiting: deque[tuple[int, int]] = deque()
        """For each batch that may not have been pulled yet: the number of events up to its end, and its bytes."""
        self._waiting_bytes = 0

    def take(self, record: Record) -> None:
        self.position, self.at, self.refused = record.seq, record.at, None
        try:
            if self.feed.take(feeds.decode(record.data)).news:
                self._waiting.append((self.feed.count, len(record.data)))
                self._waiting_bytes += len(record.data)
        except TidelogError as error:
            self.refused = error

    def bytes_ahead(self, last: int) -> int:
        """Bytes of the batches that a run log of so many records may not hold."""
        while self._waiting and self._waiting[0][0] < last:  # the log has one record more: its start
            self._waiting_bytes -= self._waiting.popleft()[1]
        return self._waiting_bytes


class Posting:
    """Takes batches for the runs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followed: OrderedDict[str, _Followed] = OrderedDict()

    async def post(self, run: str, batch: Batch) -> Posted:
        """Add the batch to the feed, unless it is known already.

        Raises what `Feed.take` raises, `Refused` (`overloaded`) where the run does not keep up, and `NotFound` for a run that is
        not there: then nothing was taken.
        """
        followed = self._known(run)
        async with followed.lock:
            await self._read(run, followed)
            tail = await self._tail(run)
            head = heads.decode(tail.head)
            news = followed.feed.judge(batch).news
            if news:
                _check_lives(head)
                await self._await_room(run, followed, tail)
            if news or (not tail.ended and time.time() - followed.at > _beat(head)):
                await self._post(run, followed, batch)
            return await self._answer(run, followed)

    async def _post(self, run: str, followed: _Followed, batch: Batch) -> None:
        number = await self._store.post(feed_log(run), feeds.encode(batch))
        while followed.position < number:
            page = await self._store.read(feed_log(run), followed.position)
            for record in page.records:
                if record.seq <= number:
                    followed.take(record)
        if followed.refused is not None:
            raise followed.refused

    async def _read(self, run: str, followed: _Followed) -> None:
        """Read the feed to its end; there is none before the first batch."""
        more = True
        with contextlib.suppress(Gone):
            while more:
                page = await self._store.read(feed_log(run), followed.position)
                more = page.more
                for record in page.records:
                    followed.take(record)
                await asyncio.sleep(0)

    async def _await_room(self, run: str, followed: _Followed, tail: Tail) -> None:
        loop, waiter, bell = asyncio.get_running_loop(), Waiter(), self._store.changed(run_log(run))
        give_up_at = loop.time() + ROOM_PATIENCE
        bell.add(waiter.wake)
        try:
            while followed.bytes_ahead(tail.last) > AHEAD_BYTES and not tail.ended:
                left = give_up_at - loop.time()
                if left <= 0:
                    raise Refused("The run does not keep up with its producer.", code="overloaded", retry_after=1.0)
                await waiter.wait(left)
                waiter.woken = False
                tail = await self._tail(run)
        finally:
            waiter.close()
            bell.discard(waiter.wake)

    async def _tail(self, run: str) -> Tail:
        tail = await self._store.tail(run_log(run))
        if tail is None:
            raise NotFound
        return tail

    async def _answer(self, run: str, followed: _Followed) -> Posted:
        try:
            head = heads.decode((await self._tail(run)).head)
        except (NotFound, Gone):  # deleted meanwhile: what was posted must not outlive it
            await self._store.drop(feed_log(run))
            self._followed.pop(run, None)
            raise
        return Posted(head, followed.feed.epoch, followed.feed.expected)

    def _known(self, run: str) -> _Followed:
        followed = self._followed.pop(run, None) or _Followed()
        self._followed[run] = followed
        if len(self._followed) > FEEDS:
            self._followed.popitem(last=False)
        return followed


def _check_lives(head: Head) -> None:
    """Raise `Mismatch` (`already_ended`) for a run that has ended."""
    if head.outcome is not None:
        raise Ended(head.outcome)


def _beat(head: Head) -> float:
    return min(BEAT, head.producer.limits.gap_timeout / 4) if head.producer is not None else BEAT
