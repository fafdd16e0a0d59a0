"""The file: its address, its tables, and whether this version may open it."""

from __future__ import annotations

import time
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote

import apsw

from tidelog.errors import InvalidRequest, Unavailable

BEAT: Final = 2.0
"""Seconds between two beats of the lease."""
BUSY: Final = 5.0
"""Seconds to wait for another process's transaction."""
SWITCH_PAUSE: Final = 0.01
APPLICATION: Final = 0x7469646C
CACHE_KIB: Final = 2048
"""Of each connection. The system keeps the file's pages as well: with four times as much, appends and replays cost the same."""

MIGRATIONS: Final = (
    """
    CREATE TABLE owners (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        beat INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0     -- closed, or declared dead by whoever took a log of it
    );
    CREATE TABLE logs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mark INTEGER NOT NULL UNIQUE,       -- blocks.mark_of(name)
        name TEXT NOT NULL,
        owner TEXT,                         -- NULL: a log that many write
        lease INTEGER,                      -- owners.id until the end; NULL: every record is in chunks
        epoch INTEGER NOT NULL DEFAULT 1,
        principal TEXT NOT NULL DEFAULT '',
        key TEXT,
        fingerprint BLOB,
        head BLOB NOT NULL DEFAULT x'',
        ended REAL                          -- Unix time
    );
    CREATE UNIQUE INDEX logs_by_key ON logs (key) WHERE key IS NOT NULL;
    CREATE INDEX logs_by_lease ON logs (lease) WHERE lease IS NOT NULL;
    CREATE INDEX logs_by_principal ON logs (principal, id) WHERE owner IS NOT NULL;
    CREATE INDEX logs_by_end ON logs (ended) WHERE ended IS NOT NULL;
    CREATE TABLE chunks (                   -- records of one log, where they stay
        id INTEGER PRIMARY KEY,             -- log << 32 | number of the first record
        count INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        data BLOB NOT NULL
    );
    CREATE TABLE journal (                  -- segments: the records of one group commit, until they are in chunks
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner INTEGER NOT NULL,             -- owners.id
        idx BLOB NOT NULL,
        data BLOB NOT NULL
    );
    CREATE TABLE expired (name TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
    """
    CREATE TABLE gone (                     -- logs that were dropped, until their last byte is removed
        id INTEGER PRIMARY KEY,             -- logs.id
        mark INTEGER NOT NULL
    );
    ALTER TABLE expired RENAME TO expired_before;
    CREATE TABLE expired (                  -- names of logs that retention dropped: the last removal.EXPIRED_NAMES
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    );
    INSERT INTO expired (name) SELECT name FROM expired_before;
    DROP TABLE expired_before;
    """,
    """
    ALTER TABLE logs ADD COLUMN due REAL;   -- Unix time; NULL unless the log is parked: its owner is '' then
    CREATE INDEX logs_by_due ON logs (due) WHERE due IS NOT NULL;
    """,
)
"""What makes version n + 1 of the file from version n."""


class Place(NamedTuple):
    """A parsed `sqlite:` URL. Times in seconds."""

    path: str
    synchronous: str = "NORMAL"
    beat: float = BEAT
    busy: float = BUSY


def parse(url: str) -> Place:
    """`sqlite:///relative.db`, `sqlite:////absolute.db`, with `?synchronous=FULL`, `beat=` and `busy=` in seconds.

    Raises `InvalidRequest` for anything else.
    """
    address, _, query = url.partition("?")
    scheme, _, path = address.partition(":///")
    if scheme != "sqlite" or not path or path == ":memory:":
        raise InvalidRequest(f"{url!r} is no SQLite store: write sqlite:///file.db or sqlite:////folder/file.db.")
    place = Place(unquote(path))
    for name, value in parse_qsl(query, keep_blank_values=True):
        place = _with_option(place, name, value)
    return place


def connect(place: Place) -> apsw.Connection:
    """A connection to the prepared file, for use by one thread at a time."""
    connection = apsw.Connection(place.path)
    connection.set_busy_timeout(int(place.busy * 1000))
    connection.execute(
        f"PRAGMA synchronous={place.synchronous}; PRAGMA secure_delete=ON; PRAGMA cache_size=-{CACHE_KIB};"
        "PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY"
    ).fetchall()  # a statement with a row would keep the ones behind it waiting
    return connection


def prepare(place: Place) -> None:
    """Create the file or bring it to this version. Raises `Unavailable` if it is not ours or cannot be opened."""
    try:
        connection = apsw.Connection(place.path)
        try:
            connection.set_busy_timeout(int(place.busy * 1000))
            _check_in_snapshot(connection, place.path)
            _switch(connection, place)
            _migrate(connection, place.path)
        finally:
            connection.close()
    except apsw.NotADBError:
        raise Unavailable(f"{place.path} is not a SQLite file.") from None
    except apsw.Error as error:
        raise Unavailable(f"{place.path} cannot be opened: {error}.") from error


def _with_option(place: Place, name: str, value: str) -> Place:
    if name == "synchronous" and value.upper() in ("NORMAL", "FULL"):
        return place._replace(synchronous=value.upper())
    if name in ("beat", "busy"):
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1.0
        if 0 < seconds < 3600:
            return place._replace(beat=seconds) if name == "beat" else place._replace(busy=seconds)
    raise InvalidRequest(
        f"A SQLite store has no option {name}={value}: there are synchronous=NORMAL|FULL, beat= and busy= (seconds)."
    )


def _check(connection: apsw.Connection, path: str) -> int:
    """The version of the file; 0 if it is empty."""
    ours = connection.execute("PRAGMA application_id").get
    version = int(connection.execute("PRAGMA user_version").get)
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    if ours == APPLICATION and version > len(MIGRATIONS):
        raise Unavailable(
            f"{path} is of a newer tidelog (file version {version}, this one knows {len(MIGRATIONS)}): upgrade."
        )
    if ours != APPLICATION and (tables or version or ours):
        raise Unavailable(f"{path} is a SQLite file of another application; tidelog leaves it alone.")
    return version


def _check_in_snapshot(connection: apsw.Connection, path: str) -> int:
    """The same while others may be creating the file."""
    with connection:
        version = _check(connection, path)
    return version  # noqa: RET504 - mypy: a connection's block might swallow


def _switch(connection: apsw.Connection, place: Place) -> None:
    """To write-ahead logging. Two that do it to a new file at once are in each other's way, and SQLite lets neither wait."""
    until = time.monotonic() + place.busy
    while True:
        try:
            if connection.execute("PRAGMA journal_mode=WAL").get == "wal":
                return
            raise Unavailable(f"{place.path} cannot be switched to write-ahead logging.")
        except apsw.BusyError:
            if time.monotonic() > until:
                raise
            time.sleep(SWITCH_PAUSE)


def _migrate(connection: apsw.Connection, path: str) -> None:
    if _check_in_snapshot(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _check(connection, path)  # another process may have been quicker
        for step in MIGRATIONS[version:]:
            connection.execute(step)
        connection.execute(f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={len(MIGRATIONS)}; COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
