from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tidelog.apps.documents.blocks import Block, blocks, front_matter

HEADINGS = ["# One", "##二级标题", "Setext", "===", "---"]
FENCES = ["```py", "```", "~~~", "    code", "<!-- note", "-->"]
OTHER = [
    "- item",
    "1. step",
    "2、步骤",
    "| a | b |",
    "|---|---|",
    "> quoted",
    "",
    "  ",
    "prose goes on",
    "[x]: u",
    "***",
    "文字",
]
LINES = st.lists(st.sampled_from([*HEADINGS, *FENCES, *OTHER]), max_size=25).map("\n".join)


def kinds(text: str) -> list[tuple[str, str]]:
    return [(block.kind, text[block.start : block.end]) for block in blocks(text)]


def heading(text: str) -> tuple[int, str] | None:
    found = blocks(text)
    return (found[0].level, found[0].info) if found and found[0].kind == "heading" else None


def test_headings_of_both_styles() -> None:
    assert heading("### Third ###") == (3, "Third")
    assert heading("# C#") == (1, "C#")
    assert heading("# ##") == (1, "")
    assert heading("First\n=====") == (1, "First")
    assert heading("Second\n---") == (2, "Second")
    assert heading("##安装") == (2, "安装")
    assert heading("#hashtag") is None
    assert heading("####### seven") is None


def test_a_comment_in_a_code_fence_is_not_a_heading() -> None:
    text = "```sh\n# not a heading\nls\n```\n# Heading"
    assert kinds(text) == [("code", "```sh\n# not a heading\nls\n```"), ("heading", "# Heading")]


def test_a_fence_ends_only_at_as_long_a_fence_of_the_same_kind() -> None:
    assert kinds("````\n```\n~~~~\n````\nafter") == [("code", "````\n```\n~~~~\n````"), ("prose", "after")]
    assert kinds("```\nnever closed\n# x") == [("code", "```\nnever closed\n# x")]


def test_list_items_are_blocks_of_their_own_with_their_continuation() -> None:
    text = "You need:\n- a lock\n  and its key\n- a bell\n\n1. go\n2、走"
    assert kinds(text) == [
        ("prose", "You need:"),
        ("item", "- a lock\n  and its key"),
        ("item", "- a bell"),
        ("item", "1. go"),
        ("item", "2、走"),
    ]


def test_an_indented_text_is_code_but_not_below_a_list_item() -> None:
    assert kinds("Run\n\n    make\n\n    make test\n\nDone")[1] == ("code", "    make\n\n    make test")
    assert kinds("- one\n\n    more of one")[1] == ("prose", "    more of one")


def test_a_table_takes_its_header_from_the_line_above() -> None:
    text = "Prices:\n| a | b |\n|---|--:|\n| 1 | 2 |\nafter"
    assert kinds(text) == [("prose", "Prices:"), ("table", "| a | b |\n|---|--:|\n| 1 | 2 |"), ("prose", "after")]
    assert blocks(text)[1].info == "| a | b |\n|---|--:|"


def test_what_nobody_reads_is_passed_over() -> None:
    text = "---\ntitle: T\n---\nbody\n\n<!-- hidden\n\nhidden -->\n\n***\n\n[ref]: https://example.org\nend"
    assert kinds(text) == [("prose", "body"), ("prose", "end")]
    assert front_matter(text) == "title: T"
    assert front_matter("---\nnever closed") == ""


@settings(max_examples=300, deadline=None, database=None)
@given(LINES | st.text(alphabet="#-=`~|>*<!\n 1.a文\t[]:", max_size=60))
def test_any_text_gives_blocks_in_order_that_never_overlap(text: str) -> None:
    found = blocks(text)
    assert all(0 <= block.start < block.end <= len(text) for block in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
    assert all(text[block.start : block.end].strip() for block in found)


def test_a_block_says_what_it_is() -> None:
    assert blocks("```python\nx\n```") == [Block("code", 0, 15, info="python")]
