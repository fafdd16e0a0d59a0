"""Finds the chunks that speak of what a question asks.

Two steps: bm25 picks candidates that hold any of the asked words; they are then ordered by that rank together with how
much of the question they cover, so that a chunk with all the words goes before one that repeats a single one.
"""

import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, Self

from tidelog.apps.documents.chunks import CHUNK_CHARS, Chunk, chunks
from tidelog.apps.documents.folder import Document
from tidelog.apps.documents.fulltext import FullText, Row
from tidelog.apps.documents.way import Way
from tidelog.apps.documents.words import Language, asked, characters, held, is_pair, language, words

BATCH_ROWS: Final = 64
"""Chunks that are written at once while others may search: some milliseconds."""
DEFAULT_HITS: Final = 5
CANDIDATES: Final = 32  # chunks that bm25 proposes for the finer order
COMMON_CHUNKS: Final = 1_000
"""A word that more chunks hold picks no candidate, if the question has a rarer one; it still orders them."""
NAMED_DOCUMENTS: Final = 3  # whose openings are proposed too, by their titles
MAX_QUESTION_CHARS: Final = 2_000  # what comes after is not searched for
MAX_ASKED_WORDS: Final = 48  # of a question as long as a letter, the rarest words
MAX_LOOKS: Final = 5  # where a document comes or goes while one looks
MIN_COVERAGE: Final = 0.2  # a chunk with less of the question's weight is chance, not an answer
MIN_OF_BEST: Final = 0.35  # hits far below the best one are noise under it

_COVERAGE_SHARE: Final = 0.6  # of a hit's score; the rest is its bm25 against the best bm25
_NAMED: Final = 0.9  # share of a question's weight in a title, above which it asks for the document as a whole …
_NAMING: Final = 0.4  # … if it names this share of the title: "tidelog" does not mean "The tidelog protocol, version 1"
_NAMED_BONUS: Final = 1.1
_OTHER_LANGUAGE: Final = 0.75  # of two translations that hold the same names, the reader wants the one in her language
# Two neighbours that occur nowhere are mostly the end of one word and the start of the next: 还|自行车.
_UNKNOWN_PAIR: Final = 0.2


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that speaks of the question; `score` in 0..1 is the same measure for all hits of a question."""

    chunk: Chunk
    score: float


class Entry(NamedTuple):
    """One document in an index: the numbers of its chunks."""

    numbers: range


class _Shown(NamedTuple):
    """What searches may find: these chunks; the words of those numbered in `hidden` are being written or forgotten."""

    chunks: Mapping[int, Chunk]
    hidden: range = range(0)


class Index:
    """The searchable chunks of a set of documents, all in memory.

    Its methods may be called from any thread; they block, so call them from one that may. A document that is being
    added is found once all of it is there, and never beside the one that it replaces. `way`: whom adding and removing
    give way to.
    """

    def __init__(self, *, chunk_chars: int = CHUNK_CHARS, way: Way | None = None) -> None:
        self.documents = 0
        """How many documents there are, those without text included."""
        self._chunk_chars = chunk_chars
        self._last = 0
        self._shown = _Shown({})
        self._fulltext = FullText()
        self._writing = threading.Lock()
        self._way = way or Way()

    @classmethod
    def build(cls, documents: Iterable[Document], *, chunk_chars: int = CHUNK_CHARS, way: Way | None = None) -> Self:
        """An index of these documents; takes about a fifth of a second per megabyte."""
        index = cls(chunk_chars=chunk_chars, way=way)
        found: dict[int, Chunk] = {}

        def rows() -> Iterator[Row]:
            for document in documents:
                index.documents += 1
                for chunk in chunks(document, size=chunk_chars):
                    found[len(found) + 1] = chunk
                    yield _row(len(found), chunk)

        index._fulltext.add(rows())
        index._shown, index._last = _Shown(found), len(found)
        return index

    def add(self, document: Document, *, instead_of: Entry | None = None) -> Entry:
        """Adds a document, in the place of another one if that is given."""
        with self._writing:
            new = dict(enumerate(self._way.politely(chunks(document, size=self._chunk_chars)), self._last + 1))
            entry = Entry(range(self._last + 1, self._last + len(new) + 1))
            self._last += len(new)
            self._shown = self._shown._replace(hidden=entry.numbers)
            for rows in self._batches(new):
                self._fulltext.add(rows)
            self._swap(instead_of, new, added=1)
            return entry

    def remove(self, entry: Entry) -> None:
        """Removes a document: it is not found from now on, and no byte of it remains when this returns."""
        with self._writing:
            self._swap(entry, {}, added=0)

    @property
    def chunks(self) -> int:
        """How many chunks the documents were cut into."""
        return len(self._shown.chunks)

    def every(self) -> Collection[Chunk]:
        """Every chunk as it is now; those of one document stand in order."""
        return self._shown.chunks.values()

    def search(self, question: str, limit: int = DEFAULT_HITS) -> list[Hit]:
        """The best chunks for a question, best first; empty when none covers enough of what it asks."""
        weights = self.weigh(question)
        spoken = language(question)
        hits = [
            Hit(chunk, _score(covered, rank) * _fluency(chunk, spoken))
            for chunk, rank in self._candidates(weights)
            if (covered := _coverage(chunk, weights)) >= MIN_COVERAGE
        ]
        hits = _distinct(sorted(hits, key=lambda hit: -hit.score))
        return [hit for hit in hits[:limit] if hit.score >= MIN_OF_BEST * hits[0].score]

    def weigh(self, question: str) -> dict[str, float]:
        """The words and phrases a question asks for, each with its weight: how rare it is here, times its strength."""
        strengths = asked(question[:MAX_QUESTION_CHARS])
        counts = {word: self._fulltext.holding(word) for word in strengths if " " not in word}
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
        """Frees the index; searching afterwards raises apsw.ConnectionClosedError."""
        self._fulltext.close()

    def _swap(self, old: Entry | None, new: dict[int, Chunk], *, added: int) -> None:
        """Let searches find `new` and no longer `old`, in one step; then forget the words of `old`."""
        before = self._shown.chunks
        gone = {} if old is None else {number: before[number] for number in old.numbers}
        left = {number: chunk for number, chunk in before.items() if number not in gone} if gone else before
        self._shown = _Shown({**left, **new}, hidden=old.numbers if old is not None else range(0))
        self.documents += added - (old is not None)
        for rows in self._batches(gone):
            self._fulltext.remove(rows)
        if gone:
            self._fulltext.forget()
            self._shown = self._shown._replace(hidden=range(0))

    def _batches(self, found: Mapping[int, Chunk]) -> Iterator[Sequence[Row]]:
        """The words of chunks, some rows at a time, made before anybody has to wait for them."""
        rows = (_row(number, chunk) for number, chunk in self._way.politely(found.items()))
        while batch := list(islice(rows, BATCH_ROWS)):
            yield batch

    def _candidates(self, weights: Mapping[str, float]) -> Iterator[tuple[Chunk, float]]:
        """Chunks worth a closer look, each with its rank in 0..1 against the best one's."""
        if not weights:
            return
        found, ranks = self._ranked(weights)
        best = max(ranks.values(), default=0.0)
        for number in self._fulltext.match_title(weights, NAMED_DOCUMENTS, hidden=self._shown.hidden):
            # bm25 cannot see it: a name that stands in every chunk of a folder weighs nothing.
            if number in found and is_about(found[number], weights):
                ranks[number] = best * _NAMED_BONUS
        best = max(ranks.values(), default=0.0) or 1.0
        yield from ((found[number], rank / best) for number, rank in ranks.items())

    def _ranked(self, weights: Mapping[str, float]) -> tuple[Mapping[int, Chunk], dict[int, float]]:
        """The chunks, and the ranks of the candidates among them: both of the same moment, or of one soon after."""
        telling = self._telling(weights)
        for _ in range(MAX_LOOKS):
            shown = self._shown
            found = self._fulltext.match(telling, CANDIDATES, hidden=shown.hidden)
            if shown is self._shown:
                break
        return shown.chunks, {number: rank for number, rank in found if number in shown.chunks}

    def _telling(self, weights: Mapping[str, float]) -> Collection[str]:
        """The words to pick candidates by: bm25 takes a microsecond for each chunk that holds one."""
        rare = [word for word in weights if self._fulltext.holding(word.split()[0]) <= COMMON_CHUNKS]
        return rare or sorted(weights, key=lambda word: -weights[word])[:1]

    def _rarity(self, holding: int) -> float:
        """The inverse document frequency of a word that this many chunks hold."""
        others = max(0, self.chunks - holding)  # chunks that are being added hold words and do not count yet
        return math.log(1 + (others + 0.5) / (holding + 0.5))


