"""The SQLite database of an index: FTS5 tables of words, kept in memory, that answer with numbers of chunks.

All words come ready made (see `words`), so that the tokenizer has only to split at spaces. The tables keep no text.
"""

import threading
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import apsw

# bm25 weights of the columns: a heading names what its text is about; lone characters are weak evidence.
TITLE_WEIGHT: Final = 3.0
HEADINGS_WEIGHT: Final = 4.0
BODY_WEIGHT: Final = 1.0
CHARACTERS_WEIGHT: Final = 0.3

MERGE_PAGES: Final = 64
"""Pages of words that one step of a merge writes: about a millisecond."""

# The ascii tokenizer takes every other character as part of a word, which is right for words that are words already.
_SCHEMA: Final = f"""
PRAGMA secure_delete=ON;
CREATE VIRTUAL TABLE chunks USING fts5(
    title, headings, body, characters, content='', tokenize="ascii tokenchars '_'");
INSERT INTO chunks(chunks, rank)
    VALUES ('rank', 'bm25({TITLE_WEIGHT}, {HEADINGS_WEIGHT}, {BODY_WEIGHT}, {CHARACTERS_WEIGHT})');
CREATE VIRTUAL TABLE titles USING fts5(title, content='', tokenize="ascii tokenchars '_'");
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(chunks, 'row');
"""
_ADD: Final = "INSERT INTO chunks(rowid, title, headings, body, characters) VALUES (?, ?, ?, ?, ?)"
_ADD_TITLE: Final = "INSERT INTO titles(rowid, title) VALUES (?, ?)"
# The tables keep no text, so they must be told the words again that they are to forget.
_REMOVE: Final = "INSERT INTO chunks(chunks, rowid, title, headings, body, characters) VALUES ('delete', ?, ?, ?, ?, ?)"
_REMOVE_TITLE: Final = "INSERT INTO titles(titles, rowid, title) VALUES ('delete', ?, ?)"
_FORGET: Final = "INSERT INTO chunks(chunks, rank) VALUES ('merge', ?)"
_FORGET_TITLES: Final = "INSERT INTO titles(titles) VALUES ('optimize')"
_SHOWN: Final = "rowid NOT BETWEEN ? AND ? ORDER BY rank LIMIT ?"
_MATCH: Final = f"SELECT rowid, -rank FROM chunks WHERE chunks MATCH ? AND {_SHOWN}"
_MATCH_TITLE: Final = f"SELECT rowid FROM titles WHERE titles MATCH ? AND {_SHOWN}"
_HOLDING: Final = "SELECT doc FROM vocabulary WHERE term = ?"


class Row(NamedTuple):
    """The words of one chunk, column by column; `opens` says that its title is to be found by itself as well."""

    number: int
    title: Iterable[str]
    headings: Iterable[str]
    body: Iterable[str]
    characters: Iterable[str]
    opens: bool


class FullText:
    """Words of chunks, to be matched from any thread: a lock guards the one connection, for about a millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = apsw.Connection(":memory:")
        self._database.execute(_SCHEMA).fetchall()  # the pragma's row would keep the rest waiting

    def add(self, rows: Iterable[Row]) -> None:
        """Adds all rows in one transaction; whoever searches waits for its end."""
        self._write(_ADD, _ADD_TITLE, rows)

    def remove(self, rows: Iterable[Row]) -> None:
        """Removes rows in one transaction; they must hold the words with which they were added."""
        self._write(_REMOVE, _REMOVE_TITLE, rows)

    def forget(self) -> None:
        """Makes the words of removed rows leave the memory, which FTS5 keeps until it merges; in steps, as `add`."""
        step = -MERGE_PAGES  # negative: begin to merge everything
        while self._merged(step):
            step = MERGE_PAGES
        with self._lock:
            self._database.execute(_FORGET_TITLES)

    def match(self, words: Iterable[str], limit: int, *, hidden: range = range(0)) -> list[tuple[int, float]]:
        """The best chunks that hold any of these words or phrases, with their bm25 rank: higher is better.

        Those with a number in `hidden` are passed over.
        """
        bound = (_any_of(words), hidden.start, hidden.stop - 1, limit)
        with self._lock:
            found: list[Any] = self._database.execute(_MATCH, bound).fetchall()
        return found

    def match_title(self, words: Iterable[str], limit: int, *, hidden: range = range(0)) -> list[int]:
        """The chunks that open the documents with the best titles for these words."""
        bound = (_any_of(words), hidden.start, hidden.stop - 1, limit)
        with self._lock:
            found: list[Any] = self._database.execute(_MATCH_TITLE, bound).fetchall()
        return [number for (number,) in found]

    def holding(self, word: str) -> int:
        """In how many chunks a word occurs."""
        with self._lock:
            found: Any = self._database.execute(_HOLDING, (word,)).get
        return int(found or 0)

    def close(self) -> None:
        """Frees the tables; any later call raises apsw.ConnectionClosedError."""
        with self._lock:
            self._database.close()

    def _write(self, chunk: str, title: str, rows: Iterable[Row]) -> None:
        with self._lock, self._database:
            for row in rows:
                columns = (" ".join(column) for column in row[1:5])
                self._database.execute(chunk, (row.number, *columns))
                if row.opens:
                    self._database.execute(title, (row.number, " ".join(row.title)))

    def _merged(self, step: int) -> bool:
        """One step of a merge; whether there was anything to do (FTS5 says it by the rows that it changed)."""
        with self._lock:
            before = self._database.total_changes()
            self._database.execute(_FORGET, (step,))
            return self._database.total_changes() - before >= 2


def _any_of(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
