from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tidelog.apps.documents.chunks import Chunk, chunks
from tidelog.apps.documents.folder import Document


def cut(text: str, *, size: int = 800) -> list[Chunk]:
    return list(chunks(Document("a/b.md", "Title", text), size=size))


def test_a_chunk_carries_its_heading_path_title_and_path() -> None:
    found = cut("intro\n\n# One\nfirst\n\n## Two\nsecond\n\n### Three\nthird\n\n## Four\nfourth")
    assert [(chunk.headings, chunk.text) for chunk in found] == [
        ((), "intro"),
        (("One",), "first"),
        (("One", "Two"), "second"),
        (("One", "Two", "Three"), "third"),
        (("One", "Four"), "fourth"),
    ]
    assert (found[0].path, found[0].title) == ("a/b.md", "Title")
    assert len({chunk.id for chunk in found}) == 5


def test_a_heading_with_nothing_below_is_text_and_one_with_children_is_not() -> None:
    assert [chunk.text for chunk in cut("# Parent\n## Never do this\n## Always\nyes")] == ["## Never do this", "yes"]


def test_the_first_prose_under_the_title_opens_the_document() -> None:
    text = "![badge](b.png)\n\n# Title\n\n<p>\n\n## Part\n\nprose\n\n# Title\n\nHere.\n\n# Title\n\nThere."
    assert [chunk.text for chunk in cut(text) if chunk.opens] == ["Here."]


def test_paragraphs_are_packed_up_to_the_size() -> None:
    paragraph = "A sentence of forty characters, about so."
    found = cut("\n\n".join([paragraph] * 6), size=130)
    assert [chunk.text.count(paragraph) for chunk in found] == [3, 3]
    assert [len(chunk.blocks) for chunk in found] == [3, 3]


def test_a_long_paragraph_is_cut_at_sentence_ends() -> None:
    english = cut("One two three four five six seven. " * 20, size=200)
    chinese = cut("这是一个用来测试的句子，它说完了。" * 20, size=100)
    assert len(english) > 2
    assert all(chunk.text.rstrip().endswith("seven.") for chunk in english)
    assert len(chinese) > 2
    assert all(chunk.text.endswith("。") for chunk in chinese)


def test_code_and_tables_stay_whole_well_beyond_the_size() -> None:
    code = "```\n" + "\n".join(f"line {number}" for number in range(25)) + "\n```"
    table = "| a | b |\n|---|---|\n" + "\n".join(f"| {number} | x |" for number in range(20))
    assert [chunk.text for chunk in cut(code, size=100)] == [code]
    assert [chunk.text for chunk in cut(table, size=100)] == [table]


def test_huge_code_is_cut_at_line_ends() -> None:
    found = cut("```\n" + "\n".join(f"line {number:04}" for number in range(200)) + "\n```", size=100)
    assert len(found) > 10
    assert all(line.startswith("line ") or line == "```" for chunk in found for line in chunk.text.split("\n") if line)


def test_text_without_any_boundary_is_still_cut() -> None:
    assert [len(chunk.text) for chunk in cut("x" * 250, size=100)] == [100, 100, 50]


@settings(max_examples=200, deadline=None, database=None)
@given(st.text(alphabet="#-=`|>*\n 。.ab文\t1", max_size=200), st.integers(5, 60))
def test_offsets_are_the_documents_and_chunks_never_overlap(text: str, size: int) -> None:
    found = cut(text, size=size)
    assert all(chunk.text == text[chunk.start : chunk.end] and chunk.text.strip() for chunk in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
    for chunk in found:
        assert all(chunk.of(block) == text[block.start : block.end] for block in chunk.blocks)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.text(alphabet="ab文字 。.", min_size=1, max_size=80).map(str.strip).filter(bool), max_size=6))
def test_no_prose_is_lost(paragraphs: list[str]) -> None:
    whole = "".join("".join(paragraphs).split())
    assert "".join("".join(chunk.text for chunk in cut("\n\n".join(paragraphs), size=40)).split()) == whole
