import io
import zipfile
from typing import Any

import pytest
from tests.apps.documents.papers import word

from tidelog.apps.documents import Unreadable, read_document
from tidelog.apps.documents.chunks import chunks
from tidelog.apps.documents.readers import docx as module
from tidelog.apps.documents.readers.docx import read_docx


def handbook(document: Any) -> None:
    document.add_heading("Rider's handbook", 0)
    document.add_paragraph("For all who ride.")
    document.add_heading("Joining", 1)
    document.add_heading("Deposit", 2)
    document.add_paragraph("The deposit is 40 euros. # 7 is *not* a heading.")
    document.add_paragraph("Bring a card", style="List Bullet")
    document.add_paragraph("Bring a friend", style="List Number")
    table = document.add_table(2, 2)
    for cell, text in zip(table._cells, ["Bicycle", "Price", "City | small", "9 €"], strict=True):
        cell.text = text


def test_headings_lists_and_tables() -> None:
    document = read_document("a.docx", word(handbook))
    assert document.title == "Rider's handbook"
    assert document.text == (
        "# Rider's handbook\n\nFor all who ride.\n\n## Joining\n\n### Deposit\n\n"
        "The deposit is 40 euros. # 7 is \\*not\\* a heading.\n\n- Bring a card\n\n- Bring a friend\n\n"
        "| Bicycle | Price |\n|---|---|\n| City \\| small | 9 € |"
    )
    assert list(chunks(document))[-1].headings == ("Rider's handbook", "Joining", "Deposit")


def test_a_style_that_builds_on_a_heading_is_one() -> None:
    def fill(document: Any) -> None:
        own = document.styles.add_style("Kapitel", 1)
        own.base_style = document.styles["Heading 1"]
        document.add_paragraph("押金", style="Kapitel")
        document.add_paragraph("押金为三百元。")

    assert read_docx(word(fill)).text == "## 押金\n\n押金为三百元。"


def test_text_that_was_inserted_or_linked_is_there_and_deleted_text_is_not() -> None:
    def fill(document: Any) -> None:
        paragraph = document.add_paragraph("It costs ")
        for tag, text in (("ins", "forty"), ("hyperlink", " euros"), ("del", " marks")):
            around = paragraph._p.makeelement(f"{module._W}{tag}")
            around.append(paragraph.add_run(text)._r)
            paragraph._p.append(around)

    assert read_docx(word(fill)).text == "It costs forty euros"


def test_the_title_of_the_file_counts_where_the_text_has_none() -> None:
    def fill(document: Any) -> None:
        document.core_properties.title = "Notes"
        document.add_paragraph("x")

    assert read_document("a.docx", word(fill)).title == "Notes"


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04", word(handbook)[:2000]])
def test_a_broken_file_is_told(data: bytes) -> None:
    with pytest.raises(Unreadable, match="it is no Word document, or a broken one"):
        read_docx(data)


def test_a_zip_of_other_things_is_told() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.txt", "x")
    with pytest.raises(Unreadable, match="no Word document"):
        read_docx(file.getvalue())


def test_an_encrypted_file_is_told() -> None:
    with pytest.raises(Unreadable, match="without a password"):
        read_docx(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


def test_an_empty_file_is_told() -> None:
    with pytest.raises(Unreadable, match="it holds no text"):
        read_docx(word(lambda document: None))


def test_what_unpacks_to_too_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(Unreadable, match="unpacks to more than 1000 bytes"):
        read_docx(word(handbook))
