"""A group commit: gathered and encoded on the loop, executed by the writer thread in one transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw

from tidelog.errors import Conflict, StoreError, TidelogError, Unavailable
from tidelog.stored import Stored
from tidelog.stores.sqlite.blocks import pack_entry, pack_whose
from tidelog.stores.sqlite.live import Chunk, Live

_GUARDED: Final = (
    "INSERT INTO journal (owner, idx, data) SELECT ?1, ?2, ?3 "
    "WHERE EXISTS (SELECT 1 FROM owners WHERE id = ?1 AND NOT dead)"
)
_ALIVE: Final = "SELECT EXISTS (SELECT 1 FROM owners WHERE id = ? AND NOT dead)"
_RING: Final = "INSERT INTO journal (owner, idx, data) VALUES (?, ?, x'') RETURNING id"
_CHUNK: Final = "INSERT INTO chunks SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM logs WHERE id = ?1 >> 32)"
_HEAD: Final = "UPDATE logs SET head = ? WHERE id = ?"
_END: Final = "UPDATE logs SET ended = ?, lease = NULL WHERE id = ?"
_TRIM: Final = "DELETE FROM journal WHERE owner = ? AND id <= ?"

REMOVE_BYTES: Final = 4 * 1024 * 1024
"""What a transaction may remove of dropped logs: about 10 ms, for which other processes wait."""

_log = logging.getLogger("tidelog.stores.sqlite")


class Transaction:
    """What a job works with, in the writer thread."""

    def __init__(self, connection: apsw.Connection, owner: str, row: int) -> None:
        self.connection = connection
        self.execute: Callable[..., Any] = connection.execute
        self.owner = owner
        self.row = row
        self.rings: list[bytes] = []
        self.budget = REMOVE_BYTES
        """What may still be removed, in bytes."""

    def ring(self, mark: int) -> None:
        """Tell other processes that a log changed otherwise than by an append."""
        self.rings.append(pack_entry(pack_whose(mark, 0, 0), 0, 0, 0, 0))

    def hold(self) -> int:
        """The row of our lease; a new one if we were declared dead: that cost us what we had, not what we open now."""
        if not self.execute(_ALIVE, (self.row,)).get:
            self.row = int(self.execute("INSERT INTO owners (name) VALUES (?) RETURNING id", (self.owner,)).get)
        return self.row

    def blank(self, segment: int, column: str, offset: int, size: int) -> None:
        """Overwrite bytes of a segment where they are."""
        if size:
            with self.connection.blob_open("main", "journal", column, segment, True) as blob:
                blob.seek(offset)
                blob.write(bytes(size))

    def attempt(self, job: Job) -> None:
        """Do it; if it raises, undo it alone. Raises only what has ended the transaction."""
        rings, row = len(self.rings), self.row
        self.execute("SAVEPOINT job")
        try:
            job.result = job.work(self)
        except Exception as error:
            if not self.connection.in_transaction:
                raise
            self.execute("ROLLBACK TO job")
            self.row = row
            del self.rings[rings:]
            job.error = _blame(error)
        self.execute("RELEASE job")


class Job:
    """Work inside the transaction of a group. It has a result of its own; if it raises, it has written nothing."""

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

    __slots__ = ("ended", "future", "heads", "jobs", "lives", "moves", "number")

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        self.future = Stored(loop=loop)
        self.lives: list[Live] = []
        """The logs that are appended to, each once; what is new in them lies behind what is stored."""
        self.heads: dict[Live, bytes] = {}
        self.ended: dict[Live, float] = {}
        self.moves: list[Live] = []
        """The logs whose records move to a chunk."""
        self.jobs: list[Job] = []

    def forget(self, live: Live) -> bool:
        """Write nothing to this log; whether anything was to be written."""
        if live.group != self.number:
            return False
        self.lives.remove(live)
        self.heads.pop(live, None)
        self.ended.pop(live, None)
        return True


class Commit:
    """A group, prepared for the writer thread, and what came of it."""

    __slots__ = (
        "chunks", "data", "ends", "error", "group", "heads", "index", "newest", "refused", "row", "segment", "trim",
    )  # fmt: skip

    def __init__(
        self, group: Group, row: int, index: bytes, data: bytes, *, chunks: Sequence[Chunk] = (), trim: int = 0
    ) -> None:
        self.group = group
        self.row = row
        self.index = index
        self.data = data
        self.chunks = chunks
        self.heads = [(head, live.id) for live, head in group.heads.items()] if group.heads else ()
        self.ends = [(at, live.id) for live, at in group.ended.items()] if group.ended else ()
        self.trim = trim
        self.segment: int | None = None
        """The row in the journal, if there was something to append and the fence let it through."""
        self.refused = False
        """The fence refused everything but the jobs."""
        self.newest = 0
        self.error: StoreError | None = None

    def execute(self, connection: apsw.Connection, owner: str) -> None:
        """Run it. What fails is `error` then, and the caller undoes the transaction, if one is open."""
        try:
            if self.group.jobs or self.chunks or self.heads or self.ends or self.trim:
                connection.execute("BEGIN IMMEDIATE")
                self._rows(connection)
                self._jobs(Transaction(connection, owner, self.row))
                connection.execute("COMMIT")
            elif self.index:
                self._segment(connection)
        except apsw.Error as error:
            self.error = Unavailable(f"The file could not be written: {error}.")

    def _segment(self, connection: apsw.Connection) -> None:
        connection.execute(_GUARDED, (self.row, self.index, self.data))
        if connection.changes():  # RETURNING would cost as much as half of the statement
            self.segment = self.newest = connection.last_insert_rowid()
        else:
            self.refused = True

    def _rows(self, connection: apsw.Connection) -> None:
        if self.index:
            self._segment(connection)
        elif self.chunks or self.trim:  # of logs that may have a new owner
            self.refused = not connection.execute(_ALIVE, (self.row,)).get
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
            transaction.attempt(job)
        if transaction.rings:
            # Never under a dead lease: its segments are not ours to trim any more, other logs may still hang on them.
            self.newest = transaction.execute(_RING, (transaction.hold(), b"".join(transaction.rings))).get
        self.row = transaction.row


def fenced() -> Conflict:
    """What a process hears that was declared dead."""
    return Conflict("This process was declared dead and its logs were taken.")


def _blame(error: Exception) -> TidelogError:
    """What the caller of a job hears."""
    if isinstance(error, TidelogError):
        return error
    _log.error("a job broke", exc_info=error)
    return Unavailable(f"The file could not be written: {error}." if isinstance(error, apsw.Error) else "")
