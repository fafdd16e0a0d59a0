"""SQL over tables in memory: it may read these tables and nothing else, and not for long."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final, NamedTuple

from tidelog.apps.tools import ToolFailed
from tidelog.apps.tools.tables import Table

MAX_SQL_CHARS: Final = 2_000
MAX_RESULT_ROWS: Final = 50
"""Rows that are given; of more it is told that there are more."""
MAX_SECONDS: Final = 1.0
MAX_VALUE_BYTES: Final = 100_000
STEPS: Final = 1_000
"""SQLite's own steps between two looks at the clock."""

_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: MAX_SQL_CHARS * 4,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 10,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
}
_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})
_FORBIDDEN: Final = frozenset({"load_extension", "randomblob", "zeroblob"})


class Rows(NamedTuple):
    """What a query gives; `more`: there would be more rows."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def query(tables: Mapping[str, Table], sql: str) -> Rows:
    """One `SELECT` over these tables, by their names. Blocks for up to MAX_SECONDS. Raises `ToolFailed`."""
    if len(sql) > MAX_SQL_CHARS:
        raise ToolFailed(f"The query is longer than {MAX_SQL_CHARS} characters.")
    with closing(sqlite3.connect(":memory:")) as database:
        for name, table in tables.items():
            _load(database, name, table)
        _guard(database)
        try:
            found = database.execute(sql.strip().rstrip(";"))
            rows = found.fetchmany(MAX_RESULT_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise ToolFailed(_told(str(error))) from None
        if found.description is None:
            raise ToolFailed("Only SELECT is allowed.")
        columns = tuple(column[0] for column in found.description)
    shown = [tuple(_plain(cell) for cell in row) for row in rows[:MAX_RESULT_ROWS]]
    return Rows(columns, shown, len(rows) > MAX_RESULT_ROWS)


def _load(database: sqlite3.Connection, name: str, table: Table) -> None:
    columns = ", ".join(f'"{column}"' for column in table.columns)
    marks = ", ".join("?" for _ in table.columns)
    database.execute(f'CREATE TABLE "{name}" ({columns})')
    database.executemany(f'INSERT INTO "{name}" VALUES ({marks})', table.rows)


def _guard(database: sqlite3.Connection) -> None:
    """From now on: reading alone, within limits."""
    database.commit()
    for limit, value in _LIMITS.items():
        database.setlimit(limit, value)
    until = time.monotonic() + MAX_SECONDS
    database.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    database.set_authorizer(_may)


def _may(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and second in _FORBIDDEN):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _told(error: str) -> str:
    if any(word in error for word in ("not authorized", "prohibited", "authorization denied")):
        return "Only SELECT over the tables that are listed is allowed."
    if "interrupted" in error:
        return f"The query takes longer than {MAX_SECONDS:g} s."
    return f"The query does not work: {error}."


def _plain(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return round(cell, 6) if isinstance(cell, float) else cell
