"""Documents that people upload: sent, read, listed, asked, replaced, deleted, and there after a restart."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.apps.documents.papers import pdf, word

from tidelog import Tidelog
from tidelog.apps import library as library_module
from tidelog.apps import uploads
from tidelog.apps.documents import Unreadable, read_document
from tidelog.apps.library import Library
from tidelog.apps.main import make_app
from tidelog.apps.uploads import UploadLimits, plain_name, uploads_router
from tidelog.testing import Server, serve

CORPUS = Path(__file__).parent / "documents" / "corpus"
GATE = b"# Gate\n\nThe copper gate opens at nine. Nobody opens it earlier.\n"

File = tuple[str, bytes]


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(make_app("memory:", str(CORPUS))) as server:
        yield server


def sent(server: Server, *files: File, **more: Any) -> Any:
    return server.client.post("/documents", files=[("files", file) for file in files], **more)


def uploaded(server: Server, *files: File) -> dict[str, Any]:
    """Upload, wait for the run, and return what it says was read."""
    answer = sent(server, *files)
    assert answer.status_code == 202, answer.text
    return report(server, answer.json()["run"])


def report(server: Server, run: str) -> dict[str, Any]:
    events = [frame.json for frame in server.watch(f"/runs/{run}/events").rest()]
    assert events[-1]["outcome"] == "completed", events[-1]
    found: dict[str, Any] = next(one["data"] for one in events if one.get("name") == "indexed")
    return found


def ask(server: Server, question: str) -> str:
    answer = server.client.get("/rag", params={"question": question})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def names(server: Server) -> list[str]:
    return [one["name"] for one in server.client.get("/documents").json()["documents"]]


# Several processes


def test_what_one_process_takes_all_answer_from(tmp_path: Path) -> None:
    """Two applications on one file, each with an index of its own."""
    store, other = f"sqlite:///{tmp_path}/runs.db", GATE.replace(b"nine", b"ten")
    with serve(make_app(store, str(CORPUS))) as one, serve(make_app(store, str(CORPUS))) as two:
        assert uploaded(one, ("gate.md", GATE))["read"][0]["replaced"] is False
        assert "opens at nine" in ask(two, "When does the copper gate open?")
        assert uploaded(two, ("gate.md", other))["read"][0]["replaced"] is True
        assert "opens at ten" in ask(one, "When does the copper gate open?")
        assert names(one) == names(two) == ["gate.md"]
        assert two.client.delete("/documents/gate.md").status_code == 204
        assert "copper gate" not in ask(one, "When does the copper gate open?")
        assert names(one) == []
        counts = {server.client.get("/documents").json()["folder"]["count"] for server in (one, two)}
        assert len(counts) == 1
    with serve(make_app(store, str(CORPUS))) as again:
        assert names(again) == []


# Sent, read, asked


def test_an_upload_is_a_run_that_tells_its_progress(server: Server) -> None:
    answer = sent(server, ("gate.md", GATE), ("paper.pdf", pdf([["Dues are 70 crowns a year."]])))
    run = answer.json()["run"]
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/runs/{run}"
    assert answer.headers["run-id"] == run
    events = [frame.json for frame in server.watch(f"/runs/{run}/events").rest()]
    assert [one["type"] for one in events] == ["run.started", "progress", "progress", "progress", "data", "run.ended"]
    assert [(one["task"], one["done"], one["total"], one["note"]) for one in events[1:4]] == [
        ("index", 0, 2, "gate.md"),
        ("index", 1, 2, "paper.pdf"),
        ("index", 2, 2, None),
    ]
    assert events[4]["name"] == "indexed"
    assert events[4]["data"] == {
        "read": [
            {"name": "gate.md", "title": "Gate", "passages": 1, "replaced": False},
            {"name": "paper.pdf", "title": "paper", "passages": 1, "replaced": False},
        ],
        "skipped": [],
        "documents": 7,
    }


def test_every_format_answers_with_where_it_stands(server: Server) -> None:
    def fill(document: Any) -> None:
        document.add_heading("Dues", 1)
        document.add_paragraph("The zinc dues are 70 crowns a year.")

    pages = [["Cover"], ["The brass plate weighs 3 pounds."]]
    html = b"<title>T</title><h1>Visits</h1><h2>Tin</h2><p>The tin tour lasts an hour.</p>"
    uploaded(server, ("dues.docx", word(fill)), ("plate.pdf", pdf(pages, title="Plates")), ("tour.html", html))
    for question, text, title, heading in (
        ("What are the zinc dues?", "The zinc dues are 70 crowns a year. [1]", "Dues", ["Dues"]),
        ("What does the brass plate weigh?", "The brass plate weighs 3 pounds. [1]", "Plates", ["Page 2"]),
        ("How long is the tin tour?", "The tin tour lasts an hour. [1]", "Visits", ["Visits", "Tin"]),
    ):
        found = server.client.get("/rag", params={"question": question}).json()
        assert found["text"].startswith(text)
        assert found["sources"][0]["title"] == title
        assert found["sources"][0]["heading"] == heading


def test_a_broken_file_is_named_and_harms_no_other(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docx", None)
    found = uploaded(
        server,
        ("broken.pdf", b"%PDF-1.7 and then nothing"),
        ("locked.pdf", pdf([["x"]], password="p")),
        ("binary.txt", b"\0\1"),
        ("letter.docx", b"PK"),
        ("picture.png", b"x"),
        ("..", b"x"),
        ("gate.md", GATE),
    )
    assert [one["name"] for one in found["read"]] == ["gate.md"]
    assert [(one["name"], one["reason"]) for one in found["skipped"]] == [
        ("broken.pdf", "it is no PDF, or a broken one"),
        ("locked.pdf", "it is encrypted: save it without a password"),
        ("binary.txt", "it is binary, not text"),
        ("letter.docx", 'its format needs a package that is not installed: pip install "tidelog[documents]"'),
        ("picture.png", "there is no reader for .png"),
        ("..", "it has no name"),
    ]
    assert names(server) == ["gate.md"]


def test_the_same_name_again_replaces(server: Server) -> None:
    uploaded(server, ("gate.md", GATE))
    again = uploaded(server, ("gate.md", GATE.replace(b"nine", b"noon")))
    assert again["read"][0]["replaced"] is True
    assert again["documents"] == 6
    assert ask(server, "When does the copper gate open?").startswith("The copper gate opens at noon.")
    assert "nine" not in ask(server, "When does the copper gate open?")


def test_what_cannot_be_read_replaces_nothing(server: Server) -> None:
    uploaded(server, ("gate.md", GATE))
    assert uploaded(server, ("gate.md", b"\0"))["read"] == []
    assert ask(server, "When does the copper gate open?").startswith("The copper gate opens at nine.")


def test_a_deleted_document_answers_no_more(server: Server) -> None:
    uploaded(server, ("gate.md", GATE), ("a b%2f.md", GATE.replace(b"copper", b"silver")))
    assert server.client.delete("/documents/a%20b%252f.md").status_code == 204
    assert server.client.delete("/documents/gate.md").status_code == 204
    assert ask(server, "copper gate") == "Nothing about this was found in the 5 documents."
    assert names(server) == []
    gone = server.client.delete("/documents/gate.md")
    assert gone.status_code == 404
    assert gone.headers["content-type"] == "application/problem+json"
    assert gone.json()["code"] == "not_found"


def test_a_document_of_the_folder_is_not_deleted(server: Server) -> None:
    assert server.client.delete("/documents/handbook.md").status_code == 404
    assert ask(server, "What is the deposit?").startswith("The deposit is 40 euros.")


def test_the_list_tells_what_there_is_and_what_may_come(tmp_path: Path) -> None:
    (tmp_path / "fine.md").write_text("Fine.")
    (tmp_path / "bad.txt").write_bytes(b"\0")
    with serve(make_app("memory:", str(tmp_path))) as server:
        uploaded(server, ("gate.md", GATE), ("Aa.txt", b"Just a line."))
        found = server.client.get("/documents").json()
    assert [(one["name"], one["title"], one["bytes"]) for one in found["documents"]] == [
        ("Aa.txt", "Aa", 12),
        ("gate.md", "Gate", len(GATE)),
    ]
    assert found["documents"][0]["at"] > 1_700_000_000
    assert found["folder"] == {
        "state": "ready", "count": 3, "own": False,
        "skipped": [{"name": "bad.txt", "reason": "it is binary, not text"}],
    }  # fmt: skip
    assert ".docx" in found["formats"]
    assert found["limits"] == {"file_bytes": 16 << 20, "total_bytes": 32 << 20, "files": 20}


def test_tidelogs_own_documents_step_aside(tmp_path: Path) -> None:
    with serve(make_app("memory:")) as server:
        assert "A cursor is" in ask(server, "What is a cursor?")
        assert server.client.get("/documents").json()["folder"]["skipped"] == []
        uploaded(server, ("gate.md", GATE))
        assert server.client.get("/about").json()["documents"] == {"state": "ready", "count": 1, "own": False}
        assert ask(server, "What is a cursor?") == "Nothing about this was found in the one document."
        server.client.delete("/documents/gate.md")
        assert "A cursor is" in ask(server, "What is a cursor?")


# Kept


def test_uploads_are_there_after_a_restart_and_gone_once_deleted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    paper = pdf([["First."], ["The brass plate weighs 3 pounds."]])
    with serve(make_app(url, str(CORPUS))) as server:
        uploaded(server, ("gate.md", GATE), ("plate.pdf", paper))
    with serve(make_app(url, str(CORPUS))) as server:
        assert names(server) == ["gate.md", "plate.pdf"]
        assert ask(server, "When does the copper gate open?").startswith("The copper gate opens at nine.")
        found = server.client.get("/rag", params={"question": "What does the brass plate weigh?"}).json()
        assert found["sources"][0]["heading"] == ["Page 2"]
        assert server.client.delete("/documents/gate.md").status_code == 204
        held = b"".join(path.read_bytes() for path in tmp_path.glob("runs.documents*"))
        assert b"brass plate" in held
        assert b"copper gate" not in held
    with serve(make_app(url, str(CORPUS))) as server:
        assert names(server) == ["plate.pdf"]
        assert ask(server, "copper gate") == "Nothing about this was found in the 6 documents."


def test_what_cannot_be_opened_stops_the_start_in_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "runs.documents.db").write_bytes(b"This is no database, though it is long enough to look like one." * 9)
    with pytest.raises(RuntimeError, match="did not start"), serve(make_app(f"sqlite:///{tmp_path}/runs.db")):
        pass
    assert "TidelogError: The uploaded documents cannot be kept: file is not a database." in caplog.text


# While it is read


def held_back(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[], None]:
    """Reading this one file waits until the returned function is called."""
    gate = threading.Event()

    def waiting(given: str, data: bytes) -> Any:
        assert given != name or gate.wait(10)
        return read_document(given, data)

    monkeypatch.setattr(library_module, "read_document", waiting)
    return gate.set


def test_questions_are_answered_while_files_are_read(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    release = held_back(monkeypatch, "slow.md")
    run = sent(server, ("gate.md", GATE), ("slow.md", b"The iron gate is slow.")).json()["run"]
    with server.watch(f"/runs/{run}/events") as viewer:
        assert next(frame for frame in viewer if frame.json.get("note") == "slow.md")
    assert ask(server, "When does the copper gate open?").startswith("The copper gate opens at nine.")
    assert "iron" not in ask(server, "How slow is the iron gate?")
    release()
    assert len(report(server, run)["read"]) == 2
    assert ask(server, "How slow is the iron gate?").startswith("The iron gate is slow.")


def test_what_is_stopped_is_not_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    release = held_back(monkeypatch, "slow.md")
    run = sent(server, ("slow.md", b"The iron gate is slow.")).json()["run"]
    with server.watch(f"/runs/{run}/events") as viewer:
        assert next(frame for frame in viewer if frame.json.get("note") == "slow.md")
    assert server.client.post(f"/runs/{run}/stop").json()["result"] in ("stopped", "stopping")
    frames = [frame.json for frame in server.watch(f"/runs/{run}/events").rest()]
    assert frames[-1]["outcome"] == "stopped"
    release()
    uploaded(server, ("gate.md", GATE))  # in the same thread, behind the one that was stopped
    assert names(server) == ["gate.md"]


# Refused


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    app = FastAPI()
    tide, library = Tidelog("memory:"), Library(str(CORPUS))
    app.router.lifespan_context = library.lifespan
    app.include_router(tide.router)
    app.include_router(uploads_router(tide, library, limits=UploadLimits(file_bytes=100, total_bytes=250, files=3)))
    with serve(app) as server:
        yield server


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ([("a.txt", b"x" * 101)], "file_bytes (100)"),
        ([("a.txt", b"x"), ("b.txt", b"x"), ("c.txt", b"x"), ("d.txt", b"x")], "files (3)"),
        ([("a.txt", b"x" * (uploads.FORM_BYTES + 251))], "total_bytes (250)"),
        ([(f"{name}.txt", b"x" * 100) for name in "abc"], "total_bytes (250)"),
    ],
)
def test_what_is_over_a_limit_is_413(small: Server, files: list[File], limit: str) -> None:
    answer = sent(small, *files)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "too_large"
    assert answer.json()["detail"] == f"The upload is over {limit}."


def test_a_body_without_a_length_is_cut_at_the_limit(small: Server) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(20):
            yield b"x" * uploads.FORM_BYTES

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = small.client.post("/documents", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"json": {"files": []}},
        {"data": {"files": "x"}},
        {"content": b"--b\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    ],
)
def test_what_holds_no_file_is_400(small: Server, request_: dict[str, Any]) -> None:
    answer = small.client.post("/documents", **request_)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_a_page_of_another_site_uploads_nothing(server: Server) -> None:
    answer = sent(server, ("large.md", GATE * 40_000), headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    uploaded(server, ("other.md", b"x"))
    assert names(server) == ["other.md"]


def test_it_is_202_for_whoever_asks_for_no_stream(small: Server) -> None:
    for headers in ({"Accept": "*/*"}, {"Prefer": "wait=5"}, {"Accept": "application/json, text/plain, */*"}):
        assert sent(small, ("a.txt", b"x"), headers=headers).status_code == 202
    answer = sent(small, ("a.txt", b"x"), headers={"Accept": "text/event-stream"})
    assert answer.status_code == 200
    assert '"name":"indexed"' in answer.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("notes.md", "notes.md"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\me\\..\\notes.md", "notes.md"),
        (" 手册.pdf ", "手册.pdf"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("CON.txt", "CON.txt"),
        ("a?b*c|d.md", "a?b*c|d.md"),
        (".hidden.md", ".hidden.md"),
    ],
)
def test_a_name_is_only_a_name(given: str, kept: str) -> None:
    assert plain_name(given) == kept


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "no name"),
        ("..", "no name"),
        ("a/..", "no name"),
        ("folder/", "no name"),
        ("a\0.md", "do not show"),
        ("a\n.md", "do not show"),
        ("\u202efdp.txt", "do not show"),
        ("\ud800.md", "do not show"),
        ("手" * 86 + ".md", "longer than 255 bytes"),
    ],
)
def test_a_name_that_nobody_could_ask_for_is_refused(given: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        plain_name(given)
