"""Splits a chunk into pieces that can be quoted: sentences of prose, whole list items, code blocks and tables.

Prose loses its markdown (emphasis, links, tags); inline code keeps its ticks, or `__init__` would lose its underlines.
"""

import html
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tidelog.apps.documents.blocks import Block, Kind
from tidelog.apps.documents.chunks import Chunk
from tidelog.apps.documents.words import is_cjk

MAX_ITEM_CHARS: Final = 400  # a longer list item is told sentence by sentence
MAX_TABLE_CHARS: Final = 600  # of a longer table only the rows that bear on the question are shown, under its header
MAX_CAPTION_CHARS: Final = 1_000
SENTENCE_ENDS: Final = tuple('.!?。！？;；)）"”」…')

_ABBREVIATION: Final = re.compile(
    r"(?:e\.g|i\.e|etc|vs|cf|approx|dr|mr|mrs|ms|prof|st|no|nr|fig|eq|sec|ch|vol|pp|inc|ltd|co|jr|sr|dept|est|[a-z])"
)
_END: Final = re.compile(
    r"(?:[。！？]|[!?]{1,3}(?=[^\w\s]*\s|[^\x00-\x7f]|$)|…{1,2}(?=\s|$))[”」』）)\"'’]*\s*"
    r"|[.][)\"'”’]*\s+"
)
_NEXT_START: Final = re.compile(r"[\"'“‘(`\[]*[^\Wa-z_]|[\"'“‘(]*`")
_CODE_SPAN: Final = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_MARKUP: Final = (
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)?(?:\s+[\"'][^\"']*[\"'])?\)"), r"\1"),
    (re.compile(r"\[\^[^\]]+\]:?"), ""),
    (re.compile(r"!?\[([^\[\]]+)\]\[[^\[\]]*\]"), r"\1"),
    (re.compile(r"<((?:https?|mailto):[^<>\s]+)>"), r"\1"),
    (re.compile(r"</?[A-Za-z][^<>]*>"), ""),
    (re.compile(r"(\*\*|~~)(?=\S)(.+?)(?<=\S)\1", re.DOTALL), r"\2"),
    (re.compile(r"(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w)", re.DOTALL), r"\1"),
    (re.compile(r"(?<![\\*])\*(?=[^\s*])([^*]+?)(?<=[^\s\\])\*"), r"\1"),
    (re.compile(r"(?<!\w)_(?=[^\s_])([^_]+?)(?<=\S)_(?!\w)"), r"\1"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)
