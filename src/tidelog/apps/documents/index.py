"""Finds the chunks that speak of what a question asks, by full-text search in a SQLite database in memory.

Two steps: FTS5's bm25 picks candidates that hold any of the asked words; they are then ordered by that rank together
with how much of the question they cover, so that a chunk with all the words goes before one that repeats a single one.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import apsw

from tidelog.apps.documents.chunks import CHUNK_CHARS, Chunk, chunks
from tidelog.apps.documents.folder import Document
from tidelog.apps.documents.words import Language, asked, characters, held, is_pair, language, words

DEFAULT_HITS: Final = 5
CANDIDATES: Final = 32  # rows that bm25 proposes for the finer order
MAX_QUESTION_CHARS: Final = 2_000  # what comes after is not searched for
MAX_ASKED_WORDS: Final = 48  # of a question as long as a letter, the rarest words
MIN_COVERAGE: Final = 0.2  # a chunk with less of the question's weight is chance, not an answer
MIN_OF_BEST: Final = 0.35  # hits far below the best one are noise under it

# bm25 weights of the columns: a heading names what its text is about; lone characters are weak evidence.
_COLUMN_WEIGHTS: Final = (3.0, 4.0, 1.0, 0.3)
# Two neighbours that occur nowhere are mostly the end of one word and the start of the next: 还|自行车.
_UNKNOWN_PAIR: Final = 0.2
_COVERAGE_SHARE: Final = 0.6  # of a hit's score; the rest is its bm25 against the best bm25
_OTHER_LANGUAGE: Final = 0.75  # of two translations that hold the same names, the reader wants the one in her language

_SCHEMA: Final = """
CREATE VIRTUAL TABLE chunks USING fts5(
    title, headings, body, characters, content='', tokenize="ascii tokenchars '_'", columnsize=1);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(chunks, 'row');
"""
_INSERT: Final = "INSERT INTO chunks(rowid, title, headings, body, characters) VALUES (?, ?, ?, ?, ?)"
_CANDIDATES: Final = "SELECT rowid, -rank FROM chunks WHERE chunks MATCH ? ORDER BY rank LIMIT ?"
_HOLDING: Final = "SELECT doc FROM vocabulary WHERE term = ?"


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that speaks of the question; `score` in 0..1 is the same measure for all hits of a question."""

    chunk: Chunk
    score: float


class Index:
    """The searchable chunks of a set of documents, all in memory.

    Build it once; then `search` and `weigh` may be called from any thread (a lock guards the one connection, which is
    held for about a millisecond). `documents` counts the documents, those without text included.
    """

    def __init__(self, *, chunk_chars: int = CHUNK_CHARS) -> None:
        self.documents = 0
        self._chunk_chars = chunk_chars
        self._chunks: list[Chunk] = []
        self._lock = threading.Lock()
        self._database = apsw.Connection(":memory:")
        self._database.execute(_SCHEMA)
        weights = ", ".join(map(str, _COLUMN_WEIGHTS))
        self._database.execute("INSERT INTO chunks(chunks, rank) VALUES ('rank', ?)", (f"bm25({weights})",))

    @classmethod
    def build(cls, documents: Iterable[Document], *, chunk_chars: int = CHUNK_CHARS) -> Self:
        """An index of these documents; takes about a fifth of a second per megabyte, so call it from a thread."""
        index = cls(chunk_chars=chunk_chars)
        with index._database:
            index._database.executemany(_INSERT, index._rows(documents))
        return index

    @property
    def chunks(self) -> int:
        """How many chunks the documents were cut into."""
        return len(self._chunks)

    def search(self, question: str, limit: int = DEFAULT_HITS) -> list[Hit]:
        """The best chunks for a question, best first; empty when none covers enough of what it asks."""
        weights = self.weigh(question)
        if not weights:
            return []
        candidates = self._candidates(weights)
        best_rank = max((rank for _, rank in candidates), default=0.0) or 1.0
        spoken = language(question)
        hits = [
            Hit(chunk, _score(covered, rank / best_rank) * _fluency(chunk, spoken))
            for chunk, rank in candidates
            if (covered := _coverage(chunk, weights)) >= MIN_COVERAGE
        ]
        hits = _distinct(sorted(hits, key=lambda hit: -hit.score))
        return [hit for hit in hits[:limit] if hit.score >= MIN_OF_BEST * hits[0].score]

    def weigh(self, question: str) -> dict[str, float]:
        """The words and phrases a question asks for, each with its weight: how rare it is here, times its strength."""
        strengths = asked(question[:MAX_QUESTION_CHARS])
        counts = {word: self._holding(word) for word in strengths if " " not in word}
        weights: dict[str, float] = {}
        for word, strength in strengths.items():
            holding = [counts.get(part, 0) for part in word.split()]
            if len(holding) == 1 or all(holding):  # a phrase with an unknown word cannot be found
                weights[word] = strength * sum(map(self._rarity, holding)) / len(holding)
            if not all(holding) and is_pair(word):
                weights[word] *= _UNKNOWN_PAIR
        rarest = sorted(weights, key=lambda word: -weights[word])[:MAX_ASKED_WORDS]
        return {word: weights[word] for word in rarest}

    def close(self) -> None:
        """Frees the database; searching afterwards raises apsw.ConnectionClosedError."""
        with self._lock:
            self._database.close()

    def _rows(self, documents: Iterable[Document]) -> Iterator[tuple[int, str, str, str, str]]:
        for document in documents:
            self.documents += 1
            title = " ".join(words(document.title))
            for chunk in chunks(document, size=self._chunk_chars):
                self._chunks.append(chunk)
                headings = " ".join(chunk.headings)
                singles = characters(f"{chunk.title} {headings} {chunk.text}")
                yield (
                    len(self._chunks),
                    title,
                    " ".join(words(headings)),
                    " ".join(words(chunk.text)),
                    " ".join(singles),
                )

    def _candidates(self, weights: Mapping[str, float]) -> list[tuple[Chunk, float]]:
        query = " OR ".join(f'"{word}"' for word in weights)
        with self._lock:
            rows: list[Any] = self._database.execute(_CANDIDATES, (query, CANDIDATES)).fetchall()
        return [(self._chunks[number - 1], rank) for number, rank in rows]

    def _holding(self, word: str) -> int:
        """In how many chunks a word occurs."""
        with self._lock:
            found: Any = self._database.execute(_HOLDING, (word,)).get
        return int(found or 0)

    def _rarity(self, holding: int) -> float:
        """The inverse document frequency of a word that this many chunks hold."""
        return math.log(1 + (len(self._chunks) - holding + 0.5) / (holding + 0.5))


def _distinct(hits: Iterable[Hit]) -> list[Hit]:
    """The first of all hits with the same text: folders hold copies."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.chunk.text, hit)
    return list(first.values())


def _score(covered: float, rank: float) -> float:
    return _COVERAGE_SHARE * covered + (1 - _COVERAGE_SHARE) * rank


def _fluency(chunk: Chunk, spoken: Language) -> float:
    return 1.0 if language(chunk.text) == spoken else _OTHER_LANGUAGE


def _coverage(chunk: Chunk, weights: Mapping[str, float]) -> float:
    """The share in 0..1 of the question's weight that a chunk holds, in its text, headings or title."""
    text = "\n".join((chunk.title, *chunk.headings, chunk.text))
    return sum(weights[word] for word in held(text, weights)) / sum(weights.values())
