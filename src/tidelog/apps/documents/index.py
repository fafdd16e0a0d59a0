"""Finds the chunks that speak of what a question asks.

Two steps: bm25 picks candidates that hold any of the asked words; they are then ordered by that rank together with how
much of the question they cover, so that a chunk with all the words goes before one that repeats a single one.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from tidelog.apps.documents.chunks import CHUNK_CHARS, Chunk, chunks
from tidelog.apps.documents.folder import Document
from tidelog.apps.documents.fulltext import FullText, Row
from tidelog.apps.documents.words import Language, asked, characters, held, is_pair, language, words

DEFAULT_HITS: Final = 5
CANDIDATES: Final = 32  # chunks that bm25 proposes for the finer order
NAMED_DOCUMENTS: Final = 3  # whose openings are proposed too, by their titles
MAX_QUESTION_CHARS: Final = 2_000  # what comes after is not searched for
MAX_ASKED_WORDS: Final = 48  # of a question as long as a letter, the rarest words
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


class Index:
    """The searchable chunks of a set of documents, all in memory.

    Build it once; then `search` and `weigh` may be called from any thread. `documents` counts the documents, those
    without text included.
    """

    def __init__(self, *, chunk_chars: int = CHUNK_CHARS) -> None:
        self.documents = 0
        self._chunk_chars = chunk_chars
        self._chunks: list[Chunk] = []
        self._fulltext = FullText()

    @classmethod
    def build(cls, documents: Iterable[Document], *, chunk_chars: int = CHUNK_CHARS) -> Self:
        """An index of these documents; takes about a fifth of a second per megabyte, so call it from a thread."""
        index = cls(chunk_chars=chunk_chars)
        index._fulltext.add(index._rows(documents))
        return index

    @property
    def chunks(self) -> int:
        """How many chunks the documents were cut into."""
        return len(self._chunks)

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

    def _rows(self, documents: Iterable[Document]) -> Iterator[Row]:
        for document in documents:
            self.documents += 1
            title = words(document.title)
            for chunk in chunks(document, size=self._chunk_chars):
                self._chunks.append(chunk)
                below = "\n".join(heading for heading in chunk.headings if heading != chunk.title)
                singles = characters(f"{chunk.title}\n{below}\n{chunk.text}")
                yield Row(len(self._chunks), title, words(below), words(chunk.text), singles, chunk.opens)

    def _candidates(self, weights: Mapping[str, float]) -> Iterator[tuple[Chunk, float]]:
        """Chunks worth a closer look, each with its rank in 0..1 against the best one's."""
        if not weights:
            return
        ranks = dict(self._fulltext.match(weights, CANDIDATES))
        best = max(ranks.values(), default=0.0)
        for number in self._fulltext.match_title(weights, NAMED_DOCUMENTS):
            # bm25 cannot see it: a name that stands in every chunk of a folder weighs nothing.
            if is_about(self._chunks[number - 1], weights):
                ranks[number] = best * _NAMED_BONUS
        best = max(ranks.values(), default=0.0) or 1.0
        yield from ((self._chunks[number - 1], rank / best) for number, rank in ranks.items())

    def _rarity(self, holding: int) -> float:
        """The inverse document frequency of a word that this many chunks hold."""
        return math.log(1 + (len(self._chunks) - holding + 0.5) / (holding + 0.5))


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
