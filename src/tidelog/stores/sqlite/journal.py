"""The journal, as the loop sees it: which logs are live, what gathers, when it is committed, chunked and trimmed.

One commit flies at a time; meanwhile the next group gathers. If a commit fails, so does what gathered behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from tidelog.errors import Conflict, StoreError, Unavailable
from tidelog.log import Lease, Record
from tidelog.stored import done, failed
from tidelog.stores.sqlite.blocks import encode, pack_entry, pack_header
from tidelog.stores.sqlite.commit import Commit, Group, Job, Transaction, fenced
from tidelog.stores.sqlite.live import Chunk, Live

GAP: Final = 0.01
"""The widest window, in seconds from commit to commit; it opens in proportion to the rate of appends."""
GAP_RATE: Final = 3000.0
"""Appends a second from which on the window is at its widest."""
RATE_SPAN: Final = 0.05
"""Seconds over which the rate is averaged."""
CHUNK_SECONDS: Final = 1.0
CHUNK_BYTES: Final = 32 * 1024
"""A log's records move to a chunk at this age and at this size."""
MOVE_EVERY: Final = 0.1
"""Chunks are written together: at most once in so many seconds, except for full and ended logs."""
LINGER: Final = 10.0
LINGER_LOGS: Final = 256
"""How long, and how many, ended logs stay in memory for those who still read their end."""

_log = logging.getLogger("tidelog.stores.sqlite")


