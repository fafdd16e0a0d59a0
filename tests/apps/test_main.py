"""The built-in application as a client sees it: questions, their answers, and what it says of itself."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidelog import TidelogError
from tidelog.apps import documents, library
from tidelog.apps.main import make_app, without_secrets
from tidelog.apps.page import HERE
from tidelog.testing import Server, rebuild, serve

CORPUS = Path(__file__).parent / "documents" / "corpus"
LOCK = "How do I lock the bike?"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(make_app("memory:", str(CORPUS))) as server:
        yield server


def ask(server: Server, question: str, **more: Any) -> dict[str, Any]:
    answer = server.client.get("/rag", params={"question": question, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def started(server: Server, **body: Any) -> str:
    answer = server.client.post("/rag", json=body, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    run: str = answer.json()["run"]
    return run


def transcript(server: Server, run: str) -> dict[str, Any]:
    server.watch(f"/runs/{run}/events").rest()
    found: dict[str, Any] = server.client.get(f"/runs/{run}/transcript").json()
    return found


# What is asked and answered


def test_ready_at_once_it_is_one_document(server: Server) -> None:
    found = ask(server, "What is the deposit?")
    assert found["outcome"] == "completed"
    assert found["text"].startswith("The deposit is 40 euros. [1]")
    first = found["sources"][0]
    assert first["id"] == "s1"
    assert first["title"] == "Millbrook Bicycles: rider's handbook"
    assert first["heading"][-1] == "Joining"
    assert first["quote"] == "The deposit is 40 euros."
    assert 0 < first["score"] <= 1
    assert found["data"] == [{"type": "data", "name": "question", "data": "What is the deposit?"}]


def test_a_chinese_word_of_two_characters(server: Server) -> None:
    found = ask(server, "押金")
    assert "押金为三百元。" in found["text"]
    assert found["sources"][0]["title"] == "柳河单车骑行手册"


def test_sources_come_before_the_answer(server: Server) -> None:
    events = [one.json for one in server.watch("/rag", params={"question": LOCK, "merge": "0"}).rest()]
    kinds = [one["type"] for one in events]
    assert kinds[:4] == ["run.started", "data", "progress", "sources"]
    assert events[2]["note"] == "Searching"
    assert set(kinds[4:-2]) == {"text.delta"}
    assert kinds[-2:] == ["text.ended", "run.ended"]
    assert {mark for mark in ("[1]", "[3]", "[4]") if mark in rebuild(events)} == {"[1]", "[3]", "[4]"}
    assert len(events[3]["sources"]) >= 4


def test_a_pace_gives_words(server: Server) -> None:
    whole = ask(server, LOCK)
    frames = server.watch("/rag", json={"question": LOCK, "pace": 200}, params={"merge": "0"}).rest()
    words = [one.json["text"] for one in frames if one.json["type"] == "text.delta"]
    assert "".join(words) == whole["text"]
    assert len(words) > 40


@pytest.mark.parametrize(
    ("question", "lang", "text"),
    [
        ("quantum gravity", None, "Nothing about this was found in the 5 documents."),
        ("量子引力", None, "在 5 篇文档中没有找到相关内容。"),
        ("quantum gravity", "zh", "在 5 篇文档中没有找到相关内容。"),
        ("量子引力", "en", "Nothing about this was found in the 5 documents."),
    ],
)
def test_what_is_not_there_is_said(server: Server, question: str, lang: str | None, text: str) -> None:
    found = ask(server, question, **({"lang": lang} if lang else {}))
    assert found["text"] == text
    assert found["sources"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"question": " \n"},
        {"question": "x" * 2001},
        {"question": "x", "pace": -1},
        {"question": "x", "pace": 1000},
        {"question": "x", "pace": "nan"},
        {"question": "x", "lang": "fr"},
    ],
)
def test_what_makes_no_sense_is_refused(server: Server, body: dict[str, Any]) -> None:
    assert server.client.post("/rag", json=body).status_code == 422
    assert server.client.get("/rag", params=body).status_code == 422


# Stopped, continued, retried


def test_continue_goes_on_exactly_where_it_stopped(server: Server) -> None:
    """Cut at random words, twice each: the text is that of an answer that nobody touched."""
    whole = ask(server, LOCK)
    chance = random.Random(11)
    for cut in (0, 1, *(chance.randrange(2, 40) for _ in range(4))):
        run = started(server, question=LOCK, pace=150)
        for step in (cut, 2):
            stop_after(server, run, step)
            partial = transcript(server, run)["text"]
            assert whole["text"].startswith(partial)
            run = server.client.post(f"/runs/{run}/continue").json()["run"]
        found = transcript(server, run)
        assert found["text"] == whole["text"]
        assert found["sources"] == whole["sources"]


def stop_after(server: Server, run: str, words: int) -> None:
    """Let some words go by, then stop the run."""
    with server.watch(f"/runs/{run}/events", params={"merge": "0"}) as viewer:
        for frame in viewer:
            words -= frame.json["type"] == "text.delta"
            if words < 0:
                break
    assert server.client.post(f"/runs/{run}/stop").json()["result"] in ("stopped", "already_ended")


def test_retry_is_a_plain_new_answer(server: Server) -> None:
    run = started(server, question=LOCK, pace=100)
    stop_after(server, run, 3)
    again = server.client.post(f"/runs/{run}/retry").json()["run"]
    assert again != run
    frames = [one.json for one in server.watch(f"/runs/{again}/events").rest()]
    assert "text.snapshot" not in [one["type"] for one in frames]
    assert rebuild(frames) == ask(server, LOCK)["text"]


def test_continue_after_the_documents_changed_says_so(tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("# Note\n\nThe gate opens at nine. It closes at ten in the evening, every day of the whole year.\n")
    url = f"sqlite:///{tmp_path}/runs.db"
    with serve(make_app(url, str(note))) as server:
        run = started(server, question="When does the gate open?", pace=20)
        stop_after(server, run, 2)
    note.write_text("# Note\n\nOf late the gate opens at noon.\n")
    with serve(make_app(url, str(note))) as server:
        again = server.client.post(f"/runs/{run}/continue").json()["run"]
        found = transcript(server, again)
    assert found["error"]["code"] == "not_repeatable"
    assert found["text"].startswith("The gate ")
    assert found["can"] == ["retry", "continue"]


# The documents


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(TidelogError, match=r"no file or folder of documents at .*nowhere"):
        make_app("memory:", str(tmp_path / "nowhere"))


def test_a_question_waits_for_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    release = slow_reading(monkeypatch)
    with serve(make_app("memory:", str(CORPUS))) as server:
        assert about(server)["documents"]["state"] == "reading"
        run = started(server, question="What is the deposit?")
        release()
        assert "40 euros" in transcript(server, run)["text"]
        assert about(server)["documents"] == {"state": "ready", "count": 5, "own": False}


def slow_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    gate, read = threading.Event(), documents.read_folder

    def waiting(*given: Any, **named: Any) -> Iterator[Any]:
        assert gate.wait(10)
        yield from read(*given, **named)

    monkeypatch.setattr(library, "read_folder", waiting)
    return gate.set


def test_documents_that_cannot_be_read_are_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **named: Any) -> Iterator[Any]:
        raise PermissionError(13, "Permission denied")
        yield

    monkeypatch.setattr(library, "read_folder", broken)
    with serve(make_app("memory:", str(CORPUS))) as server:
        answer = server.client.get("/rag", params={"question": "x"})
        assert answer.status_code == 502
        assert answer.json()["code"] == "provider_error"
        assert answer.json()["detail"] == "The documents cannot be read: Permission denied."
        assert about(server)["documents"]["state"] == "failed"


@pytest.mark.anyio
async def test_leaving_does_not_wait_for_all_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.md").write_text("one")
    (tmp_path / "two.md").write_text("two")
    books, seen, read = library.Library(str(tmp_path)), list[str](), documents.read_folder

    def watched(*given: Any, **named: Any) -> Iterator[Any]:
        for document in read(*given, **named):
            assert books._closing.wait(10)
            seen.append(document.path)
            yield document

    monkeypatch.setattr(library, "read_folder", watched)
    async with books.lifespan(None):
        assert books.state()["state"] == "reading"
    assert seen == ["one.md"]


def test_without_a_folder_it_answers_from_its_own_documents() -> None:
    with serve(make_app("memory:")) as server:
        found = ask(server, "What is a cursor?")
        assert "A cursor is" in found["text"]
        assert about(server)["documents"]["own"] is True


# What it says of itself, and its page


def about(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/about").json()
    return found


def test_about(server: Server) -> None:
    ask(server, "x")
    found = about(server)
    assert found.pop("version").count(".") == 2
    assert found == {
        "store": "memory:",
        "documents": {"state": "ready", "count": 5, "own": False},
        "answerer": "extractive",
        "model": None,
        "apps": ["rag", "chat", "agent"],
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("sqlite:///tidelog.db", "sqlite:///tidelog.db"),
        ("sqlite:////var/lib/tidelog.db?x=1", "sqlite:////var/lib/tidelog.db"),
        ("redis://me:secret@host:6379/1?password=secret", "redis://host:6379/1"),
    ],
)
def test_secrets_are_left_out(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_the_page_is_held_to_itself(server: Server) -> None:
    page = server.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in HERE.iterdir():
        if path.suffix in (".js", ".css", ".svg", ".html"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1:8000", "")
            assert "://" not in text.replace(r":\/\/", ""), path.name


def test_only_files_of_the_page_are_served(server: Server) -> None:
    assert server.client.get("/page/page.js").headers["content-type"] == "text/javascript; charset=utf-8"
    for name in ("__init__.py", "index.html", "none.js", "..%2fmain.py", "%2e%2e%2f%2e%2e%2fpy.typed"):
        assert server.client.get(f"/page/{name}").status_code == 404


def test_every_word_of_the_page_has_both_languages() -> None:
    names = [
        re.findall(r"^ {4}(\w+):", block, re.MULTILINE)
        for block in re.findall(
            r"^ {2}(?:en|zh): \{\n(.*?)^ {2}\}", (HERE / "words.js").read_text(), re.MULTILINE | re.DOTALL
        )
    ]
    assert len(names) == 2
    assert names[0] == names[1]
    assert set(re.findall(r'data-say="(\w+)"', (HERE / "index.html").read_text())) <= set(names[0])
