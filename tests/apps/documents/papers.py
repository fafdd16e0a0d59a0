"""Real files for the tests: PDFs by pypdf, with text in any script, and Word documents by python-docx."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import docx
from pypdf import PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    TextStringObject,
)

Outline = Sequence[tuple[int, int, str]]


def pdf(
    pages: Sequence[Sequence[str]], *, outline: Outline = (), title: str = "", password: str | None = None
) -> bytes:
    """A PDF with one line of text below the other; `outline` is (level, page, title), level and page from 1."""
    writer = PdfWriter()
    font = writer._add_object(_font(writer, sorted({char for lines in pages for line in lines for char in line})))
    for lines in pages:
        page = writer.add_blank_page(595, 842)
        page[NameObject("/Resources")] = _dict(Font=_dict(F1=font))
        page[NameObject("/Contents")] = writer._add_object(_stream(_shown(lines)))
    parents: list[Any] = []
    for level, number, heading in outline:
        parent = parents[level - 2] if level > 1 else None
        parents[level - 1 :] = [writer.add_outline_item(title=heading, page_number=number - 1, parent=parent)]
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    return _written(writer.write)


def word(fill: Callable[[Any], None]) -> bytes:
    """A Word document that `fill` has filled."""
    document = docx.Document()
    document.core_properties.title = ""
    fill(document)
    return _written(document.save)


def _written(write: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _shown(lines: Sequence[str]) -> str:
    shown = (f"<{line.encode('utf-16-be').hex()}> Tj 0 -16 Td" for line in lines)
    return f"BT /F1 11 Tf 50 780 Td {' '.join(shown)} ET"


def _font(writer: PdfWriter, characters: Sequence[str]) -> DictionaryObject:
    """A font whose codes are UTF-16, and that says so: no glyphs are needed to read the text again."""
    codes = [f"<{one.encode('utf-16-be').hex()}>" for one in characters]
    chars = "".join(f"{len(part)} beginbfchar\n{_same(part)}\nendbfchar\n" for part in _parts(codes))
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n"
        f"1 begincodespacerange <0000> <ffff> endcodespacerange\n{chars}endcmap end end"
    )
    info = _dict(Registry=TextStringObject("Adobe"), Ordering=TextStringObject("Identity"), Supplement=NumberObject(0))
    below = _dict(Type="/Font", Subtype="/CIDFontType2", BaseFont="/Any", CIDSystemInfo=info, DW=NumberObject(600))
    return _dict(
        Type="/Font", Subtype="/Type0", BaseFont="/Any", Encoding="/Identity-H",
        DescendantFonts=ArrayObject([writer._add_object(below)]), ToUnicode=writer._add_object(_stream(cmap)),
    )  # fmt: skip


def _parts(codes: Sequence[str]) -> list[Sequence[str]]:
    return [codes[at : at + 100] for at in range(0, len(codes), 100)]


def _same(codes: Sequence[str]) -> str:
    return "\n".join(f"{code} {code}" for code in codes)


def _stream(text: str) -> DecodedStreamObject:
    stream = DecodedStreamObject()
    stream.set_data(text.encode())
    return stream


def _dict(**entries: Any) -> DictionaryObject:
    named = {key: NameObject(value) if type(value) is str else value for key, value in entries.items()}
    return DictionaryObject({NameObject(f"/{key}"): value for key, value in named.items()})
