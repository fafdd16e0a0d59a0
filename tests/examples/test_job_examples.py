"""The examples of docs/jobs.md: work that somebody waits for elsewhere, on real servers."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from docx import Document
from tests.examples.test_plain_examples import folder, running, until
from tests.test_cli import serving
from tests.test_docs import run_script

from tidelog.client import Stopped
from tidelog.testing import Server, rebuild

__all__ = ["folder"]


def log_of(server: Server, run: str) -> list[dict[str, Any]]:
    return [frame.json for frame in server.watch(f"/runs/{run}/events", params={"merge": "0"}).rest()]


def job(server: Server, path: str, **request: Any) -> list[dict[str, Any]]:
    """Start it as a job; its whole log."""
    headers = {"Prefer": "respond-async", **request.pop("headers", {})}
    answer = server.client.post(path, headers=headers, **request)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/runs/{answer.json()['run']}"
    return log_of(server, answer.json()["run"])


def progress(log: list[dict[str, Any]], task: str = "work") -> list[tuple[float, float | None]]:
    return [(event["done"], event["total"]) for event in log if event["type"] == "progress" and event["task"] == task]


def tables(log: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    return {event["name"]: event["data"]["rows"] for event in log if event["type"] == "data"}


def test_a_report_is_read_while_it_is_written(folder: Path) -> None:
    with running("report") as (server, module):
        module.PAUSE = 0.0
        frames = server.watch("/reports", json={"title": "Sales"}).rest()
        text = rebuild(frames)
        assert text.startswith("# Sales\n\n## North\n\nThe mean is 35.8. The best month brought 42.")
        assert text.endswith("From the first month to the last it is +10.\n")
        told = progress([frame.json for frame in frames])
        assert (told[0], told[-1]) == ((0, 3), (3, 3))
        again = log_of(server, frames[0].json["run"])
        assert again[-1]["outcome"] == "completed", "it stays there"


def test_the_curl_of_jobs_and_of_producers(folder: Path) -> None:
    with serving(folder, "report:app") as server:
        printed = run_script("jobs.sh", server)
        assert '"outcome":"completed"' in printed
        assert printed.strip().endswith('{"result":"already_ended"}')
        printed = run_script("produce.sh", server)
        assert '"text":"compiled "' in printed
        assert '"text":"tested"' in printed
        assert '"type":"run.ended","outcome":"completed"' in printed


def test_an_analysis_shows_its_tables_as_they_come(folder: Path) -> None:
    rows = [("Bonn", 10), ("Bonn", 11), ("Bonn", 12), ("Köln", 20), ("Köln", 20)] + [("Ulm", 5)] * 9 + [("Ulm", 50)]
    text = "city,price\n" + "".join(f"{city},{price}\n" for city, price in rows)
    with running("analysis") as (server, _):
        log = job(
            server, "/analyses?group=city&value=price", content=text.encode(), headers={"Content-Type": "text/csv"}
        )
        found = tables(log)
        assert list(found) == ["sizes", "means", "outliers"]
        assert found["sizes"] == [["Bonn", 3], ["Köln", 2], ["Ulm", 10]]
        assert found["means"] == [["Bonn", 11], ["Köln", 20], ["Ulm", 9.5]]
        assert found["outliers"] == [["Ulm", 50]]
        assert (progress(log, "read")[-1], progress(log, "outliers")[-1]) == ((15, None), (3, 3))
        document = server.client.get(f"/runs/{log[0]['run']}/transcript").json()
        assert document["text"] == "The highest mean is that of Köln; 1 values lie far from their group's."
        bad = server.client.post(
            "/analyses?group=city&value=size", content=text.encode(), headers={"Accept": "application/json"}
        )
        assert (bad.status_code, bad.json()["detail"]) == (400, "Row 1 has no city, or no number as size.")


def letter() -> bytes:
    document = Document()
    document.add_heading("Offer", 1)
    document.add_paragraph("Dear Ann,")
    document.add_paragraph("Delivery", style="List Bullet")
    document.add_heading("Prices", 2)
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip((cell for row in table.rows for cell in row.cells), ("Part", "EUR", "a|b", "3"), strict=True):
        cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_a_document_is_converted(folder: Path) -> None:
    wanted = "# Offer\n\nDear Ann,\n\n- Delivery\n## Prices\n\n| Part | EUR |\n| --- | --- |\n| a\\|b | 3 |\n\n"
    with running("convert") as (server, _):
        assert server.client.post("/conversions", files={"file": ("a.docx", letter())}).text == wanted
        log = job(server, "/conversions", files={"file": ("a.docx", letter())})
        assert "".join(event["text"] for event in log if event["type"] == "text.delta") == wanted
        assert progress(log)[-1] == (5, 5)
        bad = server.client.post("/conversions", files={"file": ("a.docx", b"nothing")})
        assert (bad.status_code, bad.json()["detail"]) == (400, "This is no Word document.")


class Mail:
    """A small SMTP server. It refuses the first `refuse` mails, as a busy one does."""

    def __init__(self, refuse: int) -> None:
        self.mails: list[str] = []
        self.tries = 0
        self._refuse = refuse

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            writer.write(b"220 here\r\n")
            while line := await reader.readline():
                match line[:4].upper().strip():
                    case b"EHLO" | b"HELO" | b"RCPT":
                        writer.write(b"250 fine\r\n")
                    case b"MAIL":
                        self.tries += 1
                        writer.write(b"451 later\r\n" if self.tries <= self._refuse else b"250 fine\r\n")
                    case b"DATA":
                        writer.write(b"354 go on\r\n")
                        self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                        writer.write(b"250 taken\r\n")
                    case b"QUIT":
                        writer.write(b"221 bye\r\n")
                        return
                    case _:
                        writer.write(b"250 fine\r\n")


@contextmanager
def mail_server(refuse: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mail]:
    mail, loop, ready = Mail(refuse), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def work() -> None:
        server = await asyncio.start_server(mail.serve, "127.0.0.1", 0)
        async with server:
            monkeypatch.setenv("SMTP_PORT", str(server.sockets[0].getsockname()[1]))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()))
    thread.start()
    assert ready.wait(10)
    try:
        yield mail
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def register(server: Server) -> str:
    answer = server.client.post("/users", json={"name": "Ann", "mail": "ann@example.com"})
    assert (answer.status_code, answer.json()["name"]) == (201, "Ann")
    return str(answer.json()["mail"])


def test_a_registration_sends_its_mail_in_the_background(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mail server is busy twice: the answer does not wait for it, and the mail arrives once."""
    monkeypatch.setattr("tidelog.attempts.FIRST_WAIT", 0.01)
    with mail_server(2, monkeypatch) as mail, running("register") as (server, _):
        run = register(server).removeprefix("/runs/")
        log = log_of(server, run)
        assert [event["type"] for event in log] == ["run.started", "progress", "progress", "data", "run.ended"]
        assert log[1]["note"] == "The mail server does not take the mail now."
        assert (log[-1]["outcome"], mail.tries, len(mail.mails)) == ("completed", 3, 1)
        assert "To: ann@example.com" in mail.mails[0]
        assert "Hello Ann, it is good to have you here." in mail.mails[0]


