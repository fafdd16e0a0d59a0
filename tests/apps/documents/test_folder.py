import os
from pathlib import Path

import pytest

from tidelog.apps.documents.folder import Document, Skipped, read_folder, title_of
from tidelog.apps.documents.readers import READERS, Text, Unreadable


def test_documents_come_in_order_with_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("# Second\r\n\r\ntext\rmore", newline="")
    (tmp_path / "b" / "one.txt").write_text("plain")
    (tmp_path / "a.MARKDOWN").write_text("no heading")
    assert list(read_folder(tmp_path)) == [
        Document("a.MARKDOWN", "a", "no heading"),
        Document("b/one.txt", "one", "plain"),
        Document("b/two.md", "Second", "# Second\n\ntext\nmore"),
    ]


def test_a_single_file_is_a_folder_of_one(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("# Note\nx")
    assert list(read_folder(tmp_path / "note.md")) == [Document("note.md", "Note", "# Note\nx")]


def test_nothing_at_the_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(read_folder(tmp_path / "nowhere"))


def test_hidden_and_foreign_folders_are_passed_over_in_silence(tmp_path: Path) -> None:
    for name in (".git", "node_modules", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.md").write_text("x")
    (tmp_path / ".hidden.md").write_text("x")
    skipped: list[Skipped] = []
    assert [document.path for document in read_folder(tmp_path, skipped=skipped)] == ["kept/x.md"]
    assert skipped == []


def test_unreadable_files_are_named_and_harm_no_other(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "good.md").write_text("fine")
    (tmp_path / "large.txt").write_text("x" * 101)
    (tmp_path / "latin.txt").write_bytes("déjà vu, naïve façade".encode("latin-1"))
    (tmp_path / "paper.odt").write_bytes(b"PK")
    (tmp_path / "pipe.md").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "wait.txt")
    skipped: list[Skipped] = []
    found = list(read_folder(tmp_path, skipped=skipped, max_file_bytes=100))
    assert [document.path for document in found] == ["good.md"]
    assert [(one.path, one.reason) for one in skipped] == [
        ("binary.txt", "it is binary, not text"),
        ("large.txt", "it is larger than 100 bytes"),
        ("latin.txt", "its text encoding is unknown (UTF-8 is expected)"),
        ("paper.odt", "there is no reader for .odt"),
        ("pipe.md", "it is a link to a place outside the folder"),
        ("wait.txt", "it is not a regular file"),
    ]


def test_a_broken_link_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "gone.md").symlink_to(tmp_path / "missing.md")
    skipped: list[Skipped] = []
    assert list(read_folder(tmp_path, skipped=skipped)) == []
    assert [one.path for one in skipped] == ["gone.md"]


def test_the_totals_end_the_reading_and_say_so(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("12345")
    skipped: list[Skipped] = []
    assert len(list(read_folder(tmp_path, skipped=skipped, max_files=2))) == 2
    assert len(list(read_folder(tmp_path, skipped=skipped, max_total_bytes=11))) == 3
    assert [one.path for one in skipped] == ["2.txt", "3.txt"]
    assert "limit of 2 files" in skipped[0].reason


def test_a_new_format_is_one_row(tmp_path: Path) -> None:
    def shout(data: bytes) -> Text:
        if not data:
            raise Unreadable("it is empty")
        return Text(data.decode().upper())

    (tmp_path / "a.loud").write_text("hear")
    (tmp_path / "b.loud").write_text("")
    skipped: list[Skipped] = []
    found = list(read_folder(tmp_path, readers={**READERS, ".loud": shout}, skipped=skipped))
    assert found == [Document("a.loud", "a", "HEAR")]
    assert skipped == [Skipped("b.loud", "it is empty")]


def test_where_a_title_comes_from() -> None:
    assert title_of("---\ntitle: 'From front matter'\n---\n# Heading") == "From front matter"
    assert title_of("## First line, whatever its level\nx") == "First line, whatever its level"
    assert title_of("badge\n\n# The first of level one\n# Second") == "The first of level one"
    assert title_of("```\n# comment\n```\n## Part") == ""
