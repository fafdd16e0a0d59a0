"""A group commit: gathered and encoded on the loop, executed by the writer thread in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw

from tidelog.errors import Conflict, StoreError, TidelogError, Unavailable
from tidelog.log import Record
from tidelog.stores.sqlite.blocks import pack_entry
from tidelog.stores.sqlite.live import Chunk, Live

_GUARDED: Final = (
    "INSERT INTO journal (owner, idx, data) SELECT ?1, ?2, ?3 "
    "WHERE EXISTS (SELECT 1 FROM owners WHERE id = ?1 AND NOT dead) RETURNING id"
)
_RING: Final = "INSERT INTO journal (owner, idx, data) VALUES (?, ?, x'') RETURNING id"
_CHUNK: Final = "INSERT INTO chunks SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM logs WHERE id = ?1 >> 32)"
_HEAD: Final = "UPDATE logs SET head = ? WHERE id = ?"
_END: Final = "UPDATE logs SET ended = ?, lease = NULL WHERE id = ?"
_TRIM: Final = "DELETE FROM journal WHERE owner = ? AND id <= ?"


class Stored(asyncio.Future[None]):
    """Done when a group is stored. Many wait at it, so none of them may cancel it."""

    def cancel(self, msg: Any = None) -> bool:
        return False


class Transaction:
    """What a job works with, in the writer thread."""

    def __init__(self, connection: apsw.Connection, owner: str, row: int) -> None:
        self.execute: Callable[..., Any] = connection.execute
        self.owner = owner
        self.row = row
        self.rings: list[bytes] = []

    def ring(self, mark: int) -> None:
        """Tell other processes that a log changed otherwise than by an append."""
        self.rings.append(pack_entry(mark, 0, 0, 0, 0, 0, 0))

    def hold(self) -> int:
        """The row of our lease; a new one if we were declared dead: that cost us what we had, not what we open now."""
        if not self.execute("SELECT EXISTS (SELECT 1 FROM owners WHERE id = ? AND NOT dead)", (self.row,)).get:
            self.row = int(self.execute("INSERT INTO owners (name) VALUES (?) RETURNING id", (self.owner,)).get)
        return self.row


class Job:
    """Work inside the transaction of a group. It has a result of its own; a refusal must have written nothing."""

    __slots__ = ("error", "future", "result", "then", "work")

    def __init__(
        self, work: Callable[[Transaction], Any], then: Callable[[Any], None] | None, future: asyncio.Future[Any]
    ) -> None:
        self.work = work
        self.then = then
        self.future = future
        self.result: Any = None
        self.error: TidelogError | None = None

    def settle(self, error: StoreError | None) -> None:
        """Answer whoever waits. `error`: the whole transaction failed."""
        failure = error or self.error
        if failure is None and self.then is not None:
            self.then(self.result)
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(failure)


class Group:
    """What gathers for the next commit."""

    __slots__ = ("appends", "ended", "future", "heads", "jobs", "moves", "number")

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.future = Stored(loop=loop)
        self.appends: list[tuple[Live, int, Sequence[Record]]] = []
        """Each log, the number of its last record before, and the new ones. A log is there once."""
        self.heads: dict[Live, bytes] = {}
        self.ended: dict[Live, float] = {}
        self.moves: list[tuple[Live, int]] = []
        """The logs whose records move to a chunk, and the last of these."""
        self.jobs: list[Job] = []

    def forget(self, live: Live) -> bool:
        """Write nothing to this log; whether anything was to be written."""
        before = len(self.appends)
        self.appends = [append for append in self.appends if append[0] is not live]
        self.heads.pop(live, None)
        self.ended.pop(live, None)
        return len(self.appends) < before

    def repeated(self, live: Live, after: int, records: Sequence[Record], ended: bool) -> asyncio.Future[None] | None:
        """The future of the log's last append in this group, if this is the same."""
        for other, there, those in self.appends:
            if other is live:
                same = there <= after and those[after - there :] == list(records)
                return self.future if same and (records or (ended and live in self.ended)) else None
        return None


class Commit:
    """A group, prepared for the writer thread, and what came of it."""

    __slots__ = ("chunks", "data", "ends", "error", "group", "heads", "index", "newest", "row", "segment", "trim")

    def __init__(
        self, group: Group, row: int, index: bytes, data: bytes, *, chunks: Sequence[Chunk] = (), trim: int = 0
    ) -> None:
        self.group = group
        self.row = row
        self.index = index
        self.data = data
        self.chunks = chunks
        self.heads = [(head, live.id) for live, head in group.heads.items()]
        self.ends = [(at, live.id) for live, at in group.ended.items()]
        self.trim = trim
        self.segment: int | None = None
        """The row in the journal; None after the commit: the fence refused it (or there was nothing to write)."""
        self.newest = 0
        self.error: StoreError | None = None

    @property
    def refused(self) -> bool:
        """Whether the fence refused the appends."""
        return bool(self.index) and self.segment is None

    def execute(self, connection: apsw.Connection, owner: str) -> None:
        """Run it; never raises what the store's callers should hear: that is `error` then, and nothing was written."""
        try:
            if self.group.jobs or self.chunks or self.heads or self.ends or self.trim:
                connection.execute("BEGIN IMMEDIATE")
                self._rows(connection)
                self._jobs(Transaction(connection, owner, self.row))
                connection.execute("COMMIT")
            else:
                self._segment(connection)
        except apsw.Error as error:
            self.error = Unavailable(f"The file could not be written: {error}.")
            self.segment = None
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _segment(self, connection: apsw.Connection) -> None:
        if self.index:
            self.segment = connection.execute(_GUARDED, (self.row, self.index, self.data)).get
            self.newest = self.segment or 0

    def _rows(self, connection: apsw.Connection) -> None:
        self._segment(connection)
        if self.refused:
            return
        if self.chunks:
            connection.executemany(_CHUNK, self.chunks)
        if self.heads:
            connection.executemany(_HEAD, self.heads)
        if self.ends:
            connection.executemany(_END, self.ends)
        if self.trim:
            connection.execute(_TRIM, (self.row, self.trim))

    def _jobs(self, transaction: Transaction) -> None:
        for job in self.group.jobs:
            try:
                job.result = job.work(transaction)
            except TidelogError as error:
                job.error = error
        if transaction.rings:
            # Never under a dead lease: its segments are not ours to trim any more, other logs may still hang on them.
            self.newest = transaction.execute(_RING, (transaction.hold(), b"".join(transaction.rings))).get
        self.row = transaction.row


def fenced() -> Conflict:
    """What a process hears that was declared dead."""
    return Conflict("This process was declared dead and its logs were taken.")
