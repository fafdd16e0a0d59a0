"""A data sync by a script of its own: rows go from one SQLite file to another, a page at a time, and it is watched on a server.

python mirror.py shop.db copy.db http://127.0.0.1:8000

How far it came is stored in the copy together with the rows, so that a later run goes on from there, whatever ended this one.
"""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing

from tidelog.client import Producer, connect

PAGE = 500
TABLES = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL NOT NULL);
CREATE TABLE IF NOT EXISTS position (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), last INTEGER NOT NULL);
INSERT OR IGNORE INTO position VALUES (1, 0);
"""
Row = tuple[int, str, float]


def pages(source: sqlite3.Connection, after: int) -> Iterator[list[Row]]:
    while page := source.execute("SELECT * FROM orders WHERE id > ? ORDER BY id LIMIT ?", (after, PAGE)).fetchall():
        yield page
        after = page[-1][0]


def copy(source: sqlite3.Connection, target: sqlite3.Connection, run: Producer) -> int:
    """Copy what is new; how many rows. Ends between two pages when somebody stops the run: `run` raises then."""
    (after,) = target.execute("SELECT last FROM position").fetchone()
    (total,) = source.execute("SELECT count(*) FROM orders WHERE id > ?", (after,)).fetchone()
    done = 0
    for page in pages(source, after):
        with target:  # the rows and the position, or neither
            target.executemany("INSERT INTO orders VALUES (?, ?, ?)", page)
            target.execute("UPDATE position SET last = ?", (page[-1][0],))
        done += len(page)
        run.progress(done, total, "Copying orders")
    return done


def main(source_file: str, target_file: str, url: str) -> None:
    with (
        closing(sqlite3.connect(source_file)) as source,
        closing(sqlite3.connect(target_file)) as target,
        connect(url) as run,
    ):
        print(f"tidelog tail {run.url}")
        target.executescript(TABLES)
        run.data({"copied": copy(source, target, run)}, name="sync")


if __name__ == "__main__":
    main(*sys.argv[1:])
