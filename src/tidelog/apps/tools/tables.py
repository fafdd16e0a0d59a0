"""Tables that stand in the documents (Markdown, and CSV in code blocks), and a sample where there is none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from tidelog.apps.documents import Chunk

MAX_ROWS: Final = 5_000
"""Rows of one table; what comes after is left out."""
MAX_COLUMNS: Final = 50
MAX_TABLES: Final = 500
"""Tables that are looked at in all documents."""
MAX_CELL_CHARS: Final = 1_000
SAMPLE: Final = "sample.csv"

Cell = str | float | int | None

_BAR: Final = re.compile(r"(?<!\\)\|")
_NUMBER: Final = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
_AFFIXES: Final = re.compile(r"^(?:[$€£¥]|\*\*|`)\s*|\s*(?:[%€£¥]|\*\*|`)$")
_NO_NAME: Final = re.compile(r"\W+")
_WORD: Final = re.compile(r"[a-z0-9]+|[^\W\da-z_]", re.IGNORECASE)


class Table(NamedTuple):
    """A table: `title` says where it stands; `columns` are names for SQL, made of its headings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables_of(chunks: Iterable[Chunk]) -> list[Table]:
    """Every table of these chunks that has a row. The pieces of a long one are joined; they must come in order."""
    found: list[Table] = []
    text, title, at = "", "", ("", "")
    for chunk in chunks:
        for block in chunk.blocks:
            piece = chunk.of(block)
            if block.kind == "table" and at == (chunk.path, block.info) and not piece.startswith(block.info):
                text = f"{text}\n{piece}"
            elif block.kind == "table" or (block.kind == "code" and block.info.lower() == "csv"):
                found += _read(text, title)
                text, title, at = piece, _title(chunk), (chunk.path, block.info)
            if len(found) >= MAX_TABLES:
                return found
    return [*found, *_read(text, title)]


def sample() -> Table:
    """The built-in table, for those whose documents hold none."""
    text = (Path(__file__).parent / SAMPLE).read_text(encoding="utf-8")
    return _table(csv.reader(io.StringIO(text)), "Sample: sales of an invented shop")


def about(tables: Sequence[Table], words: str, limit: int) -> list[Table]:
    """The tables whose title or columns hold most of these words, best first; none that holds nothing of them."""
    wanted = set(_words(words))
    ranked = [(len(wanted & set(_words(f"{table.title} {' '.join(table.columns)}"))), table) for table in tables]
    ranked = sorted((one for one in ranked if one[0]), key=lambda one: -one[0])
    return [table for _, table in ranked[:limit]]


def _read(text: str, title: str) -> Iterator[Table]:
    if not text:
        return
    lines = text.split("\n")
    if lines[0].lstrip().startswith(("```", "~~~")):
        table = _table(
            csv.reader(io.StringIO("\n".join(line for line in lines if line.strip()[:3] not in ("```", "~~~")))), title
        )
    else:
        table = _table((_cells(line) for at, line in enumerate(lines) if at != 1 and line.strip()), title)
    if table.rows and len(table.columns) > 1:
        yield table


def _table(lines: Iterator[list[str]], title: str) -> Table:
    columns = _names(next(lines, [])[:MAX_COLUMNS])
    width = len(columns)
    rows = tuple(
        tuple(_cell(each) for each in (*line, *[""] * width)[:width]) for line in islice(lines, MAX_ROWS) if line
    )
    return Table(title, columns, rows)


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.replace("\\|", "|").strip() for cell in _BAR.split(line)]


def _cell(text: str) -> Cell:
    """A number where the cell holds one, whatever its unit; None where it is empty."""
    bare = _AFFIXES.sub("", _AFFIXES.sub("", text.strip()))
    if _NUMBER.fullmatch(bare):
        bare = bare.replace(",", "")
        return float(bare) if "." in bare or len(bare) > 15 else int(bare)
    return text.strip()[:MAX_CELL_CHARS] or None


def _names(headings: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = []
    for number, heading in enumerate(headings, 1):
        name = _NO_NAME.sub("_", heading.lower()).strip("_") or f"column_{number}"
        names.append(f"{name}_{number}" if name in names else name)
    return tuple(names)


def _title(chunk: Chunk) -> str:
    return " > ".join(dict.fromkeys((chunk.title, *chunk.place)))


def _words(text: str) -> list[str]:
    """Latin words without their plural, other scripts by character."""
    return [word.lower().removesuffix("s") if len(word) > 3 else word.lower() for word in _WORD.findall(text)]
