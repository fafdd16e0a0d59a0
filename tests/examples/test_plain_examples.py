"""The examples of docs/when-not-to-stream.md do what the page says, without a key and without a network."""

from __future__ import annotations

import csv
import importlib
import io
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tidelog.testing import Server, rebuild, serve

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 10.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The examples in a folder of their own: they keep their databases in the working directory."""
    monkeypatch.chdir(shutil.copytree(EXAMPLES, tmp_path / "examples"))
    monkeypatch.syspath_prepend(str(tmp_path / "examples"))
    return tmp_path / "examples"


@contextmanager
def running(name: str) -> Iterator[tuple[Server, ModuleType]]:
    module = importlib.import_module(name)
    try:
        module.tide.drain_timeout = 0.0
        with serve(module.app) as server:
            yield server, module
    finally:
        del sys.modules[name]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def test_a_short_translation_is_one_document(folder: Path) -> None:
    with running("translate") as (server, _):
        answer = server.client.post("/translate", json={"text": "good morning"})
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.json()["text"] == "guten Morgen "


def test_a_long_translation_is_a_stream(folder: Path) -> None:
    with running("translate") as (server, _):
        viewer = server.watch("/translate", json={"text": "thanks " * 150}, accept="*/*")
        assert viewer.headers["content-type"].startswith("text/event-stream")
        assert rebuild(viewer.rest()) == "danke " * 150


def test_extraction_gives_a_valid_document_or_none(folder: Path) -> None:
    with running("extract") as (server, module):
        answer = server.client.post("/extract", json={"text": "Invoice 7 of Miller Ltd: 120.50 EUR"})
        (found,) = answer.json()["data"]
        assert module.Invoice(**found["data"]) == module.Invoice(number=7, customer="Miller Ltd", total=120.5)
        assert found["name"] == "Invoice"
        answer = server.client.post("/extract", json={"text": "nothing here"})
        assert (answer.status_code, answer.json()["detail"]) == (400, "There is no invoice in this text.")


def test_what_is_not_valid_yet_is_never_seen(folder: Path) -> None:
    """The first answer of the stand-in is wrong: not even somebody who asks for a stream gets to see it."""
    with running("extract") as (server, _):
        frames = server.watch("/extract", json={"text": "Invoice 7 of Miller Ltd: 120.50 EUR"}).rest()
        assert [frame.json["type"] for frame in frames] == ["run.started", "data", "run.ended"]


def test_a_batch_is_whole(folder: Path) -> None:
    with running("batch") as (server, _):
        texts = ["I like it", "It broke"] * 10
        answer = server.client.post("/judge", json={"texts": texts}).json()
        (found,) = answer["data"]
        assert [each["text"] for each in found["data"]] == texts
        assert [each["opinion"] for each in found["data"]] == ["good", "bad"] * 10


def test_a_batch_with_one_bad_text_is_nothing(folder: Path) -> None:
    with running("batch") as (server, _):
        answer = server.client.post("/judge", json={"texts": ["I like it", " "]})
        assert (answer.status_code, answer.json()["detail"]) == (400, "One of the texts is empty.")
        frames = server.watch("/judge", json={"texts": ["I like it", " "]}, accept="application/x-ndjson")
        assert b"good" not in frames.body


def test_nothing_unchecked_is_seen_or_kept(folder: Path) -> None:
    with running("moderated") as (server, _):
        viewer = server.watch("/chat", json={"question": "Why?"})
        frames = viewer.rest()
        assert rebuild(frames) == "You asked: Why? This is the answer."
        assert [frame.json["type"] for frame in frames][-3:] == ["finish", "text.ended", "run.ended"]
        log = server.client.get(f"/runs/{viewer.run}/events", headers={"Accept": "application/x-ndjson"})
        assert "answer" in log.text
        assert "secret" not in log.text + viewer.body.decode()


async def _chunks(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


@pytest.mark.anyio
async def test_sentences_under_any_chunking(folder: Path) -> None:
    module = importlib.import_module("moderated")
    try:
        text = "One. Two! 三。No end " + "x" * module.MOST_HELD
        for size in (1, 7, len(text)):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            found = [each async for each in module.sentences(_chunks(*pieces))]
            assert "".join(found) == text
            assert found[:3] == ["One.", " Two!", " 三。"]
            assert max(map(len, found)) <= module.MOST_HELD
    finally:
        del sys.modules["moderated"]


def test_the_log_file_is_followed_through_a_rotation(folder: Path) -> None:
    with running("logs") as (server, module):
        server.client.post("/orders")
        viewer = server.watch("/log", accept="text/plain")
        while b"\n" not in viewer.body:
            assert viewer.more()
        (folder / module.LOG).rename(folder / "shop.log.1")
        server.client.post("/orders")
        while viewer.body.count(b"an order has come in\n") < 2:
            assert viewer.more()


def test_what_the_process_logs_is_seen(folder: Path) -> None:
    with running("logs") as (server, module):
        before = list(module.shop.handlers)
        viewer = server.watch("/logging", params={"dialect": "simple"})
        until(lambda: module.shop.handlers != before)
        server.client.post("/orders")
        (frame,) = viewer.read(1)
        assert json.loads(frame.data or "")["message"] == "an order has come in"


def test_an_export_is_small_or_large(folder: Path) -> None:
    with running("export") as (server, module):
        small = server.client.get("/orders.csv", params={"after": module.ORDERS - 2})
        assert int(small.headers["content-length"]) == len(small.content)
        large = server.client.get("/orders.csv")
        assert "content-length" not in large.headers
        assert len(large.content) > 10_000_000
        for answer, count in ((small, 2), (large, module.ORDERS)):
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            rows = list(csv.reader(io.StringIO(answer.text, newline="")))
            assert rows[0] == ["id", "customer", "note"]
            assert [int(row[0]) for row in rows[1:]] == list(range(module.ORDERS - count + 1, module.ORDERS + 1))