def _row(number: int, chunk: Chunk) -> Row:
    below = "\n".join(heading for heading in chunk.headings if heading != chunk.title)
    singles = characters(f"{chunk.title}\n{below}\n{chunk.text}")
    return Row(number, words(chunk.title), words(below), words(chunk.text), singles, chunk.opens)


def is_about(chunk: Chunk, weights: Mapping[str, float]) -> bool:
    """Whether a chunk opens a document whose title is what the question asks for."""
    if not chunk.opens or _share(chunk.title, weights) < _NAMED:
        return False
    title = asked(chunk.title).keys()
    return len(title & weights.keys()) >= _NAMING * len(title)


def _distinct(hits: Iterable[Hit]) -> list[Hit]:
    """The first of all hits with the same text: folders hold copies."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.chunk.text, hit)
    return list(first.values())


def _score(covered: float, rank: float) -> float:
    return _COVERAGE_SHARE * covered + (1 - _COVERAGE_SHARE) * rank


def _fluency(chunk: Chunk, spoken: Language) -> float:
    return 1.0 if chunk.language == spoken else _OTHER_LANGUAGE


def _coverage(chunk: Chunk, weights: Mapping[str, float]) -> float:
    return _share("\n".join((chunk.title, *chunk.headings, chunk.text)), weights)


def _share(text: str, weights: Mapping[str, float]) -> float:
    """The share in 0..1 of the question's weight that a text holds."""
    return sum(weights[word] for word in held(text, weights)) / (sum(weights.values()) or 1.0)