def test_a_mail_that_never_arrives_is_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidelog.attempts.FIRST_WAIT", 0.01)
    with mail_server(99, monkeypatch) as mail, running("register") as (server, _):
        run = register(server)
        until(lambda: server.client.get(run).json()["state"] == "ended")
        found = server.client.get(run).json()
        assert (found["outcome"], found["error"]["code"], mail.tries) == ("failed", "overloaded", 4)


def orders(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as source, source:
        source.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL)")
        source.executemany("INSERT INTO orders (customer, total) VALUES (?, ?)", [("Ann", n) for n in range(count)])


def copied(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as target:
        return target.execute("SELECT id, total FROM orders ORDER BY id").fetchall()


def test_a_sync_goes_on_where_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = __import__("mirror")
    source, target = folder / "shop.db", folder / "copy.db"
    orders(source, 1200)
    with running("quickstart") as (server, _):
        module.main(str(source), str(target), server.url)
        log = log_of(server, capsys.readouterr().out.strip().rpartition("/")[2])
        assert progress(log)[-1] == (1200, 1200)
        assert [event["data"] for event in log if event["type"] == "data"] == [{"copied": 1200}]
        orders(source, 30)
        module.main(str(source), str(target), server.url)
        log = log_of(server, capsys.readouterr().out.strip().rpartition("/")[2])
        assert [event["data"] for event in log if event["type"] == "data"] == [{"copied": 30}]
        assert len(copied(target)) == 1230


def test_a_sync_that_is_stopped_ends_between_two_pages(folder: Path) -> None:
    module = __import__("mirror")
    source, target = folder / "shop.db", folder / "copy.db"
    orders(source, 3000)

    class Impatient:
        """Somebody has stopped the run by the second page."""

        calls = 0

        def progress(self, done: float, total: float, note: str) -> None:
            self.calls += 1
            if self.calls == 2:
                raise Stopped

    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as two:
        two.executescript(module.TABLES)
        with pytest.raises(Stopped):
            module.copy(one, two, Impatient())
        assert two.execute("SELECT last FROM position").fetchone() == (1000,)
    assert len(copied(target)) == 1000
