"""Finds the blocks of a markdown text (headings, prose, list items, code, tables) with their character offsets.

Not a renderer: it knows just enough of CommonMark to cut a text where a reader would, and never to take a comment in a
code fence for a heading. Any text gives blocks; plain text is prose. Front matter, HTML comments, link definitions and
rules are passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

Kind = Literal["heading", "prose", "item", "code", "table", "caption"]
"""What a block or a piece of one is. No block is a caption: that is a piece of prose which says what a picture shows."""

MAX_MARKED_LINE: Final = 10_000  # a longer line is prose: the patterns below may take time in its length squared

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|(?<=##)(?=[^\x00-\x7f])|$)(.*)$")
_SETEXT: Final = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*$")
_FENCE: Final = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([^`]*)$")
_ITEM: Final = re.compile(r"[ \t]*([-*+•]|\d{1,9}[.)])[ \t]+(?=\S)|[ \t]*(\d{1,2}、)")
_RULE: Final = re.compile(r"[ \t]*([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_TABLE_RULE: Final = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_DEFINITION: Final = re.compile(r" {0,3}\[[^\]]+\]:[ \t]*\S")
_STARTERS: Final = frozenset("#`~-*+•0123456789<[_=")


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of text of one kind: `text[start:end]`, line ends around it left out.

    `level` is a heading's depth (1 to 6), else 0. `info` is a heading's text, a list item's marker, the language of
    code, or the two header lines of a table.
    """

    kind: Kind
    start: int
    end: int
    level: int = 0
    info: str = ""


def blocks(text: str) -> list[Block]:
    """All blocks of a text in order; they never overlap."""
    return list(each_block(text))


def each_block(text: str) -> Iterator[Block]:
    """The same, one at a time."""
    return _Scan(text).blocks()


def front_matter(text: str) -> str:
    """The YAML between the two `---` lines that open a text, or an empty string."""
    lines = text.split("\n")
    return "\n".join(lines[1 : _after_front_matter(lines) - 1])


class _Scan:
    """One pass over the lines of one text; every `_take` method returns what it took and the line after it."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        self._in_list = False

    def blocks(self) -> Iterator[Block]:
        at = _after_front_matter(self._lines)
        while at < len(self._lines):
            if not self._lines[at].strip():
                at += 1
                continue
            block, at = self._take(at)
            if block is not None:
                yield block

    def _take(self, at: int) -> tuple[Block | None, int]:
        line = self._lines[at]
        indented = line[0] in " \t"
        self._in_list = self._in_list and (indented or _ITEM.match(line) is not None)
        if line.startswith(("    ", "\t")) and not self._in_list:
            return self._take_indented(at)
        first = line.lstrip()[:1]
        if first not in _STARTERS or len(line) > MAX_MARKED_LINE:
            return self._take_prose(at)
        return self._take_marked(at, first)

    def _take_marked(self, at: int, first: str) -> tuple[Block | None, int]:
        line = self._lines[at]
        if first == "#" and (match := _ATX.match(line)):
            return self._block("heading", at, at + 1, level=len(match[1]), info=_heading_text(match[2])), at + 1
        if first in "`~" and (match := _FENCE.match(line)):
            return self._take_fence(at, match)
        if line.lstrip().startswith("<!--"):
            return None, self._after_comment(at)
        if _is_line(line) or (first == "[" and _DEFINITION.match(line)):
            return None, at + 1
        if match := _ITEM.match(line):
            return self._take_item(at, match[1] or match[2])
        return self._take_prose(at)

    def _take_fence(self, at: int, opening: re.Match[str]) -> tuple[Block, int]:
        mark, language = opening[1], opening[2].strip()
        end = at + 1
        while end < len(self._lines):
            line = self._lines[end].strip()
            end += 1
            if len(line) >= len(mark) and not line.strip(mark[0]):
                break
        return self._block("code", at, end, info=language), end

    def _take_indented(self, at: int) -> tuple[Block, int]:
        end = last = at + 1
        while end < len(self._lines) and (not self._lines[end].strip() or self._lines[end].startswith(("    ", "\t"))):
            end += 1
            last = end if self._lines[end - 1].strip() else last
        return self._block("code", at, last), end

    def _take_item(self, at: int, marker: str) -> tuple[Block, int]:
        self._in_list = True
        end = at + 1
        while end < len(self._lines) and not self._interrupts(end):
            end += 1
        return self._block("item", at, end, info=marker), end

    def _take_prose(self, at: int) -> tuple[Block, int]:
        end = at + 1
        if end < len(self._lines) and (match := _SETEXT.match(self._lines[end])):
            level = 1 if match[1][0] == "=" else 2
            return self._block("heading", at, end + 1, level=level, info=self._lines[at].strip()), end + 1
        while end < len(self._lines) and not self._interrupts(end):
            if self._opens_table(end - 1):
                return self._before_table(at, end - 1)
            end += 1
        return self._block("prose", at, end), end

    def _before_table(self, at: int, header: int) -> tuple[Block, int]:
        return self._take_table(header) if at == header else (self._block("prose", at, header), header)

    def _take_table(self, at: int) -> tuple[Block, int]:
        end = at + 2
        while end < len(self._lines) and self._lines[end].strip() and "|" in self._lines[end]:
            end += 1
        return self._block("table", at, end, info="\n".join(self._lines[at : at + 2])), end

    def _opens_table(self, at: int) -> bool:
        rule = self._lines[at + 1]
        if "|" not in rule or len(rule) > MAX_MARKED_LINE:
            return False
        return "|" in self._lines[at] and _TABLE_RULE.match(rule) is not None

    def _interrupts(self, at: int) -> bool:
        """Whether this line ends the paragraph or item above it."""
        line = self._lines[at]
        first = line.lstrip()[:1]
        if not first:
            return True
        if first not in _STARTERS or len(line) > MAX_MARKED_LINE:
            return False
        marked = _ATX.match(line) or _FENCE.match(line) or _ITEM.match(line) or line.lstrip().startswith("<!--")
        return bool(marked) or _is_line(line)

    def _after_comment(self, at: int) -> int:
        while at < len(self._lines) and "-->" not in self._lines[at]:
            at += 1
        return at + 1

    def _block(self, kind: Kind, at: int, end: int, *, level: int = 0, info: str = "") -> Block:
        return Block(kind, self._starts[at], self._starts[end] - 1, level, info)


def _heading_text(text: str) -> str:
    """The text of an ATX heading without the hashes that may close it."""
    text = text.strip()
    bare = text.rstrip("#")
    return bare.strip() if not bare or bare[-1] in " \t" else text


def _is_line(line: str) -> bool:
    return bool(_RULE.match(line) or _SETEXT.match(line))


def _after_front_matter(lines: list[str]) -> int:
    if lines[0].rstrip() != "---":
        return 0
    for at, line in enumerate(lines[1:], 1):
        if line.rstrip() in ("---", "..."):
            return at + 1
    return 0
