"""Cuts a document into chunks of about one screen paragraph: never across a heading, inside code or in mid-sentence
where that can be helped. A chunk knows where it stands, so that an answer can say so."""

import re
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from tidelog.apps.documents.blocks import Block, each_block
from tidelog.apps.documents.folder import Document
from tidelog.apps.documents.words import Language, language

CHUNK_CHARS: Final = 800
WHOLE_FACTOR: Final = 3  # code and tables are worth more whole: they are cut only beyond this many chunk sizes
LANGUAGE_CHARS: Final = 200_000  # tell what language a document is in
HAN_A_WORD: Final = 0.2  # a Chinese handbook of software may hold more Latin words than Chinese characters

_SENTENCE_END: Final = re.compile(r"[。！？!?…]+[”」』）)\"']*|[.](?=\s)[\"')]*|\n")
_SPACE: Final = re.compile(r"\s")
_LINE_END: Final = re.compile(r"\n")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one document under one heading: `text` is `document.text[start:end]`.

    `headings` leads from the top of the document to the chunk. The offsets of `blocks` are the document's. `opens` is
    true for the first chunk with prose of its own right under the title: it introduces the document. `language` is the
    whole document's. `page` counts from 1, None where the document has no pages.
    """

    path: str
    title: str
    headings: tuple[str, ...]
    text: str
    start: int
    end: int
    blocks: tuple[Block, ...]
    opens: bool
    language: Language
    page: int | None = None

    @property
    def place(self) -> tuple[str, ...]:
        """Where it stands, for a reader: the headings, then the page."""
        page = "" if self.page is None else f"第 {self.page} 页" if self.language == "zh" else f"Page {self.page}"
        return (*self.headings, page) if page else self.headings

    @property
    def id(self) -> str:
        """Names the chunk among all documents of the folder, as long as its document does not change."""
        return f"{self.path}#{self.start}"

    def of(self, block: Block) -> str:
        """The text of one of its blocks."""
        return self.text[block.start - self.start : block.end - self.start]


def chunks(document: Document, *, size: int = CHUNK_CHARS) -> Iterator[Chunk]:
    """Yields the chunks of a document in order, of at most about `size` characters; code and tables may be longer."""
    text, title, pages = document.text, document.title, document.pages
    spoken = language(text[:LANGUAGE_CHARS], han_a_word=HAN_A_WORD)
    opened = False
    for headings, section in _sections(each_block(text)):
        pieces = (piece for block in section for piece in _cut(text, block, size))
        for group in _packed(pieces, size, pages):
            opens = not opened and headings in ((), (title,)) and any(_is_told(text, block) for block in group)
            opened = opened or opens
            start, end = group[0].start, group[-1].end
            page = bisect(pages, start) or None
            yield Chunk(document.path, title, headings, text[start:end], start, end, tuple(group), opens, spoken, page)


def _sections(found: Iterable[Block]) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """The blocks under each path of headings; a heading with nothing at all below it is its own text."""
    path: list[Block] = []
    body: list[Block] = []
    for block in chain(found, (None,)):
        if block is not None and block.kind != "heading":
            body.append(block)
            continue
        childless = bool(path) and (block is None or block.level <= path[-1].level)
        if body or childless:
            yield tuple(heading.info for heading in path if heading.info), body or path[-1:]
        body = []
        if block is not None:
            path = [heading for heading in path if heading.level < block.level] + [block]


def _is_told(text: str, block: Block) -> bool:
    # Badges, logos and tags stand above the first sentence of many a README.
    return block.kind == "prose" and (text[block.start].isalnum() or text[block.start] in "*_`\"'“「『《(（>")


def _packed(pieces: Iterable[Block], size: int, pages: Sequence[int]) -> Iterator[list[Block]]:
    """Groups of pieces of at most about `size` characters, each on one page."""
    group: list[Block] = []
    for piece in pieces:
        if group and (
            piece.end - group[0].start > size or (pages and bisect(pages, piece.start) > bisect(pages, group[0].start))
        ):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _cut(text: str, block: Block, size: int) -> Iterator[Block]:
    rigid = block.kind in ("code", "table")
    if block.end - block.start <= (size * WHOLE_FACTOR if rigid else size):
        yield block
        return
    kind, start = block.kind, block.start
    while start < block.end:
        end = _cut_at(text, start, min(start + size, block.end), block.end, rigid=rigid)
        yield replace(block, kind=kind, start=start, end=end)
        kind = "prose" if kind == "item" else kind
        start = end
        while start < block.end and text[start].isspace():
            start += 1


def _cut_at(text: str, start: int, limit: int, end: int, *, rigid: bool) -> int:
    """The last good place to cut in `text[start:limit]`; the limit itself when there is none past the middle."""
    if limit == end:
        return end
    for boundary in (_LINE_END,) if rigid else (_SENTENCE_END, _SPACE):
        places = [match.end() for match in boundary.finditer(text, (start + limit) // 2, limit)]
        if places:
            return places[-1]
    return limit
