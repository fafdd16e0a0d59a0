"""Word documents (.docx), by python-docx: paragraphs and tables in order, under the headings that their styles make.

The body is walked here and not by python-docx, which passes over content controls and over text marked as inserted.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tidelog.apps.documents.readers.markup import escaped, heading, one_line, table
from tidelog.apps.documents.readers.text import NO_TEXT, Text, Unreadable

MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
"""Of all parts of the file together: its XML may unpack a thousandfold."""
MAX_DEPTH: Final = 50
"""Content controls, tables and insertions within each other, and styles that build on each other."""

_COMPOUND_FILE: Final = b"\xd0\xcf\x11\xe0"
_BROKEN: Final = "it is no Word document, or a broken one"
_HEADING: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_W: Final = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SIGNS: Final = {f"{_W}tab": " ", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_UNSEEN: Final = frozenset({f"{_W}{name}" for name in ("del", "moveFrom", "txbxContent", "pPr", "rPr", "tbl")})
_AROUND: Final = frozenset({f"{_W}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "customXml")})


class _Style(NamedTuple):
    """What a paragraph style says: `level` is 0 for a title, 1 to 9 for headings, None for text."""

    level: int | None = None
    listed: bool = False


def read_docx(data: bytes) -> Text:
    """The text of a Word document. Raises `Unreadable` if it is broken, encrypted, older than .docx, or empty."""
    import docx

    _check(data)
    try:
        document = docx.Document(io.BytesIO(data))
        styles = _styles(document.styles.element)
        text = "\n\n".join(_blocks(document.element.body, styles))
        title = one_line(document.core_properties.title or "")
    except Exception as error:  # a broken file fails anywhere: a part is missing, XML ends, a number is none
        raise Unreadable(_BROKEN) from error
    if not text:
        raise Unreadable(NO_TEXT)
    return Text(text, title)


def _check(data: bytes) -> None:
    if data.startswith(_COMPOUND_FILE):
        raise Unreadable("it is encrypted, or a .doc of an older Word: save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            size = sum(part.file_size for part in packed.infolist())
    except Exception as error:  # zipfile has more ways to fail than it documents
        raise Unreadable(_BROKEN) from error
    if size > MAX_UNPACKED_BYTES:
        raise Unreadable(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")


def _styles(element: Any) -> dict[str, _Style]:
    """The paragraph styles by their ids. An own style is a heading if it builds on one."""
    found = {style.get(f"{_W}styleId"): style for style in element.iterfind(f"{_W}style")}

    def said(style: Any, depth: int) -> _Style:
        name = str(_value(style, "name"))
        outline = _value(style, "pPr", "outlineLvl")
        if name.lower() == "title":
            return _Style(0)
        if match := _HEADING.fullmatch(name):
            return _Style(int(match[1]))
        below = found.get(_value(style, "basedOn"))
        inherited = said(below, depth + 1) if below is not None and depth < MAX_DEPTH else _Style()
        level = inherited.level if outline is None else _level(outline)
        listed = name.lower().startswith("list ") or _value(style, "pPr", "numPr", "numId") is not None
        return _Style(level, listed or inherited.listed)

    return {key: said(style, 0) for key, style in found.items() if key}


def _blocks(parent: Any, styles: Mapping[str, _Style], depth: int = 0) -> Iterator[str]:
    """Markdown, one string a paragraph or table."""
    for child in parent if depth < MAX_DEPTH else ():
        if child.tag == f"{_W}p":
            block = _paragraph(child, styles)
        elif child.tag == f"{_W}tbl":
            block = _table(child, depth)
        elif child.tag in _AROUND:
            yield from _blocks(child, styles, depth + 1)
            continue
        else:
            continue
        if block:
            yield block


def _paragraph(paragraph: Any, styles: Mapping[str, _Style]) -> str:
    text = escaped("".join(_text(paragraph)))
    style = styles.get(_value(paragraph, "pPr", "pStyle") or "", _Style())
    outline = _value(paragraph, "pPr", "outlineLvl")
    level = style.level if outline is None else _level(outline)
    if not text or level is not None:
        # What stands under a title are the headings of level 1: they go one deeper.
        return heading(text, level + 1) if text and level is not None else ""
    numbered = _value(paragraph, "pPr", "numPr", "numId")
    listed = style.listed if numbered is None else numbered != "0"
    return f"- {one_line(text)}" if listed else text


def _table(table_: Any, depth: int) -> str:
    rows = [
        [one_line(" ".join(_cell(cell, depth))) for cell in row.iter(f"{_W}tc")] for row in table_.iterfind(f"{_W}tr")
    ]
    rows = [row for row in rows if any(row)]
    return table(rows) if rows else ""


def _cell(cell: Any, depth: int) -> Iterator[str]:
    for paragraph in cell.iterfind(f"{_W}p"):
        yield escaped("".join(_text(paragraph, depth + 1)))


def _text(node: Any, depth: int = 0) -> Iterator[str]:
    """What a reader sees of a paragraph: inserted text and links too, deleted text and text boxes not."""
    for child in node if depth < MAX_DEPTH else ():
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _SIGNS:
            yield _SIGNS[child.tag]
        elif child.tag not in _UNSEEN:
            yield from _text(child, depth + 1)


def _value(node: Any, *path: str) -> str | None:
    """The `w:val` at the end of a path of names."""
    found = node.find("/".join(f"{_W}{name}" for name in path))
    value = found.get(f"{_W}val") if found is not None else None
    return None if value is None else str(value)


def _level(outline: str) -> int | None:
    """Word counts outline levels from 0; 9 is text."""
    return int(outline) + 1 if outline in "012345678" else None
