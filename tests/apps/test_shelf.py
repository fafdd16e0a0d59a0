import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from tidelog import TidelogError
from tidelog.apps import shelf as module
from tidelog.apps.documents import Document
from tidelog.apps.shelf import Full, Kept, Shelf, beside


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("memory:", ":memory:"),
        ("redis://host/1", ":memory:"),
        ("sqlite:///tidelog.db", "tidelog.documents.db"),
        ("sqlite:////var/lib/my%20runs.sqlite?synchronous=FULL", "/var/lib/my runs.documents.sqlite"),
        ("sqlite:///runs", "runs.documents.db"),
    ],
)
def test_documents_lie_beside_the_runs(url: str, place: str) -> None:
    assert beside(url) == place


def test_what_is_put_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    place = str(tmp_path / "d.db")
    paper = Document("论文.pdf", "Paper", "one\n\ntwo", (0, 5))
    first = Shelf(place)
    first.put(paper, size=99, at=12.5)
    first.put(Document("a.md", "A", "a"), size=1, at=1.0)
    first.put(Document("a.md", "B", "b"), size=2, at=2.0)
    first.close()
    again = Shelf(place)
    assert again.list() == [Kept("a.md", "B", 2, 2.0), Kept("论文.pdf", "Paper", 99, 12.5)]
    assert [again.document(name) for name in ("a.md", "论文.pdf", "b.md")] == [Document("a.md", "B", "b"), paper, None]
    again.close()


def test_what_is_dropped_or_replaced_leaves_no_byte(tmp_path: Path) -> None:
    shelf = Shelf(str(tmp_path / "d.db"))
    for name, word in (("a.md", "copper"), ("b.md", "silver"), ("c.md", "golden")):
        shelf.put(Document(name, word, f"{word} " * 5_000), size=1, at=1.0)
    full = (tmp_path / "d.db").stat().st_size
    shelf.put(Document("b.md", "b", "short"), size=1, at=1.0)
    assert shelf.drop("a.md") is True
    assert shelf.drop("a.md") is False
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"golden" in held
    assert b"copper" not in held
    assert b"silver" not in held
    assert (tmp_path / "d.db").stat().st_size < full / 2
    shelf.close()


def test_it_is_full_at_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DOCUMENTS", 2)
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 10)
    shelf = Shelf()
    shelf.put(Document("a", "", "手手"), size=1, at=1.0)
    with pytest.raises(Full, match="more than 10 bytes of text"):
        shelf.put(Document("b", "", "12345"), size=1, at=1.0)
    shelf.put(Document("b", "", "1234"), size=1, at=1.0)
    shelf.put(Document("b", "", "4321"), size=1, at=1.0)  # its own place is free
    with pytest.raises(Full, match="2 documents are kept already"):
        shelf.put(Document("c", "", ""), size=1, at=1.0)
    assert [one.name for one in shelf.list()] == ["a", "b"]
    shelf.close()


@pytest.mark.parametrize("version", [0, 2])
def test_a_database_of_something_else_is_left_alone(tmp_path: Path, version: int) -> None:
    place = str(tmp_path / "d.db")
    other = apsw.Connection(place)
    other.execute(f"PRAGMA application_id={module._APPLICATION if version else 5}; PRAGMA user_version={version}")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(TidelogError, match="no uploaded documents, or those of another version") as caught:
        Shelf(place)
    assert caught.value.code == "store_unavailable"


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(TidelogError, match="cannot be kept"):
        Shelf(str(tmp_path / "none" / "d.db"))


def test_pages_are_plain_json() -> None:
    shelf = Shelf()
    shelf.put(Document("a", "", "x", (0, 1)), size=1, at=1.0)
    assert json.loads(shelf._row("SELECT pages FROM documents")[0]) == [0, 1]
    shelf.close()


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Whoever is first makes it; all keep what they are given."""
    gate = threading.Barrier(8)

    def opened(number: int) -> Shelf:
        gate.wait()
        shelf = Shelf(str(tmp_path / "d.db"))
        shelf.put(Document(f"{number}.md", "T", "text"), size=1, at=1.0)
        return shelf

    with ThreadPoolExecutor(8) as pool:
        shelves = list(pool.map(opened, range(8)))
    for shelf in shelves:
        assert [one.name for one in shelf.list()] == [f"{number}.md" for number in range(8)]
        shelf.close()


def test_its_version_tells_what_others_do(tmp_path: Path) -> None:
    mine, other = (Shelf(str(tmp_path / "d.db")) for _ in range(2))
    seen = [mine.version()]
    other.put(Document("a.md", "A", "a"), size=1, at=1.0)
    seen.append(mine.version())
    other.drop("a.md")
    seen.append(mine.version())
    assert len(set(seen)) == 3
    mine.put(Document("a.md", "B", "b"), size=1, at=2.0)
    assert mine.version() == seen[-1]
    mine.close()
    other.close()
