import pytest

from tidelog.apps.documents import Unreadable, read_document
from tidelog.apps.documents.chunks import chunks
from tidelog.apps.documents.readers.html import read_html

PAGE = """<!doctype html><html><head><title>Millbrook | Handbook</title><style>p { color: red }</style>
<script>if (a < b) document.write("<p>no</p>")</script></head><body>
<nav><ul><li>Home</li></ul></nav>
<h1>Rider's <em>handbook</em></h1>
<p>The deposit is
40&nbsp;euros.<br>We return it.</p>
<h2><a href="#x">Renting</a></h2>
<ol><li>Scan the <code>code_*</code></li><li><p>Wait</p><ul><li>for green</li></ul></li></ol>
<pre><code>docks lock --all
  # stop</code></pre>
<table><thead><tr><th>Bicycle<th>Price</thead><tr><td>City<td>9 €<br>a day</table>
<figure><img src=x alt="A bicycle"><figcaption>A bicycle in the rain</figcaption></figure>
<div>Loose text &lt;here&gt;<div>and here</div></div>
</body></html>"""


def test_a_page_becomes_its_blocks() -> None:
    document = read_document("page.html", PAGE.encode())
    assert document.title == "Rider's handbook"
    assert document.text.split("\n\n") == [
        "# Rider's handbook",
        "The deposit is\n40\xa0euros.\nWe return it.",
        "## Renting",
        "1. Scan the `code_*`",
        "2. Wait",
        "  - for green",
        "```\ndocks lock --all\n  # stop\n```",
        "| Bicycle | Price |\n|---|---|\n| City | 9 € a day |",
        "![A bicycle in the rain]()",
        "Loose text &lt;here>",
        "and here",
    ]
    assert {chunk.headings for chunk in chunks(document)} == {
        ("Rider's handbook",),
        ("Rider's handbook", "Renting"),
    }


def test_a_page_without_a_heading_has_its_title() -> None:
    assert read_document("a.htm", b"<title> A\nb </title><p>x").title == "A b"


def test_a_table_for_the_layout_is_its_cells() -> None:
    page = "<table><tr><td>Left<td><h2>Right</h2><p>Text</p><table><tr><td>a<td>b</table></table>End"
    assert read_html(page.encode()).text.split("\n\n") == ["Left", "## Right", "Text", "| a | b |\n|---|---|", "End"]


@pytest.mark.parametrize(
    ("encoding", "head"),
    [
        ("utf-8", ""),
        ("gb18030", ""),
        ("gbk", '<meta charset="gbk">'),
        ("big5", '<META http-equiv="Content-Type" content="text/html; charset=big5">'),
        ("utf-8", '<meta charset="no-such-thing">'),
        ("utf-16", ""),
    ],
)
def test_the_encoding_is_the_one_that_the_page_names(encoding: str, head: str) -> None:
    text = "押金的事，三百元。"
    assert read_html(f"{head}<p>{text}".encode(encoding)).text == text


def test_characters_of_two_bytes_keep_their_lines_without_spaces() -> None:
    assert read_html("<p>押金为\n  三百元".encode()).text == "押金为\n三百元"


@pytest.mark.parametrize("page", ["", "<html><script>x</script>", "<p> </p>", "<!-- only this -->"])
def test_a_page_without_text_is_told(page: str) -> None:
    with pytest.raises(Unreadable, match="it holds no text"):
        read_html(page.encode())


@pytest.mark.parametrize(
    "page", ["<p>text<!-- never closed", "<p>text<a href='never closed", "<p>text</p", "<p>text<![x"]
)
def test_what_is_never_closed_harms_no_text_before_it(page: str) -> None:
    assert "text" in read_html(page.encode()).text


@pytest.mark.parametrize("piece", ["<!--", "<a b='", "<div>", "</", "<![CDATA[", "&", "<ul><li>", "<table><tr><td>"])
def test_what_is_repeated_without_end_is_read_all_the_same(piece: str) -> None:
    """In the square of its length, this would go on beyond the limit of a test."""
    read_html(b"<p>text" + piece.encode() * 100_000)


def test_binary_data_is_told() -> None:
    with pytest.raises(Unreadable, match="binary"):
        read_html(b"\x00\x01")
