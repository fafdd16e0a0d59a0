import sys

import pytest
from tests.apps.documents.papers import pdf, word

from tidelog.apps.documents import Unreadable, read_document
from tidelog.apps.documents.readers import READERS, Text


@pytest.mark.parametrize(
    ("package", "name", "data"),
    [
        ("pypdf", "a.pdf", pdf([["x"]])),
        ("docx", "a.docx", word(lambda document: document.add_paragraph("x"))),
    ],
)
def test_a_package_that_is_missing_is_named_and_how_to_have_it(
    package: str, name: str, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_document(name, data).text.strip() == "x"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Unreadable, match=r'pip install "tidelog\[documents\]"'):
        read_document(name, data)
    assert read_document("a.html", b"<p>x").text == "x"


def test_half_characters_become_marks() -> None:
    def torn(data: bytes) -> Text:
        return Text(f"{data.decode()}\ud83d.", "\udc00")

    document = read_document("a.torn", b"x", readers={".torn": torn})
    assert document.text == "x?."
    document.title.encode()


def test_the_end_of_a_name_decides_in_any_case() -> None:
    assert read_document("A.TXT", b"x").text == "x"
    with pytest.raises(Unreadable, match=r"no reader for \.exe"):
        read_document("a.exe", b"x")
    with pytest.raises(Unreadable, match="no reader for files without a suffix"):
        read_document("README", b"x")
    assert set(READERS) == {".txt", ".md", ".markdown", ".html", ".htm", ".pdf", ".docx"}
