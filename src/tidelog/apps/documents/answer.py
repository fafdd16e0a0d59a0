"""Answers a question with sentences of the documents themselves: no model, nothing invented, each with its source.

The sentence that bears most on the question is told first. What follows it in its text stays with it; then the next
best, from wherever it stands. What the documents do not say is said plainly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tidelog.apps.documents.blocks import Kind
from tidelog.apps.documents.index import Hit, Index
from tidelog.apps.documents.scoring import Scored, score
from tidelog.apps.documents.sentences import plain
from tidelog.apps.documents.words import characters, language, words

MAX_SENTENCES: Final = 6
MIN_SENTENCES: Final = 3  # filled up from the paragraph of the best one, where it goes on
MAX_ANSWER_CHARS: Final = 2_000  # the best piece is told even if it alone is longer
QUOTE_CHARS: Final = 200
MIN_OF_BEST: Final = 0.55  # of the best score, for any further sentence

ALIKE_CACHE: Final = 256  # pieces whose words are kept: each is compared with every other one of an answer

_CARRIED: Final = 0.25  # of a sentence's score goes to the one after it, which often explains it
_ALIKE: Final = 0.8  # share of common words above which two sentences say the same


@dataclass(frozen=True, slots=True)
class Sentence:
    """One piece of an answer; `source` is the 1-based place of its hit, None for a fixed sentence of our own.

    `kind` is prose, item, code or table; `text` is markdown for all but prose. `score` is in 0..1. `follows` says that
    it stands right after the sentence before it in the same document.
    """

    text: str
    source: int | None
    kind: Kind
    score: float
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """What is shown of one hit: `id` is s1, s2, … as sentences count; `quote` is its best sentence, cut to 200."""

    id: str
    title: str
    heading: tuple[str, ...]
    quote: str
    score: float
    path: str


def answer(
    question: str,
    hits: Sequence[Hit],
    *,
    index: Index,
    limit: int = MAX_SENTENCES,
    scored: Sequence[Scored] | None = None,
) -> list[Sentence]:
    """The sentences of the hits that answer a question: at most `limit`, mostly two to six, the best one first.

    Without any, one sentence in the question's language (English or Chinese) that says so. `scored` is what `score`
    said of these hits, if it was asked before. Takes a few milliseconds and waits for nothing but the index's lock.
    """
    scored = score(question, hits, index=index) if scored is None else scored
    best = max(scored, key=lambda one: one.score, default=None)
    if best is None or not best.score:
        return [Sentence(nothing_found(question, index.documents), None, "prose", 0.0)]
    return list(_told(_chosen(best, scored, limit)))


def sources(
    question: str, hits: Sequence[Hit], *, index: Index, scored: Sequence[Scored] | None = None
) -> list[Source]:
    """What to show of each hit, in their order. `scored` is as for `answer`."""
    scored = score(question, hits, index=index) if scored is None else scored
    return [_source(number, hit, [one for one in scored if one.source == number]) for number, hit in enumerate(hits, 1)]


def written(sentences: Sequence[Sentence]) -> Iterator[str]:
    """Yields one string a sentence; joined, they are the answer as markdown with citations like `[1]`."""
    before: Sentence | None = None
    for sentence in sentences:
        yield _gap(before, sentence) + sentence.text + _citation(sentence)
        before = sentence


def nothing_found(question: str, documents: int) -> str:
    """The plain sentence for a question that the documents do not answer, in the question's language."""
    if language(question) == "zh":
        return f"在 {documents} 篇文档中没有找到相关内容。" if documents else "还没有可供查找的文档。"
    if not documents:
        return "There are no documents to search yet."
    counted = f"the {documents} documents" if documents > 1 else "the one document"
    return f"Nothing about this was found in {counted}."


def _chosen(best: Scored, scored: Sequence[Scored], limit: int) -> list[Scored]:
    """The best piece, behind the sentence that leads to it if it is code; those near it; what completes its paragraph."""
    near = [(worth, one) for one, worth in _carried(scored) if worth >= MIN_OF_BEST * best.score]
    near.sort(key=lambda pair: -pair[0])
    first = [one for one in scored if best.led and one.precedes(best)] + [best]
    chosen = _added(first, [one for _, one in near], limit)
    rest = [one for one in scored if one.source == best.source and one.piece.block == best.piece.block]
    return _added(chosen, [one for one in rest if one.place > best.place], min(limit, MIN_SENTENCES))


def _carried(scored: Sequence[Scored]) -> Iterator[tuple[Scored, float]]:
    """Each piece that bears on the question, with its score and a share of the one before it."""
    before: Scored | None = None
    for one in scored:
        if one.score:
            yield one, one.score + (_CARRIED * before.score if before is not None and before.precedes(one) else 0.0)
        before = one


def _added(chosen: Sequence[Scored], more: Sequence[Scored], limit: int) -> list[Scored]:
    result = list(chosen)
    room = MAX_ANSWER_CHARS - sum(len(one.piece.text) for one in result)
    for one in more:
        if len(result) < limit and len(one.piece.text) <= room and not any(_alike(one, other) for other in result):
            result.append(one)
            room -= len(one.piece.text)
    return result


def _alike(one: Scored, other: Scored) -> bool:
    if one is other:
        return True
    ours, theirs = _vocabulary(one.piece.text), _vocabulary(other.piece.text)
    return len(ours & theirs) >= _ALIKE * len(ours | theirs)


@lru_cache(maxsize=ALIKE_CACHE)
def _vocabulary(text: str) -> set[str]:
    return characters(text).union(words(text))


def _told(chosen: Sequence[Scored]) -> Iterator[Sentence]:
    """The first one first, then what follows it in its text, then the next best; each once."""
    left = [*chosen[:1], *sorted(chosen[1:], key=lambda one: -one.score)]
    while left:
        one: Scored | None = left[0]
        follows = False
        while one is not None:
            left.remove(one)
            yield Sentence(one.piece.text, one.source, one.piece.kind, min(1.0, round(one.score, 3)), follows)
            before, follows = one, True
            one = next((other for other in left if before.precedes(other)), None)


def _source(number: int, hit: Hit, scored: Sequence[Scored]) -> Source:
    best = max(scored, key=lambda one: one.score, default=None)
    text = plain(hit.chunk.text) if best is None else best.piece.text
    quote = text if len(text) <= QUOTE_CHARS else text[: QUOTE_CHARS - 1].rstrip() + "…"
    place = tuple(map(plain, hit.chunk.place))
    return Source(f"s{number}", plain(hit.chunk.title), place, quote, round(hit.score, 3), hit.chunk.path)


def _gap(before: Sentence | None, sentence: Sentence) -> str:
    if before is None:
        return ""
    if before.kind == sentence.kind == "item":
        return "\n"
    return " " if sentence.follows and before.kind == sentence.kind == "prose" else "\n\n"


def _citation(sentence: Sentence) -> str:
    if sentence.source is None:
        return ""
    # Behind a fence or a table row the mark would become part of it.
    return ("\n\n" if sentence.kind in ("code", "table") else " ") + f"[{sentence.source}]"
