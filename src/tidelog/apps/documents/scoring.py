"""Scores every piece of the hits by how much it bears on a question.

A piece bears by the weight of the asked words that it holds itself, and in part by those of the headings, the title and
the line that leads to it ("You need:"). A little is added for its place, and for holding the kind of thing asked for.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final

from tidelog.apps.documents.blocks import Kind
from tidelog.apps.documents.chunks import Chunk
from tidelog.apps.documents.index import Hit, Index, is_about
from tidelog.apps.documents.sentences import MAX_TABLE_CHARS, SENTENCE_ENDS, Piece, pieces, rows
from tidelog.apps.documents.words import Language, held, language, words

SHOWN_TABLE_ROWS: Final = 4
LABEL_CHARS: Final = 60

_HEADING_SHARE: Final = 0.85  # of a word's weight, when not the piece but the heading or line above it has it
_CODE_SHARE: Final = 0.6  # … and when code has it that no sentence leads to: names and comments are no sentences
_TITLE_SHARE: Final = 0.25
_FIRST_BONUS: Final = 0.06
_CUE_BONUS: Final = 0.12
_LABEL_FACTOR: Final = 0.3  # a line without an end is a caption: it says what follows, and little itself
_OTHER_LANGUAGE: Final = 0.5  # told only when the reader's own language has nothing as good
_SHORT_BYTES: Final = 10  # in bytes, since three Chinese characters say as much as a word of nine letters
_LONG_CHARS: Final = 300
_KIND_FACTORS: Final[Mapping[Kind, float]] = {
    "prose": 1.0,
    "item": 1.0,
    "heading": 1.0,
    "table": 0.9,
    "code": 0.8,
    "caption": 0.0,
}

_NUMBER_WORD: Final = (
    r"\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty"
    r"|hundred|thousand|million|once|twice|free|daily|weekly|monthly|yearly)\b"
)
# What kind of thing a question asks for, and what a sentence looks like that holds one.
_CUES: Final = (
    (
        re.compile(
            r"how (?:much|many|long|far|often|old|fast|big|soon|late)|\bwhen\b|what time|price|cost|fee|limit"
            r"|多少|多久|多长|多远|多大|几|时候|何时|价格|费用|上限|电话",
            re.IGNORECASE,
        ),
        re.compile(
            rf"\d|[一二三四五六七八九十百千两半][百千万个天年月岁元次周点分小公米日]|{_NUMBER_WORD}", re.IGNORECASE
        ),
    ),
    (
        re.compile(r"\bwhy\b|为什么|为何|原因", re.IGNORECASE),
        re.compile(r"\b(?:because|since|so that|reason|therefore|due to)\b|因为|由于|所以|为了|以便", re.IGNORECASE),
    ),
)
_ASKS_MEANING: Final = re.compile(r"^\W*what(?:'s|’s| is| are)\b|是什么|什么是|是指|什么意思", re.IGNORECASE)
_DEFINES: Final = re.compile(r"(.{1,50}?)(?:\b(?:is|are|means)\b|是|指|：|:\s)", re.IGNORECASE)
_LEADS: Final = (":", "：")


@dataclass(frozen=True, slots=True)
class Scored:
    """One piece with its score; `source` is the 1-based place of its hit, `place` its own in the chunk, from 0."""

    piece: Piece
    source: int
    place: int
    score: float
    led: bool = False
    """Whether the piece before it leads to it, and says what it is."""

    def precedes(self, other: "Scored") -> bool:
        """Whether the other piece stands right after this one in the same chunk."""
        return self.source == other.source and self.place + 1 == other.place


@dataclass(frozen=True, slots=True)
class _Question:
    """What a question asks for: its weighted words, what an answer to it looks like, and its language."""

    weights: Mapping[str, float]
    shapes: Sequence[re.Pattern[str]]
    asks_meaning: bool
    language: Language

    def cues(self, piece: Piece, *, introduces: bool) -> int:
        """How many signs of the asked kind a piece shows; `introduces`: it opens the document that has the name."""
        defines = introduces or (self.asks_meaning and _defines(piece.text, self.weights))
        return sum(bool(shape.search(piece.text)) for shape in self.shapes) + defines


def score(question: str, hits: Sequence[Hit], *, index: Index) -> list[Scored]:
    """Every piece of the hits in order; those that do not bear on the question have a score of 0."""
    shapes = [shape for asks, shape in _CUES if asks.search(question)]
    asked = _Question(index.weigh(question), shapes, _ASKS_MEANING.search(question) is not None, language(question))
    return [one for source, hit in enumerate(hits, 1) for one in _score_hit(source, hit, asked)]


def _score_hit(source: int, hit: Hit, asked: _Question) -> Iterator[Scored]:
    above, led = _above(hit, asked.weights), _Lead()
    found = pieces(hit.chunk)
    opening = _opening(hit.chunk, found, asked.weights)
    trust = (0.6 + 0.4 * hit.score) * (1.0 if hit.chunk.language == asked.language else _OTHER_LANGUAGE)
    for place, whole in enumerate(found):
        piece = _narrowed(whole, asked.weights)
        own = held(piece.text, asked.weights)
        led.pass_on(piece, own)
        bearing = 1.0 if whole is opening else _bearing(piece, own, above, led.words, weights=asked.weights)
        bonus = _FIRST_BONUS / (1 + place) + _CUE_BONUS * asked.cues(piece, introduces=whole is opening)
        factor = _factor(piece, last=place == len(found) - 1) * trust
        yield Scored(piece, source, place, (bearing + bonus) * factor if bearing else 0.0, led.leads)


def _opening(chunk: Chunk, found: Sequence[Piece], weights: Mapping[str, float]) -> Piece | None:
    """The first sentence of a document that the question names: it tells the subject, often without its name."""
    if not is_about(chunk, weights):
        return None
    return next((piece for piece in found if piece.kind == "prose" and not _is_label(piece)), None)


class _Lead:
    """The asked words of the last line that leads to what follows it: a caption, or a sentence that ends in a colon."""

    def __init__(self) -> None:
        self.words: Set[str] = frozenset()
        self._next: Set[str] = frozenset()
        self._is_caption = False
        self.leads = False
        self._before = ""

    def pass_on(self, piece: Piece, own: Set[str]) -> None:
        """Moves to a piece: `words` are then those that lead to it, and `leads` tells whether a sentence does."""
        self.words = self._next if self._is_caption or piece.kind != "prose" else frozenset()
        self.leads = piece.kind == "code" and self._before.endswith(_LEADS)
        self._before = piece.text if piece.kind == "prose" else ""
        if _is_label(piece) or piece.text.endswith(_LEADS):
            self._next, self._is_caption = own, _is_label(piece)
        elif not self.words:
            self._next = frozenset()


def _bearing(
    piece: Piece, own: Set[str], above: Mapping[str, float], led: Set[str], *, weights: Mapping[str, float]
) -> float:
    """The share of the question's weight that a piece holds or is lent."""
    held_share = _CODE_SHARE if piece.kind == "code" else 1.0
    shares = (
        weight * max(held_share if word in own else 0.0, above.get(word, 0.0), _HEADING_SHARE if word in led else 0.0)
        for word, weight in weights.items()
    )
    return sum(shares) / (sum(weights.values()) or 1.0)


