import pytest
from tests.apps.documents.papers import pdf

from tidelog.apps.documents import Chunk, Unreadable, read_document
from tidelog.apps.documents.chunks import chunks
from tidelog.apps.documents.readers import pdf as module
from tidelog.apps.documents.readers.pdf import read_pdf


def cut(data: bytes, name: str = "paper.pdf") -> list[Chunk]:
    return list(chunks(read_document(name, data)))


def test_without_an_outline_a_chunk_knows_its_page() -> None:
    data = pdf([["The deposit is 40 euros.", "It is returned in seven days."], ["The gate opens at nine."]])
    first, second = cut(data)
    assert first.text == "The deposit is 40 euros.\nIt is returned in seven days."
    assert (first.place, second.place) == (("Page 1",), ("Page 2",))
    assert (first.title, second.text) == ("paper", "The gate opens at nine.")


def test_chinese_is_read_and_its_pages_are_named_in_chinese() -> None:
    (only,) = cut(pdf([["押金为三百元。七个工作日内退还。"]]))
    assert only.text == "押金为三百元。七个工作日内退还。"
    assert only.place == ("第 1 页",)


def test_the_outline_gives_the_headings() -> None:
    pages = [
        ["Handbook", "For riders."],
        ["1. Joining", "You may join from sixteen.", "Deposit", "It is 40 euros."],
        ["Ask for it back."],
    ]
    outline = [(1, 2, "Joining"), (2, 2, "Deposit"), (1, 3, "Not a line of the page")]
    found = cut(pdf(pages, outline=outline, title="The rider's handbook"))
    assert [(chunk.place, chunk.text) for chunk in found] == [
        (("Page 1",), "Handbook\nFor riders."),
        (("Joining", "Page 2"), "You may join from sixteen."),
        (("Joining", "Deposit", "Page 2"), "It is 40 euros."),
        (("Not a line of the page", "Page 3"), "Ask for it back."),
    ]
    assert {chunk.title for chunk in found} == {"The rider's handbook"}


def test_what_stands_on_every_page_is_left_out() -> None:
    pages = [["City of Millbrook", f"Rule number {name}.", f"Page {at} of 3"] for at, name in enumerate("abc", 1)]
    assert [chunk.text for chunk in cut(pdf(pages))] == ["Rule number a.", "Rule number b.", "Rule number c."]


def test_a_sentence_that_goes_over_the_page_is_told_whole() -> None:
    first, second = cut(pdf([["Rain or snow. The gate is closed"], ["when the wind is strong. Then it opens."]]))
    assert first.text.replace("\n", " ") == "Rain or snow. The gate is closed when the wind is strong."
    assert second.text == "Then it opens."


def test_a_word_cut_at_the_end_of_a_line_is_joined() -> None:
    assert read_pdf(pdf([["The insur-", "ance pays."]])).text.strip() == "The insurance pays."


@pytest.mark.parametrize("title", ["Microsoft Word - final.doc", "untitled", "scan0001.pdf", "…"])
def test_a_title_that_a_program_made_up_is_none(title: str) -> None:
    assert read_pdf(pdf([["x"]], title=title)).title == ""


def test_text_that_looks_like_markup_stays_text() -> None:
    (only,) = cut(pdf([["# 3 is a number", "a <b> c", "> 5 years"]]))
    assert only.headings == ()
    assert only.text == "\\# 3 is a number\na &lt;b> c\n\\> 5 years"


def test_a_password_is_asked_for() -> None:
    with pytest.raises(Unreadable, match="encrypted: save it without a password"):
        read_pdf(pdf([["secret"]], password="x"))


def test_an_empty_password_is_none() -> None:
    assert read_pdf(pdf([["open"]], password="")).text.strip() == "open"


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"no PDF at all", pdf([["x"]])[:300]])
def test_a_broken_file_is_told(data: bytes) -> None:
    with pytest.raises(Unreadable, match="it is no PDF, or a broken one"):
        read_pdf(data)


def test_a_scan_is_told() -> None:
    with pytest.raises(Unreadable, match="pages may be pictures"):
        read_pdf(pdf([[], []]))


def test_what_is_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pdf([["one"], ["two"]])
    for name, limit, words in (
        ("MAX_PAGES", 1, "more than 1 pages"),
        ("MAX_TEXT_CHARS", 4, "more than 4 characters"),
        ("MAX_READ_SECONDS", -1.0, "takes longer than"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, limit)
            with pytest.raises(Unreadable, match=words):
                read_pdf(data)
