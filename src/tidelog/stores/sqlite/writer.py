"""The threads of the store: one writer, one checkpointer, a few readers. A connection belongs to one thread at a time.

The writer only executes what the loop prepared, beats the lease and looks for commits of other processes. Checkpoints
have a thread of their own: in the writer they would cost every commit behind them 10 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

import apsw

from tidelog.errors import Unavailable
from tidelog.stores.sqlite.commit import Commit, Transaction
from tidelog.stores.sqlite.schema import Place, connect

POLL: Final = 0.1
"""Seconds between two looks for commits of other processes."""
READERS: Final = 4
CHECKPOINT_PAGES: Final = 1000
"""The write-ahead log is copied back when it is this long, and restarted when it is RESTART times as long."""
RESTART: Final = 16
TRUNCATE_ATTEMPTS: Final = 50
CHECKPOINT_BUSY_MS: Final = 100
"""How long a checkpoint that has to wait for readers may keep the writer waiting."""

_log = logging.getLogger("tidelog.stores.sqlite")
T = TypeVar("T")


class Writer:
    """The thread that writes. `notify` runs its argument on the loop."""

    def __init__(
        self, place: Place, owner: str, *, notify: Callable[..., Any], settled: Callable[[Commit], None],
        foreign: Callable[[], None], fenced: Callable[[], None], watched: Callable[[], bool], long: Callable[[], None],
    ) -> None:  # fmt: skip
        self._place = place
        self._owner = owner
        self._notify = notify
        self._settled = settled
        self._foreign = foreign
        self._fenced = fenced
        self._watched = watched
        self._long = long
        self._broken = False
        """The connection is of no use any more."""
        self._connect()
        self._queue: SimpleQueue[Commit | Callable[[], None] | None] = SimpleQueue()
        self._row = 0
        self._beat_at = self._poll_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="tidelog-sqlite-writer", daemon=True)
        self.dozing = False
        """It sleeps until the next beat: `wake` it when something is to be watched."""

    def start(self, enter: Callable[[Transaction], int]) -> int:
        """Take a lease, in the calling thread, then go on in our own; the lease's row. Raises `Unavailable`."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")  # a read that turns into a write would not wait for others
            self._row = enter(Transaction(self._connection, self._owner, 0))
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            self._connection.close()
            raise Unavailable(f"{self._place.path} cannot be written: {error}.") from error
        self._thread.start()
        return self._row

    def put(self, commit: Commit) -> None:
        """Execute this next."""
        self._queue.put(commit)

    def wake(self) -> None:
        """Look again whether anything is watched."""
        self._queue.put(None)

    def stop(self, last: Callable[[], None]) -> None:
        """Close the connection when all is executed, then call `last` in the thread."""
        self._queue.put(last)

    def _run(self) -> None:
        while True:
            item = self._next()
            if isinstance(item, Commit):
                self._execute(item)
                self._tell(self._settled, item)
            elif item is not None:
                try:
                    self._connection.close()
                finally:
                    item()  # somebody waits for it
                return
            now = time.monotonic()
            if now >= self._beat_at:
                self._beat(now)
            if now >= self._poll_at:
                self._poll(now)

    def _next(self) -> Commit | Callable[[], None] | None:
        self.dozing = True  # before we look, so that who hangs a bell after it knows to wake us
        until = self._beat_at
        if self._watched():
            self.dozing = False
            until = min(until, self._poll_at)
        try:
            return self._queue.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None

    def _execute(self, commit: Commit) -> None:
        if self._broken:
            self._reconnect()
        try:
            commit.execute(self._connection, self._owner)
        except Exception:
            _log.exception("a commit broke")
            commit.error = Unavailable()
        if commit.error is None:
            self._row = commit.row
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        """Undo what a commit that failed has left open. A connection that cannot even do that is given up."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            _log.error("a transaction could not be undone, the file is opened anew: %s", error)
            self._broken = True
            self._reconnect()

    def _connect(self) -> None:
        self._connection = connect(self._place)
        self._connection.set_wal_hook(self._grown)
        self._version = self._data_version()

    def _reconnect(self) -> None:
        """Closing undoes what is open. If the file cannot be opened, commits fail until it can."""
        try:
            self._connection.close(True)
            self._connect()
        except apsw.Error as error:
            _log.error("the file cannot be opened: %s", error)
        else:
            self._broken = False
            self._tell(self._foreign)  # what others did meanwhile, the new connection cannot tell

    def _beat(self, now: float) -> None:
        self._beat_at = now + self._place.beat
        if self._broken:
            self._reconnect()
        try:
            sql = "UPDATE owners SET beat = beat + 1 WHERE id = ? AND NOT dead RETURNING 1"
            if not self._connection.execute(sql, (self._row,)).get:
                self._tell(self._fenced)
        except apsw.Error as error:
            _log.warning("the lease could not be renewed: %s", error)

    def _poll(self, now: float) -> None:
        self._poll_at = now + POLL
        try:
            version = self._data_version()
        except apsw.Error as error:
            self._poll_at = now + self._place.beat
            _log.warning("commits of other processes cannot be seen: %s", error)
            return
        if version != self._version:
            self._version = version
            self._tell(self._foreign)

    def _data_version(self) -> int:
        # Only commits of other connections move it, and in this process nobody else writes.
        return int(self._connection.execute("PRAGMA data_version").get)

    def _grown(self, connection: apsw.Connection, name: str, pages: int) -> int:
        if pages >= CHECKPOINT_PAGES:
            self._long()
        return 0

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        try:
            self._notify(what, *args)
        except RuntimeError:
            _log.debug("the loop is gone")


class Checkpointer:
    """The thread that copies the write-ahead log back into the file."""

    def __init__(self, place: Place) -> None:
        self._connection = connect(place)
        self._connection.set_busy_timeout(CHECKPOINT_BUSY_MS)
        self._thread = ThreadPoolExecutor(1, "tidelog-sqlite-checkpoint")
        self._due = False

    def passive(self) -> None:
        """Copy what can be copied without waiting. Any thread may call this, often."""
        if not self._due:
            self._due = True
            self._thread.submit(self._passive)

    def truncate(self) -> Future[bool]:
        """Copy all and empty the write-ahead log: what was deleted is nowhere then. False if somebody reads it all the time."""
        return self._thread.submit(self._truncate)

    def close(self) -> None:
        """Finish and close the connection."""
        self._thread.shutdown()
        self._connection.close()

    def _passive(self) -> None:
        self._due = False
        try:
            pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if copied < pages and pages >= RESTART * CHECKPOINT_PAGES:  # commits came faster than we copied
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:
            pass  # a reader stands in it; the next commit asks again
        except apsw.Error as error:
            _log.warning("checkpoint: %s", error)

    def _truncate(self) -> bool:
        self._passive()  # most of it while others may write: the rest keeps them waiting
        for _ in range(TRUNCATE_ATTEMPTS):
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                continue
            except apsw.Error as error:
                _log.warning("the write-ahead log could not be emptied: %s", error)
                return False
            return True
        _log.warning("the write-ahead log could not be emptied: somebody reads it all the time")
        return False


class Readers:
    """A few threads that read, each with a connection of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._own = threading.local()
        self._connections: list[apsw.Connection] = []
        self._pool = ThreadPoolExecutor(READERS, "tidelog-sqlite-reader")

    async def read(self, what: Callable[..., T], *args: Any) -> T:
        """`what(execute, *args)` in one snapshot. Raises `Unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._in_snapshot, what, args)

    def close(self) -> None:
        """Finish and close the connections."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    def _opened(self) -> apsw.Connection:
        """This thread's connection. Not made by the pool's initializer: one that fails breaks the pool for good."""
        found: apsw.Connection | None = getattr(self._own, "connection", None)
        if found is None:
            found = connect(self._place)
            found.execute("PRAGMA query_only=ON")
            self._connections.append(found)
            self._own.connection = found
        return found

    def _in_snapshot(self, what: Callable[..., T], args: tuple[Any, ...]) -> T:
        try:
            connection = self._opened()
            connection.execute("BEGIN")
            try:
                return what(connection.execute, *args)
            finally:
                connection.execute("COMMIT")
        except apsw.Error as error:
            self._forget()
            raise Unavailable(f"The file could not be read: {error}.") from error

    def _forget(self) -> None:
        """Connect anew next time: a snapshot that could not be ended would refuse every later one."""
        found: apsw.Connection | None = self._own.__dict__.pop("connection", None)
        if found is not None:
            self._connections.remove(found)
            with contextlib.suppress(apsw.Error):
                found.close(True)