def _above(hit: Hit, weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each asked word that the title and the headings lend to every piece below them."""
    title, headings = held(hit.chunk.title, weights), held("\n".join(hit.chunk.headings), weights)
    from_title = _HEADING_SHARE if is_about(hit.chunk, weights) else _TITLE_SHARE
    return {word: from_title if word in title else _HEADING_SHARE for word in title | headings}


def _narrowed(piece: Piece, weights: Mapping[str, float]) -> Piece:
    """A long table cut to its header and the rows that bear on the question."""
    if piece.kind != "table" or len(piece.text) <= MAX_TABLE_CHARS:
        return piece
    header, body = rows(piece.text)
    worth = {row: sum(weights[word] for word in held(row, weights)) for row in body}
    best = sorted(filter(worth.__getitem__, worth), key=lambda row: -worth[row])[:SHOWN_TABLE_ROWS]
    return replace(piece, text="\n".join([header, *(row for row in worth if row in best)])) if best else piece


def _factor(piece: Piece, *, last: bool) -> float:
    size = len(piece.text)
    factor = _KIND_FACTORS[piece.kind]
    if piece.kind in ("code", "table"):
        return factor
    if _is_label(piece) or (last and piece.text.endswith(_LEADS)):
        return factor * _LABEL_FACTOR
    return factor * (0.6 if len(piece.text.encode()) < _SHORT_BYTES else 0.85 if size > _LONG_CHARS else 1.0)


def _is_label(piece: Piece) -> bool:
    return piece.kind == "caption" or (
        piece.kind == "prose" and len(piece.text) <= LABEL_CHARS and not piece.text.endswith(SENTENCE_ENDS + _LEADS)
    )


def _defines(text: str, weights: Mapping[str, float]) -> bool:
    """Whether a sentence opens with an asked word and goes on with "is" or a colon."""
    opening = _DEFINES.match(text)
    return opening is not None and not weights.keys().isdisjoint(words(opening[1]))
