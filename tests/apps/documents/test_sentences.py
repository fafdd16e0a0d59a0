import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidelog.apps.documents.chunks import chunks
from tidelog.apps.documents.folder import Document
from tidelog.apps.documents.sentences import pieces, plain, sentences


def quoted(text: str, *, size: int = 800) -> list[tuple[str, str]]:
    return [
        (piece.kind, piece.text) for chunk in chunks(Document("a", "A", text), size=size) for piece in pieces(chunk)
    ]


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("第一句。第二句！第三句？完", ["第一句。", "第二句！", "第三句？", "完"]),
        ("Use e.g. Redis. It costs 3.50 euros.", ["Use e.g. Redis.", "It costs 3.50 euros."]),
        ("Mr. Okafor and J. Smith sign. Then go.", ["Mr. Okafor and J. Smith sign.", "Then go."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("他说：“停！”然后走了。", ["他说：“停！”", "然后走了。"]),
        ("Call run.started or a.b(). It waits.", ["Call run.started or a.b().", "It waits."]),
        ("Version 2. is old", ["Version 2. is old"]),
        ("用 SSE 推送。Then done.", ["用 SSE 推送。", "Then done."]),
        ("", []),
    ],
)
def test_sentences(prose: str, expected: list[str]) -> None:
    assert sentences(prose) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("a **bold** and *slanted* __word__ and ~~gone~~", "a bold and slanted word and gone"),
        ('see [the manual](https://e.org/a_(b) "t") or [ref][1][^2]', "see the manual or ref"),
        ("![logo](x.png) and <https://e.org>", "logo and https://e.org"),
        (
            "keep `__init__` and `a*b*c` and snake_case_name and 2 * 3 * 4",
            "keep `__init__` and `a*b*c` and snake_case_name and 2 * 3 * 4",
        ),
        ("> quoted\n> text", "quoted text"),
        ("> [!NOTE]\n> Mind this.", "Mind this."),
        ("two\nlines  \nand \\*stars\\* &amp; more", "two lines and *stars* & more"),
        ("把车\n锁好，\n再走", "把车锁好，再走"),
        ("用 **重点**内容 和<br>换行", "用 重点内容 和换行"),
    ],
)
def test_plain(markdown: str, expected: str) -> None:
    assert plain(markdown) == expected


def test_items_code_and_tables_stay_whole() -> None:
    text = (
        "Do this. Then:\n\n* first **thing**. And more.\n- [x] done\n3. third\n4、第四\n\n"
        "```sh\n# stop. Now.\nmake\n```\n\n| a | b |\n|---|---|\n| 1. | 2 |\n"
    )
    assert quoted(text) == [
        ("prose", "Do this."),
        ("prose", "Then:"),
        ("item", "- first thing. And more."),
        ("item", "- done"),
        ("item", "3. third"),
        ("item", "4、第四"),
        ("code", "```sh\n# stop. Now.\nmake\n```"),
        ("table", "| a | b |\n|---|---|\n| 1. | 2 |"),
    ]


def test_cut_code_and_tables_are_made_whole_again() -> None:
    code = quoted("```py\n" + "\n".join(f"x = {number}" for number in range(100)) + "\n```", size=100)
    assert len(code) > 3
    assert all(text.startswith("```py\nx = ") and text.endswith("\n```") and text.count("```") == 2 for _, text in code)
    table = quoted("| n |\n|---|\n" + "\n".join(f"| {number:03} |" for number in range(100)), size=100)
    assert len(table) > 3
    assert all(text.startswith("| n |\n|---|\n| ") for _, text in table)


def test_code_with_fences_inside_gets_a_longer_one() -> None:
    assert quoted("~~~md\n```\nx\n```\n~~~") == [("code", "````md\n```\nx\n```\n````")]
    assert quoted("Run\n\n    make\n      deep")[1] == ("code", "```\nmake\n  deep\n```")


def test_sentences_of_one_paragraph_share_their_block() -> None:
    (chunk,) = chunks(Document("a", "A", "One. Two.\n\nThree."))
    assert [piece.block for piece in pieces(chunk)] == [0, 0, 1]


def test_a_very_long_item_is_told_in_sentences() -> None:
    found = quoted("- " + "This is a sentence of an item. " * 20)
    assert found[0] == ("item", "- This is a sentence of an item.")
    assert len(found) == 20
    assert {kind for kind, _ in found[1:]} == {"prose"}


@settings(max_examples=200, deadline=None, database=None)
@given(st.text(alphabet='ab .。!？…"”(`*_[]<>\n\\~|#-1文', max_size=120))
def test_any_text_gives_pieces_that_say_something(text: str) -> None:
    assert all(piece.strip() for _, piece in quoted(text, size=50))