class Journal:
    """Appends and jobs of this process, group by group. `live` holds the logs it writes, by name."""

    def __init__(self, send: Callable[[Commit], None]) -> None:
        self.live: dict[str, Live] = {}
        self.row = 0
        self.seen = 0
        """Segments up to this one are known: they are ours, or their bells were rung."""
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._group = Group(1, self._loop)
        self._flying: Group | None = None
        self._idle = True
        """Nothing flies and no commit is due."""
        self._sweep: asyncio.TimerHandle | None = None
        self._now = self._flushed = self._next_move = self._loop.time()
        self._rate = 0.0
        self._aging: dict[Live, None] = {}  # logs with records outside chunks, the oldest such record first
        self._segments: deque[tuple[int, int, float]] = deque()  # id, group, when it was stored
        self._lingering: deque[tuple[float, Live]] = deque()
        self._closing = False

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        """Add to the group that gathers; see `Store.append`. The flush encodes, in one tight loop."""
        live = self.live.get(log)
        if live is None or after != live.last or live.closed or self._closing:
            return self._decline(log, live, after, records, lease, ended)
        if lease is not live.lease:
            if lease != live.lease:
                return self._decline(log, live, after, records, lease, ended)
            live.lease = lease  # who is told if this is lost
        if records:
            last = after + len(records)
            if records[-1].seq != last:
                return failed(Conflict(f"{log}: the records are not numbered from {after + 1} on"))
            live.records += records
            live.last = last
        group = self._group
        if live.group != group.number:
            live.group = group.number
            group.lives.append(live)
        if head is not None:
            group.heads[live] = head
        if ended:
            live.closed = True
            live.end = after
            group.ended[live] = time.time()
        if self._idle:
            self._arm()
        return group.future

    async def run(self, work: Callable[[Transaction], Any], then: Callable[[Any], None] | None = None) -> Any:
        """Do `work` in the transaction of the next group and return its result.

        Cancelling the wait does not undo it: `then` is called with the result once it is stored, whoever still waits.
        """
        job = Job(work, then, self._loop.create_future())
        self._group.jobs.append(job)
        if self._idle:
            self._arm()
        return await job.future

    def adopt(self, live: Live) -> None:
        """From now on this process writes the log."""
        self.live[live.name] = live

    def forget(self, log: str) -> None:
        """The log is dropped."""
        live = self.live.pop(log, None)
        if live is not None:
            live.closed = True
            self._aging.pop(live, None)
            if self._group.forget(live):
                live.lease.tell(Conflict(f"{log} was dropped"))
            live.ring()

    def lose(self) -> None:
        """All logs are somebody else's now: what gathers for them fails."""
        self._discard(fenced())
        for log in tuple(self.live):
            self.forget(log)
        self._segments.clear()

    async def close(self, work: Callable[[Transaction], Any]) -> None:
        """Store what is pending, chunk everything, do `work`, and take nothing more."""
        self._closing = True
        if self._sweep is not None:
            self._sweep.cancel()
        await self.run(work)

    def settled(self, commit: Commit) -> None:
        """A commit is through: show what it stored, or take it back."""
        self._flying = None
        self._idle = True
        if commit.error is not None:
            self._rollback(commit.group, commit.error)
        elif commit.refused:
            self._rollback(commit.group, fenced())
            self.lose()
        else:
            self._note(commit)
            self._show(commit.group)
        if commit.error is None and commit.row != self.row:  # a job found our lease dead and took a new one
            self.lose()
            self.row = commit.row
        for job in commit.group.jobs:
            job.settle(commit.error)
        if self._idle and (self._group.lives or self._group.jobs):
            self._arm()
        self._watch_age()

    def _decline(
        self, log: str, live: Live | None, after: int, records: Sequence[Record], lease: Lease, ended: bool
    ) -> asyncio.Future[None]:
        if self._closing:
            return failed(Unavailable("The store is closed."))
        if live is None or lease != live.lease:
            return failed(Conflict(f"{log} is not ours"))
        if live.repeats(after, records, ended):
            for group in (self._group, self._flying):
                if group is not None and live.group == group.number:
                    return group.future
            return done()
        return failed(live.refusal(after))

    def _arm(self) -> None:
        """Commit in this turn of the loop if the window is closed, else when it closes."""
        self._idle = False
        now = self._loop.time()
        due = self._flushed + GAP * min(1.0, self._rate / GAP_RATE)
        if due <= now:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_at(due, self._flush)

    def _flush(self) -> None:
        group, self._group = self._group, Group(self._group.number + 1, self._loop)
        self._flying = group
        self._pace(len(group.lives) + len(group.jobs))
        try:
            commit = self._prepare(group)
        except Exception:  # somebody appended what is no record: fail, but do not stand still
            _log.exception("a group could not be encoded")
            commit = Commit(group, self.row, b"", b"")
            commit.error = Unavailable()
            self._loop.call_soon(self.settled, commit)
        else:
            self._send(commit)

    def _prepare(self, group: Group) -> Commit:
        index, data = self._encode(group)
        chunks = self._chunks(group)
        trim = self._trimmable() if chunks or not index else 0
        return Commit(group, self.row, index, data, chunks=chunks, trim=trim)

    def _pace(self, count: int) -> None:
        self._now = now = self._loop.time()
        since, self._flushed = now - self._flushed, now
        self._rate += (count - self._rate * since) / (RATE_SPAN + since)

    def _encode(self, group: Group) -> tuple[bytes, bytes]:
        """The index and the data of the segment. The hot loop: a microsecond here is one for each event."""
        index, parts, offset = [], [], 0
        for live in group.lives:
            after, last = live.sent, live.last
            live.sent = last
            if last - after == 1:
                record = live.records[-1]
                data = record.data
                block = pack_header(record.at, len(data)) + data
            else:
                block = encode(live.records[after - live.base :])
            size = len(block)
            index.append(pack_entry(live.whose, after + 1, last - after, offset, size))
            if size:
                parts.append(block)
                offset += size
                blocks = live.blocks
                if not blocks:
                    live.number = group.number
                    live.since = self._now
                    self._aging[live] = None
                blocks.append(block)
                live.block_bytes = total = live.block_bytes + size
                if total >= CHUNK_BYTES:
                    group.moves.append(live)
        return b"".join(index), b"".join(parts)

    def _chunks(self, group: Group) -> Sequence[Chunk]:
        due = self._now >= self._next_move or self._closing
        if not (due or group.ended or group.moves):
            return ()
        moving = dict.fromkeys((*group.ended, *group.moves))
        if due:
            self._next_move = self._now + MOVE_EVERY
            for live in self._aging:
                if live.since > self._now - CHUNK_SECONDS and not self._closing:
                    break
                moving[live] = None
        group.moves = list(moving)
        return [live.chunk() for live in moving if live.blocks]

    def _trimmable(self) -> int:
        """The last of our segments that nobody needs: all is chunked, and other processes had time to see it."""
        oldest = next(iter(self._aging)).number if self._aging else self._group.number
        last = 0
        for segment, number, when in self._segments:
            if number >= oldest or when > self._now - CHUNK_SECONDS:
                break
            last = segment
        return last

    def _note(self, commit: Commit) -> None:
        while self._segments and self._segments[0][0] <= commit.trim:
            self._segments.popleft()
        if commit.newest:
            self._segments.append((commit.newest, commit.group.number, self._loop.time()))
            first = commit.segment or commit.newest
            if first == self.seen + 1:
                self.seen = commit.newest

    def _show(self, group: Group) -> None:
        group.future.set_result(None)
        for live, head in group.heads.items():
            live.head = head
        for live in group.ended:
            live.ended = True
            self._lingering.append((self._now + LINGER, live))
        for live in group.lives:
            live.call = live.stored
            live.stored = live.sent
            bell = live.bell
            if bell is not None:
                bell.ring()
        for live in group.moves:
            self._aging.pop(live, None)
            live.chunked_all()

    def _rollback(self, group: Group, error: StoreError) -> None:
        self._discard(error)
        for live in group.lives:
            live.rollback()
            if not live.blocks:
                self._aging.pop(live, None)
        _fail(group, error)

    def _discard(self, error: StoreError) -> None:
        """Fail the appends that gather; jobs stay."""
        group, self._group = self._group, Group(self._group.number + 1, self._loop)
        self._group.jobs = group.jobs
        for live in group.lives:
            live.cut(live.sent)
        _fail(group, error)

    def _watch_age(self) -> None:
        """Come back for what must be chunked, trimmed or let go, even if nobody appends."""
        if self._sweep is None and not self._closing and (self._aging or self._segments or self._lingering):
            self._sweep = self._loop.call_later(CHUNK_SECONDS, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        now = self._loop.time()
        while self._lingering and (self._lingering[0][0] <= now or len(self._lingering) > LINGER_LOGS):
            live = self._lingering.popleft()[1]
            if self.live.get(live.name) is live:
                self.forget(live.name)
        if self._idle and (self._aging or self._segments):
            self._arm()
        self._watch_age()


def _fail(group: Group, error: StoreError) -> None:
    group.future.set_exception(error)
    group.future.exception()  # not everybody waits for an append: who wrote is told by the lease
    for live in group.lives:
        live.lease.tell(error)
