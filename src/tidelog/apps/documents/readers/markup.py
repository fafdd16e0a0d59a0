"""Writes markdown: what the other formats are turned into, so that one set of blocks and sentences serves them all."""

import re
from collections.abc import Sequence
from typing import Final

MAX_LEVEL: Final = 6

# At the start of a line these would make a heading, a quotation, a fence, a rule, a comment or a definition of it.
_LINE_START: Final = re.compile(r"#|>|`{3}|~{3}|=+\s*$|(?:[-_]\s*){3,}$|\[[^\]]+\]:")
_CODE: Final = re.compile(r"(`+[^`\n]+`+)")
_TAG: Final = re.compile(r"<(?=[A-Za-z/!?])")
_ENTITY: Final = re.compile(r"&(?=#?\w{1,32};)")
_EMPHASIS: Final = re.compile(r"\*|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_SPACE: Final = re.compile(r"\s+")


def escaped(text: str) -> str:
    """Plain text, of one line or several, so that markdown finds nothing in it but list items."""
    parts = _CODE.split(text)
    parts[::2] = map(_without_markup, parts[::2])
    lines = (line.strip() for line in "".join(parts).split("\n"))
    return "\n".join(f"\\{line}" if _LINE_START.match(line) else line for line in lines if line)


def heading(text: str, level: int) -> str:
    """A heading on one line; `level` counts from 1."""
    return f"{'#' * min(max(level, 1), MAX_LEVEL)} {one_line(text)}"


def caption(text: str) -> str:
    """What stands under a picture, as a picture without an address."""
    return f"![{one_line(text).replace('[', '(').replace(']', ')')}]()"


def fence(code: str) -> str:
    """A block of code, whatever ticks it holds."""
    longest = max((len(ticks) for ticks in re.findall(r"`{3,}", code)), default=2)
    return f"{'`' * (longest + 1)}\n{code.strip(chr(10))}\n{'`' * (longest + 1)}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its header; rows may be of different lengths."""
    width = max(map(len, rows), default=0)
    lines = [_row([*row, *[""] * (width - len(row))]) for row in rows]
    return "\n".join([*lines[:1], "|" + "---|" * width, *lines[1:]])


def one_line(text: str) -> str:
    """The text without its line ends and runs of spaces."""
    return _SPACE.sub(" ", text).strip()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", r"\|") for cell in cells) + " |"


def _without_markup(text: str) -> str:
    return _EMPHASIS.sub(r"\\\g<0>", _TAG.sub("&lt;", _ENTITY.sub("&amp;", text)))
