"""HTML, by the standard library: headings, paragraphs, lists, code and tables as markdown; menus and scripts left out."""

import codecs
import html
import re
from html.parser import HTMLParser
from typing import Final

from tidelog.apps.documents.readers.markup import caption, escaped, fence, heading, one_line, table
from tidelog.apps.documents.readers.text import NO_TEXT, Text, Unreadable, decode

MAX_DEPTH: Final = 200
"""Lists within each other, and elements that hide their text."""

_CHARSET: Final = re.compile(rb"<(?:meta[^>]*?charset|\?xml[^>]*?encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_CHARSET_WINDOW: Final = 2_048
_TAG: Final = re.compile(r"<[^<>]*>?")
_SPACES: Final = re.compile(r"[ \t\f]*\n\s*|[ \t\f]+")
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_HIDDEN: Final = frozenset({"script", "style", "noscript", "template", "svg", "nav", "select", "button", "iframe"})
_INLINE_NAMES: Final = """
    a abbr acronym b bdi bdo big cite code data del dfn em font i img input ins kbd label mark q s samp small span strike
    strong sub sup time tt u var wbr
"""
_INLINE: Final = frozenset(_INLINE_NAMES.split())
_WRAPPERS: Final = frozenset({"p", "div"})
_WRAPPED: Final = frozenset({"li", "figcaption", *_HEADINGS})
_CELLS: Final = frozenset({"td", "th"})
_ROWS: Final = frozenset({"tr", "thead", "tbody", "tfoot", "caption", "colgroup", "col"})


def read_html(data: bytes) -> Text:
    """The text of a page. Raises `Unreadable` for binary data, an unknown encoding, and a page without text."""
    page = _Page()
    try:
        page.feed(_decoded(data).replace("\r\n", "\n").replace("\r", "\n"))
        # Not close(): it looks at what never ends again and again, in time the square of its length.
        page.handle_data(html.unescape(_TAG.sub(" ", page.rawdata)))
    except AssertionError as error:  # html.parser's word for declarations that it cannot follow
        raise Unreadable("it is no HTML, or a broken page") from error
    text = "\n\n".join(page.blocks())
    if not text:
        raise Unreadable(NO_TEXT)
    return Text(text, page.title)


def _decoded(data: bytes) -> str:
    """The text in the encoding that the page names, if it is true; else as any text."""
    match = _CHARSET.search(data, 0, _CHARSET_WINDOW)
    try:
        if match is None or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return decode(data)
        return data.decode(codecs.lookup(match[1].decode()).name).removeprefix("\ufeff")
    except (LookupError, UnicodeDecodeError):
        return decode(data)


class _Page(HTMLParser):
    """Collects blocks of markdown. The text since the last block is `_line`; the table at hand is `_rows`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._blocks: list[str] = []
        self._line: list[str] = []
        self._kind = ""
        self._hidden: list[str] = []
        self._lists: list[int | None] = []
        self._rows: list[list[str]] | None = None

    def blocks(self) -> list[str]:
        """All blocks, once everything was fed."""
        self._end_table()
        return self._blocks

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden or tag in _HIDDEN:
            if (not self._hidden or tag == self._hidden[-1]) and len(self._hidden) < MAX_DEPTH:
                self._hidden.append(tag)
        elif tag == "br":
            self._line.append("\n")
        elif tag in ("code", "kbd", "samp") and self._kind != "pre":
            self._line.append("`")
        elif tag not in _INLINE and self._kind != "pre":
            self._start_block(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[-1]:
                self._hidden.pop()
        elif tag in ("code", "kbd", "samp") and self._kind != "pre":
            self._line.append("`")
        elif tag == "pre" or (tag not in _INLINE and self._kind != "pre"):
            self._end_block(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._line.append(data if self._kind == "pre" else _SPACES.sub(_space, data))

    def _start_block(self, tag: str) -> None:
        if tag in _WRAPPERS and self._kind in _WRAPPED and not "".join(self._line).strip():
            return
        if self._rows is not None and (tag in _HEADINGS or tag in ("table", "pre", "ul", "ol")):
            self._dissolve()
        if self._rows is None or tag in _CELLS or tag in _ROWS:
            self._end_line()
        else:
            self._line.append(" ")
        if tag == "table" and self._rows is None:
            self._rows = []
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("ul", "ol") and len(self._lists) < MAX_DEPTH:
            self._lists.append(1 if tag == "ol" else None)
        if self._rows is None or tag in _CELLS:
            self._kind = tag

    def _end_block(self, tag: str) -> None:
        if self._rows is not None and tag not in _CELLS and tag not in _ROWS and tag != "table":
            self._line.append(" ")
            return
        self._end_line()
        if tag == "table":
            self._end_table()
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()

    def _end_line(self) -> None:
        """Make a block of the text at hand."""
        text = "".join(self._line)
        kind, self._kind, self._line = self._kind, "", []
        if kind == "pre":
            if text.strip():
                self._blocks.append(fence(text))
        elif kind == "title":
            self.title = self.title or one_line(text)
        elif self._rows is not None and kind in _CELLS:
            self._rows[-1:] = [[*(self._rows[-1] if self._rows else []), escaped(one_line(text))]]
        elif text.strip():
            self._blocks.append(self._block(kind, text))

    def _block(self, kind: str, text: str) -> str:
        if kind in _HEADINGS:
            return heading(escaped(one_line(text)), _HEADINGS[kind])
        if kind == "figcaption":
            return caption(text)
        if kind == "li":
            return self._item(escaped(one_line(text)))
        return escaped(text)

    def _item(self, text: str) -> str:
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        return f"{'  ' * max(0, len(self._lists) - 1)}{'-' if number is None else f'{number}.'} {text}"

    def _end_table(self) -> None:
        self._end_line()
        rows, self._rows = [row for row in self._rows or () if any(row)], None
        if rows:
            self._blocks.append(table(rows))

    def _dissolve(self) -> None:
        """A table that holds headings, lists or tables is there for the layout: its cells are paragraphs."""
        self._end_line()
        cells, self._rows = [cell for row in self._rows or () for cell in row if cell], None
        self._blocks += cells


def _space(match: re.Match[str]) -> str:
    # A line end is kept: between Chinese characters it is no space.
    return "\n" if "\n" in match[0] else " "
