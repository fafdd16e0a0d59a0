"""`tide.export`: small answers as documents, large ones as runs, and what both cost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from tests.conftest import count
from tests.integration.exports import CHUNK

from tidelog import Tidelog
from tidelog.errors import InvalidRequest, SourceError
from tidelog.server.export import LOCKSTEP, WHOLE_BYTES
from tidelog.testing import Gate, Process, Server, freeze, serve, serve_process, watch
from tidelog.transports.deliver import REST

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
GROWTH = 50_000_000
"""Bytes by which an export of any size may make the process grow."""
READ = 64 * 1024


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@contextlib.contextmanager
def exporting(make: Callable[[], Any], **options: Any) -> Iterator[Server]:
    """A server with one export at /x."""
    app, tide = FastAPI(), Tidelog("memory:", drain_timeout=0)
    app.include_router(tide.router)

    @app.api_route("/x", methods=["GET", "HEAD"])
    async def x() -> Response:
        return tide.export(make, **options)

    @app.exception_handler(ValueError)
    async def bad(request: object, error: Exception) -> Response:
        return JSONResponse({"said": str(error)}, 418)

    with serve(app) as server:
        yield server


def sized(size: int) -> list[str]:
    """A text of exactly so many bytes."""
    return [("x" * 99_999 + "\n")[: min(100_000, size - at)] for at in range(0, size, 100_000)]


class TestForms:
    def test_small_is_one_document(self) -> None:
        with exporting(lambda: ["a,b\r\n", "1,2\r\n"], filename="größe.csv") as server:
            answer = server.client.get("/x")
            assert answer.text == "a,b\r\n1,2\r\n"
            assert answer.headers["content-length"] == "10"
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv"
            assert "run-id" not in answer.headers
            assert server.client.get("/runs").json() == {"runs": []}

    def test_large_is_a_run_with_the_same_text(self) -> None:
        wanted = sized(WHOLE_BYTES)
        with exporting(lambda: iter(wanted), filename="x.csv", drop_after=None) as server:
            answer = server.client.get("/x")
            assert answer.text == "".join(wanted)
            assert "content-length" not in answer.headers
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''x.csv"
            assert server.client.get(answer.headers["location"]).json()["outcome"] == "completed"

    def test_the_bound(self) -> None:
        for size, whole in ((99, True), (100, False)):
            with exporting(lambda size=size: sized(size), whole_bytes=100) as server:
                answer = server.client.get("/x")
                assert ("content-length" in answer.headers, len(answer.content)) == (whole, size)

    def test_bytes_that_are_cut_in_a_character(self) -> None:
        data = ("é" * 100).encode()
        for whole_bytes in (1000, 10):
            with exporting(lambda: [data[:33], data[33:]], whole_bytes=whole_bytes) as server:
                assert server.client.get("/x").content == data

    def test_slow_is_a_run_though_small(self) -> None:
        opened: list[Gate] = []

        async def slow() -> AsyncIterator[str]:
            opened.append(Gate())
            yield "first "
            await opened[-1].wait()
            yield "last"

        with exporting(slow, whole_seconds=0.05) as server:
            viewer = server.watch("/x", accept="*/*")
            assert len(opened) == 2, "the first was closed"
            opened[-1].open()
            assert viewer.text == "first last"
            assert "run-id" in viewer.headers

    def test_large_chunks_are_cut(self) -> None:
        """No event is over max_event_bytes, however the source cuts its text."""
        text = "\x01" * 2_000_000
        with exporting(lambda: [text], whole_bytes=1000) as server:
            assert server.client.get("/x").text == text

    @pytest.mark.parametrize("accept", ["*/*", "text/csv", "text/plain", "application/json", "text/html,*/*;q=0.8"])
    @pytest.mark.parametrize("size", [10, 1000])
    def test_who_names_no_form_of_events_gets_the_text(self, accept: str, size: int) -> None:
        with exporting(lambda: sized(size), whole_bytes=100, media_type="application/json") as server:
            answer = server.client.get("/x", headers={"Accept": accept})
            assert answer.text == "".join(sized(size))
            assert answer.headers["content-type"] == "application/json"

    def test_who_names_one_gets_events(self) -> None:
        with exporting(lambda: ["small"]) as server:
            with server.watch("/x") as viewer:
                assert viewer.rest()[0].json["type"] == "run.started"
            lines = server.client.get("/x", headers={"Accept": "application/x-ndjson"})
            assert lines.headers["content-type"] == "application/x-ndjson"
            started = server.client.get("/x", headers={"Prefer": "respond-async"})
            assert started.status_code == 202
            url = started.headers["location"]
            until(lambda: server.client.get(url).json()["outcome"] == "completed")
            text = server.client.get(f"{url}/events", headers={"Accept": "text/plain"})
            assert text.text == "small"

    def test_json_lines_are_the_text_where_the_export_is_of_json_lines(self) -> None:
        with exporting(lambda: ['{"a":1}\n'], media_type="application/x-ndjson") as server:
            answer = server.client.get("/x", headers={"Accept": "application/x-ndjson"})
            assert answer.text == '{"a":1}\n'

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "cross-site"}, {"Sec-Purpose": "prefetch"}, {"Origin": "http://evil.example"},
            {"X-Server": "goes"},
        ],
    )  # fmt: skip
    def test_who_may_start_no_run_opens_nothing(self, headers: dict[str, str]) -> None:
        opened: list[int] = []

        def make() -> list[str]:
            opened.append(1)
            return ["a"]

        app, tide = FastAPI(), Tidelog("memory:", drain_timeout=0)
        app.include_router(tide.router)

        @app.get("/x")
        async def x() -> Response:
            return tide.export(make)

        @app.get("/y")
        async def y() -> Response:
            return tide.response(make)

        with serve(app) as server:
            if "X-Server" in headers:
                server.call(tide.runner.drain)
            found, wanted = (server.client.get(path, headers=headers) for path in ("/x", "/y"))
        assert (found.status_code, found.content) == (wanted.status_code, wanted.content)
        assert found.status_code in (403, 503)
        assert not opened

    def test_whom_the_application_refuses_opens_nothing(self) -> None:
        opened: list[int] = []

        def principal(request: Request) -> str:
            raise HTTPException(401)

        app, tide = FastAPI(), Tidelog("memory:", drain_timeout=0, principal=principal)
        app.include_router(tide.router)

        @app.get("/x")
        async def x() -> Response:
            return tide.export(lambda: opened.append(1) or ["a"])  # type: ignore[func-returns-value]

        with serve(app) as server:
            assert server.client.get("/x").status_code == 401
        assert not opened

    def test_a_source_that_does_not_close_holds_nobody(self) -> None:
        go, opened = threading.Event(), list[int]()

        def slow() -> Iterator[str]:
            opened.append(1)
            if len(opened) == 1:
                go.wait(PATIENCE)
            yield "text"

        with exporting(slow, whole_seconds=0.05, close_timeout=0.05) as server:
            viewer = server.watch("/x", accept="*/*")
            assert viewer.text == "text"
            assert "run-id" in viewer.headers
            assert not go.is_set()
            go.set()

    def test_head_opens_nothing(self) -> None:
        opened: list[int] = []
        with exporting(lambda: opened.append(1) or ["x"]) as server:
            assert server.client.head("/x").status_code == 200
            assert opened == []

    def test_what_comes_after_a_place_in_the_text(self) -> None:
        wanted = sized(1_000_000)
        with exporting(lambda: iter(wanted), whole_bytes=1, drop_after=None) as server:
            run = server.client.get("/x").headers["run-id"]
            frames = server.watch(f"/runs/{run}/events", params={"merge": "0"}).rest()
            middle = frames[len(frames) // 2]
            before = "".join(frame.json["text"] for frame in frames[: len(frames) // 2 + 1] if "text" in frame.json)
            rest = server.client.get("/x", headers={"Last-Event-ID": middle.id or ""})
            assert before + rest.text == "".join(wanted)


class TestFailures:
    def test_before_the_first_text_it_is_a_status(self) -> None:
        def broken() -> Iterator[str]:
            raise SourceError("The archive is closed.", code="overloaded")
            yield ""

        with exporting(broken) as server:
            answer = server.client.get("/x")
            assert (answer.status_code, answer.json()["detail"]) == (503, "The archive is closed.")
            assert answer.headers["content-type"] == "application/problem+json"

    def test_the_applications_own_handler_answers(self) -> None:
        def broken() -> Iterator[str]:
            raise ValueError("mine")
            yield ""

        with exporting(broken) as server:
            assert server.client.get("/x").status_code == 418

    @pytest.mark.parametrize("before", [1, 200])
    def test_later_the_body_breaks_off(self, before: int) -> None:
        """Small or large: what is cut never looks complete."""

        def broken() -> Iterator[str]:
            yield from sized(before)
            raise ValueError("too late")

        with exporting(broken, whole_bytes=100, drop_after=0) as server:
            viewer = server.watch("/x", accept="*/*")
            assert viewer.cut()
            assert server.client.get(f"/runs/{viewer.run}").json()["outcome"] == "failed", "and its log stays"

    def test_no_text(self) -> None:
        with exporting(lambda: [{"a": 1}]) as server:
            answer = server.client.get("/x")
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")

    def test_a_source_that_can_be_opened_only_once(self) -> None:
        tide = Tidelog("memory:")
        with pytest.raises(InvalidRequest, match="function"):
            tide.export(iter(["x"]))  # type: ignore[arg-type]


class TestLog:
    def test_dropped_when_it_was_sent(self) -> None:
        with exporting(lambda: sized(1000), whole_bytes=10, drop_after=0.01) as server:
            location = server.client.get("/x").headers["location"]
            until(lambda: server.client.get(location).status_code == 404)

    def test_dropped_though_it_paused_on_the_way(self) -> None:
        """Its request lasts as long as the download: who drops the log must see the end of the body."""
        gate = Gate()

        async def paused() -> AsyncIterator[str]:
            yield "x" * 1000
            await gate.wait()
            yield "y"

        with exporting(paused, whole_bytes=10, drop_after=0.01) as server:
            viewer = server.watch("/x", accept="*/*")
            viewer.more()
            time.sleep(4 * REST)  # other viewers rest now; if they do not yet, all that follows holds as well
            gate.open()
            viewer.rest()
            assert viewer.complete
            until(lambda: server.client.get(f"/runs/{viewer.run}").status_code == 404)

    def test_kept_when_it_was_not(self) -> None:
        gate = Gate()

        async def gated() -> AsyncIterator[str]:
            yield "x" * 1000
            await gate.wait()

        with exporting(gated, whole_bytes=10, drop_after=0.01) as server:
            viewer = server.watch("/x", accept="*/*")
            viewer.more()
            viewer.drop()
            gate.open()
            location = f"/runs/{viewer.run}"
            until(lambda: server.client.get(location).json()["outcome"] == "completed")
            text = server.client.get(f"{location}/events", headers={"Accept": "text/plain"})
            assert text.text == "x" * 1000

    def test_a_viewer_that_stalls_holds_the_source(self) -> None:
        told: list[int] = []

        async def endless() -> AsyncIterator[str]:
            told.clear()
            for _ in range(150):
                told.append(1)
                yield "x" * 100_000
                await asyncio.sleep(0)

        with exporting(endless) as server:
            viewer = freeze(f"{server.url}/x", accept="*/*")
            until(lambda: _stands(told))
            kernel = 8_000_000
            assert len(told) * 100_000 < LOCKSTEP + kernel
            assert len(viewer.text) == 150 * 100_000, "and it goes on as the viewer does"


def _stands(told: list[int]) -> bool:
    before = len(told)
    time.sleep(0.3)
    return before == len(told) > 0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with serve_process("tests.integration.exports:app", cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}) as process:
        yield process


class Peak:
    """The most that a process has in memory while the block lasts."""

    def __init__(self, process: Process) -> None:
        self._process = psutil.Process(process.pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.first = self.most = self._now()

    @property
    def growth(self) -> int:
        return self.most - self.first

    def _now(self) -> int:
        return int(self._process.memory_info().rss)

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self._now())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()


def download(url: str, **params: Any) -> tuple[int, int, str]:
    """Bytes, lines, and the path of the run."""
    size = lines = 0
    with httpx2.stream("GET", url, params=params, timeout=PATIENCE, trust_env=False) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            size += len(piece)
            lines += piece.count(b"\n")
        return size, lines, answer.headers.get("location", "")


@pytest.mark.soak
def test_a_large_export_costs_no_memory(process: Process) -> None:
    """From the first byte until its log is dropped. 2 GB need about 5 GB of disk on their way."""
    size = count(100, 2000) * 1_000_000
    download(f"{process.url}/text.csv", size=20_000_000)
    with Peak(process) as peak:
        found, _, run = download(f"{process.url}/text.csv", size=size)
        assert found == size // len(CHUNK) * len(CHUNK)
        until(lambda: httpx2.get(process.url + run, timeout=PATIENCE, trust_env=False).status_code == 404)
    assert peak.growth < GROWTH
    print(f"{found} bytes, the process grew by {peak.growth}")


@pytest.mark.soak
def test_a_long_query_costs_no_memory(process: Process) -> None:
    many = count(60_000, 1_000_000)
    for _ in range(0, many, 20_000):
        httpx2.post(
            f"{process.url}/rows", params={"count": 20_000}, timeout=PATIENCE, trust_env=False
        ).raise_for_status()
    download(f"{process.url}/rows.csv", whole_bytes=1)
    with Peak(process) as peak:
        size, lines, _ = download(f"{process.url}/rows.csv", whole_bytes=1)
    assert lines == many + 1
    assert peak.growth < GROWTH
    print(f"{many} rows, {size} bytes, the process grew by {peak.growth}")


@pytest.mark.soak
def test_viewers_of_open_runs_hold_no_connection(process: Process) -> None:
    """A pool of five: connections serve requests, however many watch. Each run began with a query."""
    viewers = [watch(f"{process.url}/answer") for _ in range(count(50, 500))]
    try:
        for viewer in viewers:
            viewer.until("text.delta")
        until(lambda: _get(process, "/checked-out") == 0)
        answers = [_timed(lambda: _get(process, "/count")) for _ in range(5)]
        print(f"{len(viewers)} viewers; an ordinary endpoint answers in {min(answers) * 1000:.1f} ms")
        assert _get(process, "/checked-out") == 0
    finally:
        for viewer in viewers:
            viewer.drop()


def test_stalled_downloads_of_rows_give_their_connections_back(process: Process) -> None:
    """More of them than the pool has: then they all go on, and each has every row once."""
    many = 40_000
    httpx2.post(f"{process.url}/rows", params={"count": many}, timeout=PATIENCE, trust_env=False).raise_for_status()
    stalled = [
        freeze(f"{process.url}/rows.csv?whole_bytes=1&hold_limit=0.1", accept="*/*", timeout=PATIENCE)
        for _ in range(count(7, 20))
    ]
    until(lambda: _get(process, "/checked-out") == 0)
    assert _get(process, "/count") == many
    for viewer in stalled:
        found = viewer.text.split("\r\n")
        assert [line.partition(",")[0] for line in found] == ["id", *map(str, range(many)), ""]


def test_rows_without_a_run(process: Process) -> None:
    """In a plain StreamingResponse: viewers that stall or leave hold no connection either."""
    many = 60_000
    httpx2.post(f"{process.url}/rows", params={"count": many}, timeout=PATIENCE, trust_env=False).raise_for_status()
    viewers = [freeze(f"{process.url}/plain.csv", accept="*/*", timeout=PATIENCE) for _ in range(7)]
    until(lambda: _get(process, "/checked-out") == 0)
    for viewer in viewers[1:]:
        viewer.drop()
    assert viewers[0].text.count("\n") == many + 1
    until(lambda: _get(process, "/checked-out") == 0)


def _get(process: Process, path: str) -> Any:
    return httpx2.get(process.url + path, timeout=PATIENCE, trust_env=False).json()


def _timed(call: Callable[[], Any]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began