# Pictures, and the links and tags around them: a block of nothing else is a caption …
_PICTURE: Final = re.compile(r"!\[[^\[\]]*\](?:\([^()]*\)|\[[^\[\]]*\])|\[\s*\](?:\([^()]*\)|\[[^\[\]]*\])|<[^<>]*>")
# … and so is "Figure 2. The mirror", unless it goes on to a sentence with an end.
_FIGURE: Final = re.compile(
    r"\W{0,3}(?:(?:figure|fig\.?|photo|photograph|image|picture|plate|listing)\s*[\w.]{0,6}\s*[.:—–-][*_]{0,3}\s"
    r"|(?:图片|图表|插图|照片|图)\s*[\d一二三四五六七八九十.-]{0,6}\s*[：:.、\s])",
    re.IGNORECASE,
)
_QUOTE_MARK: Final = re.compile(r"^[ \t]*(?:>[ \t]?)+(?:\[![A-Z]+\][ \t]*$)?", re.MULTILINE)
_ITEM_MARK: Final = re.compile(r"\s*(?:[-*+•]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?|\s*\d{1,2}、\s*")
_BREAK: Final = re.compile(r"[ \t]*\\?\n[ \t]*")
_SPACES: Final = re.compile(r"[ \t\u00a0\u3000]+")
_FENCE_LINE: Final = re.compile(r"\A[ \t]*(?:`{3,}|~{3,})[^\n]*\n?|\n?^[ \t]*(?:`{3,}|~{3,})[ \t]*\Z", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a chunk: `text` is plain prose, a list item with its marker, a fenced block, a table or a caption.

    All but captions may be quoted. `block` counts the blocks of the chunk from 0: sentences of one paragraph have the same.
    """

    kind: Kind
    text: str
    block: int


def pieces(chunk: Chunk) -> list[Piece]:
    """The pieces of a chunk in order; never an empty one."""
    return [
        Piece(kind, text, number)
        for number, block in enumerate(chunk.blocks)
        for kind, text in _pieces(chunk.of(block), block)
        if text
    ]


def rows(table: str) -> tuple[str, list[str]]:
    """The two header lines of a table and its rows."""
    lines = table.split("\n")
    return "\n".join(lines[:2]), lines[2:]


def sentences(prose: str) -> list[str]:
    """Splits plain prose after . ! ? 。 ！ ？ and quotes behind them, not after `e.g.`, initials or decimals."""
    found: list[str] = []
    start = 0
    for match in _END.finditer(prose):
        if match[0][0] != "." or _ends_sentence(prose, match):
            found.append(prose[start : match.end()].strip())
            start = match.end()
    found.append(prose[start:].strip())
    return [sentence for sentence in found if sentence]


def plain(markdown: str) -> str:
    """Prose without its markdown, on one line; the lines of Chinese text are joined without a space."""
    text = _QUOTE_MARK.sub("", markdown)
    kept: list[str] = []
    at = 0
    for match in _CODE_SPAN.finditer(text):
        kept += (_without_markup(text[at : match.start()]), match[0])
        at = match.end()
    kept.append(_without_markup(text[at:]))
    return _SPACES.sub(" ", _BREAK.sub(_joint, "".join(kept).strip())).strip()


def _pieces(text: str, block: Block) -> Iterator[tuple[Kind, str]]:
    if block.kind == "code":
        yield "code", _fenced(text, block.info)
    elif block.kind == "table":
        yield "table", _table(text, block.info)
    elif block.kind == "item":
        yield from _item(text, block.info)
    elif block.kind == "heading":
        yield "prose", plain(block.info)
    elif _is_caption(text):
        yield "caption", plain(text)
    else:
        for sentence in sentences(plain(text)):
            yield "prose", sentence


def _is_caption(text: str) -> bool:
    if len(text) > MAX_CAPTION_CHARS or not ("!" in text or "<" in text or _FIGURE.match(text)):
        return False
    if _FIGURE.match(text) and not text.rstrip(" *_").endswith(SENTENCE_ENDS):
        return True
    bare = _PICTURE.sub("", _PICTURE.sub("", text))  # twice: a link is empty once its picture is gone
    return bare != text and not any(map(str.isalnum, bare))


def _item(text: str, marker: str) -> Iterator[tuple[Kind, str]]:
    body = plain(_ITEM_MARK.sub("", text, count=1))
    shown = marker if marker[0].isdigit() else "-"
    gap = "" if shown.endswith("、") else " "
    parts = [body] if len(body) <= MAX_ITEM_CHARS else sentences(body)
    for number, part in enumerate(parts):
        yield ("item", f"{shown}{gap}{part}") if number == 0 else ("prose", part)


def _fenced(text: str, language: str) -> str:
    code = textwrap.dedent(_FENCE_LINE.sub("", text).strip("\n")).rstrip()
    longest = max((len(ticks) for ticks in re.findall(r"`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}" if code else ""


def _table(text: str, header: str) -> str:
    # A long table is stored in several chunks; each is shown under the header again.
    whole = text if text.startswith(header) else f"{header}\n{text}"
    return "\n".join(line.strip() for line in whole.strip().split("\n"))


def _without_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return html.unescape(text)


def _joint(match: re.Match[str]) -> str:
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return "" if _is_wide(before) and _is_wide(after) else " "


def _is_wide(character: str) -> bool:
    return not character or is_cjk(character) or character in "，。、；：！？（）“”《》"


def _ends_sentence(prose: str, end: re.Match[str]) -> bool:
    """Whether this full stop ends a sentence: not that of an abbreviation or initial, nor one before a small letter."""
    following = prose[end.end() : end.end() + 4]
    word = prose[: end.start()].rsplit(None, 1)[-1:] or [""]
    if _ABBREVIATION.fullmatch(word[0].strip("(\"'“").lower()):
        return not following
    return bool(_NEXT_START.match(following) or not following)
