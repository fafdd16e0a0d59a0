"""Where uploaded documents stay: a SQLite database of their texts, beside the file of the runs or in memory.

Several processes may have it open; `version` tells each what the others do. The index is not kept: every process makes it
from the texts. What is deleted is overwritten
(`secure_delete`) and the file shrinks. Names are only keys in a table and never become the name of a file.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import apsw

from tidelog import TidelogError
from tidelog.apps.documents import Document

MAX_DOCUMENTS: Final = 1_000
"""Uploaded documents that are kept."""
MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Of the texts of all of them: a start takes a fifth of a second for each megabyte until it answers."""
BUSY: Final = 5.0
"""Seconds to wait for another process's transaction."""

_APPLICATION: Final = 0x74646F63
_VERSION: Final = 1
_NOTHING: Final = (0, 0)
_IN_MEMORY: Final = ":memory:"
_SETTINGS: Final = "PRAGMA secure_delete=ON; PRAGMA auto_vacuum=FULL; PRAGMA synchronous=FULL"
_SCHEMA: Final = f"""
CREATE TABLE documents (
    name TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    pages TEXT NOT NULL,        -- a JSON list of offsets
    bytes INTEGER NOT NULL,     -- of the file that was uploaded
    held INTEGER NOT NULL,      -- bytes of the text
    at REAL NOT NULL            -- Unix time
);
PRAGMA application_id={_APPLICATION};
PRAGMA user_version={_VERSION};
"""


class Kept(NamedTuple):
    """One uploaded document as it is listed: `bytes` are those of the file; `at` is Unix time."""

    name: str
    title: str
    bytes: int
    at: float


class Full(Exception):
    """There is no room; its text says what to do, in words that may be shown."""


def beside(store_url: str) -> str:
    """Where the documents go for a store: `runs.db` has `runs.documents.db` beside it; other stores, memory."""
    path = unquote(store_url.partition("?")[0].partition(":///")[2])
    if not store_url.startswith("sqlite:") or not path:
        return _IN_MEMORY
    file = PurePath(path)
    return str(file.with_name(f"{file.stem}.documents{file.suffix or '.db'}"))


class Shelf:
    """The uploaded documents at one place, a file or `:memory:`. Its methods block; any thread may call them.

    They raise `TidelogError` (`store_unavailable`) if the file cannot be used, or is something else.
    """

    def __init__(self, place: str = _IN_MEMORY) -> None:
        self._lock = threading.Lock()
        with _told():
            self._database = apsw.Connection(place)
            self._database.set_busy_timeout(int(BUSY * 1000))
            self._open(place)

    def put(self, document: Document, *, size: int, at: float) -> bool:
        """Keep a document under its path, in the place of the one of that name; whether there was one. Raises `Full`."""
        held = len(document.text.encode())
        with self._transaction():
            count, others = self._row(
                "SELECT count(*), coalesce(sum(held), 0) FROM documents WHERE name <> ?", document.path
            )
            old = self._row("SELECT 1 FROM documents WHERE name = ?", document.path)
            if count >= MAX_DOCUMENTS:
                raise Full(f"{MAX_DOCUMENTS} documents are kept already: delete one first")
            if others + held > MAX_TEXT_BYTES:
                raise Full(f"the documents would hold more than {MAX_TEXT_BYTES} bytes of text: delete one first")
            row = (document.path, document.title, document.text, json.dumps(document.pages), size, held, at)
            self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            return old is not None

    def drop(self, name: str) -> bool:
        """Delete a document, every byte; whether there was one."""
        with self._transaction():
            self._database.execute("DELETE FROM documents WHERE name = ?", (name,))
            return self._database.changes() > 0

    def version(self) -> int:
        """Another one after every change that others have made, in this process or in another."""
        with _told(), self._lock:
            return int(self._row("PRAGMA data_version")[0])

    def list(self) -> list[Kept]:
        """What is kept, by name."""
        with _told(), self._lock:
            rows: Any = self._database.execute("SELECT name, title, bytes, at FROM documents ORDER BY name").fetchall()
        return [Kept(*row) for row in rows]

    def document(self, name: str) -> Document | None:
        """The document of this name."""
        with _told(), self._lock:
            row = self._row("SELECT title, text, pages FROM documents WHERE name = ?", name)
        return None if row is None else Document(name, row[0], row[1], tuple(json.loads(row[2])))

    def close(self) -> None:
        """Close the database; any later call raises apsw.ConnectionClosedError."""
        with self._lock:
            self._database.close()

    def _open(self, place: str) -> None:
        self._check(place)
        self._database.execute(_SETTINGS).fetchall()
        with self._immediate():
            if self._check(place) == _NOTHING:  # another process may have been quicker
                self._database.execute(_SCHEMA).fetchall()

    def _check(self, place: str) -> tuple[int, int]:
        with self._database:  # one snapshot: another process may be making the tables
            found: tuple[int, int] = self._row("PRAGMA application_id")[0], self._row("PRAGMA user_version")[0]
        if found not in (_NOTHING, (_APPLICATION, _VERSION)):
            raise TidelogError(
                f"{place} holds no uploaded documents, or those of another version of tidelog.",
                code="store_unavailable",
            )
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(), self._lock, self._immediate():
            yield

    @contextmanager
    def _immediate(self) -> Iterator[None]:
        """A transaction that waits for other processes at its beginning: one that reads first and then writes could not."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def _row(self, statement: str, *bound: Any) -> Any:
        return self._database.execute(statement, bound).fetchone()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise TidelogError(f"The uploaded documents cannot be kept: {error}.", code="store_unavailable") from error
