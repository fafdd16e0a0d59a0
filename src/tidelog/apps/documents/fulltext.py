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

# The ascii tokenizer takes every other character as part of a word, which is right for words that are words already.
_SCHEMA: Final = f"""
CREATE VIRTUAL TABLE chunks USING fts5(
    title, headings, body, characters, content='', tokenize="ascii tokenchars '_'");
INSERT INTO chunks(chunks, rank)
    VALUES ('rank', 'bm25({TITLE_WEIGHT}, {HEADINGS_WEIGHT}, {BODY_WEIGHT}, {CHARACTERS_WEIGHT})');
CREATE VIRTUAL TABLE titles USING fts5(title, content='', tokenize="ascii tokenchars '_'");
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(chunks, 'row');
"""
_ADD: Final = "INSERT INTO chunks(rowid, title, headings, body, characters) VALUES (?, ?, ?, ?, ?)"
_ADD_TITLE: Final = "INSERT INTO titles(rowid, title) VALUES (?, ?)"
_MATCH: Final = "SELECT rowid, -rank FROM chunks WHERE chunks MATCH ? ORDER BY rank LIMIT ?"
_MATCH_TITLE: Final = "SELECT rowid FROM titles WHERE titles MATCH ? ORDER BY rank LIMIT ?"
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
        self._database.execute(_SCHEMA)

    def add(self, rows: Iterable[Row]) -> None:
        """Adds all rows in one transaction."""
        with self._lock, self._database:
            for row in rows:
                columns = (" ".join(column) for column in row[1:5])
                self._database.execute(_ADD, (row.number, *columns))
                if row.opens:
                    self._database.execute(_ADD_TITLE, (row.number, " ".join(row.title)))

    def match(self, words: Iterable[str], limit: int) -> list[tuple[int, float]]:
        """The best chunks that hold any of these words or phrases, with their bm25 rank: higher is better."""
        with self._lock:
            found: list[Any] = self._database.execute(_MATCH, (_any_of(words), limit)).fetchall()
        return found

    def match_title(self, words: Iterable[str], limit: int) -> list[int]:
        """The chunks that open the documents with the best titles for these words."""
        with self._lock:
            found: list[Any] = self._database.execute(_MATCH_TITLE, (_any_of(words), limit)).fetchall()
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


def _any_of(words: Iterable[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)
