"""Servers and viewers of the kit: they do what their names say, also to an application that is not ours."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

import tidelog.testing
from tidelog.testing import Gate, Server, collect, drop, freeze, serve, serve_process, watch

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])


class Plain:
    """An application without tidelog: it echoes, and streams what a test tells it to."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.left = Gate()
        self.lifespan: list[str] = []
        self.threads: set[int] = set()
        self.app = FastAPI(lifespan=self._lifespan)
        self.app.add_api_route("/echo", self.echo, methods=["GET", "POST", "PUT"])
        self.app.add_api_route("/sse", self.sse)
        self.app.add_api_route("/big", self.big)
        self.app.add_api_route("/broken", self.broken)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self.lifespan.append("start")
        yield
        self.lifespan.append("stop")

    async def echo(self, request: Request) -> Response:
        self.threads.add(threading.get_ident())
        return JSONResponse(
            {
                "method": request.method,
                "query": str(request.query_params),
                "body": (await request.body()).decode(),
                "headers": dict(request.headers),
            }
        )

    async def sse(self) -> Response:
        async def frames() -> AsyncIterator[bytes]:
            try:
                yield b"id: 1\ndata: a\n\n: hb\n\ndata: b\n\n"
                await self.gate.wait()
                yield b"data: c\n\n"
            finally:
                self.left.open()

        return StreamingResponse(frames(), media_type="text/event-stream")

    async def big(self) -> Response:
        async def frames() -> AsyncIterator[bytes]:
            for _ in range(10_000):
                yield b"data: " + b"x" * 10_000 + b"\n\n"
            self.gate.open()

        return StreamingResponse(frames(), media_type="text/event-stream")

    async def broken(self) -> Response:
        return Response(b"data: a\n\ndata", headers={"content-length": "99"}, media_type="text/event-stream")


@KINDS
def test_it_serves_on_loopback_and_stops(bare: bool) -> None:
    plain = Plain()
    with serve(plain.app, bare=bare) as server:
        assert server.url.startswith("http://127.0.0.1:")
        answer = server.client.get("/echo", params={"a": "1"})
        assert answer.json()["query"] == "a=1"
        assert plain.lifespan == ["start"]
        assert plain.threads != {threading.get_ident()}
        assert server.call(threading.get_ident) in plain.threads
        assert server.call(lambda: asyncio.sleep(0, "x")) == "x"
    assert plain.lifespan == ["start", "stop"]
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 1.0):
        pass


@pytest.mark.anyio
async def test_as_an_async_context_manager() -> None:
    plain = Plain()
    async with serve(plain.app) as server, server.async_client() as client:
        answers = await asyncio.gather(*(client.get(f"/echo?n={n}") for n in range(5)))
        assert [answer.json()["query"] for answer in answers] == [f"n={n}" for n in range(5)]
    assert plain.lifespan == ["start", "stop"]


def test_an_application_that_does_not_start() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no")
        yield

    with pytest.raises(RuntimeError, match="did not start"), serve(FastAPI(lifespan=lifespan)):
        pass


def test_open_answers_are_cut_at_the_end() -> None:
    plain = Plain()
    with serve(plain.app) as server:
        viewer = server.watch("/sse")
        viewer.read(2)
    assert plain.left.is_open
    assert viewer.closed


@KINDS
class TestViewers:
    def test_a_request(self, bare: bool) -> None:
        with serve(Plain().app, bare=bare) as server:
            sent = watch(
                f"{server.url}/echo?a=1",
                json={"q": "é"},
                headers={"X-A": "b"},
                params={"c": "d e"},
                last_event_id="r.1.2",
            ).json
            assert (sent["method"], sent["query"], sent["body"]) == ("POST", "a=1&c=d+e", '{"q": "\\u00e9"}')
            assert (sent["headers"]["x-a"], sent["headers"]["last-event-id"]) == ("b", "r.1.2")
            assert sent["headers"]["accept"] == "text/event-stream"
            other = watch(f"{server.url}/echo", "PUT", accept=None)
            assert (other.status, other.json["method"]) == (200, "PUT")
            assert "accept" not in other.json["headers"] or other.closed

    def test_frames_as_they_come(self, bare: bool) -> None:
        plain = Plain()
        with serve(plain.app, bare=bare) as server, server.watch("/sse") as viewer:
            assert (viewer.status, viewer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert [(frame.data, frame.id) for frame in viewer.read(2)] == [("a", "1"), ("b", "1")]
            assert viewer.parser.comments == ["hb"]
            assert not viewer.closed
            plain.gate.open()
            assert [frame.data for frame in viewer.rest()] == ["c"]
            assert viewer.complete
            assert viewer.closed
            assert viewer.rest() == []
            assert bytes(viewer.body).endswith(b"data: c\n\n")

    def test_collect(self, bare: bool) -> None:
        plain = Plain()
        plain.gate.open()
        with serve(plain.app, bare=bare) as server:
            assert [frame.data for frame in collect(f"{server.url}/sse")] == ["a", "b", "c"]
            with pytest.raises(ConnectionError, match="404"):
                collect(f"{server.url}/nope")

    def test_drop(self, bare: bool) -> None:
        plain = Plain()
        with serve(plain.app, bare=bare) as server:
            assert [frame.data for frame in drop(f"{server.url}/sse", after=1)] == ["a"]
            plain.left.block()

    def test_freeze_and_thaw(self, bare: bool) -> None:
        plain = Plain()
        with serve(plain.app, bare=bare) as server:
            viewer = freeze(f"{server.url}/big", after=1)
            assert not plain.gate.is_open
            viewer.read(1000)
            assert len(viewer.frames) >= 1001
            assert not plain.gate.is_open, "100 MB do not fit between the two"
            viewer.drop()

    def test_reads_have_a_limit(self, bare: bool) -> None:
        with serve(Plain().app, bare=bare) as server:
            viewer = server.watch("/sse", timeout=0.1)
            with pytest.raises(TimeoutError):
                viewer.rest()
            assert [frame.data for frame in viewer.frames] == ["a", "b"]


def test_a_body_that_breaks_off(caplog: pytest.LogCaptureFixture) -> None:
    with serve(_liar) as server:
        with pytest.raises(ConnectionError, match="broke off after 1"):
            collect(f"{server.url}/")
        viewer = server.watch("/")
        assert viewer.cut()
        assert not viewer.complete


async def _liar(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"text/event-stream"), (b"content-length", b"99")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: a\n\ndata: b", "more_body": True})


def test_lines() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse('{"a":"\u2028"}\n\n{"b":1}\n', media_type="application/x-ndjson")(scope, receive, send)

    wrapped = FastAPI()
    wrapped.mount("/", app)
    with serve(wrapped) as server:
        assert [frame.json for frame in server.watch("/").rest()] == [{"a": "\u2028"}, {"b": 1}]


def test_the_fixture(tide_server: Callable[..., Server]) -> None:
    one, other = tide_server(Plain().app), tide_server(Plain().app, bare=True)
    assert one.url != other.url
    for server in (one, other):
        assert isinstance(server.client, httpx2.Client)
        assert server.client.get("/echo").status_code == 200


def test_until() -> None:
    plain = FastAPI()

    @plain.get("/")
    async def lines() -> Response:
        return PlainTextResponse('{"type":"a"}\n{"type":"b"}\n{"type":"c"}\n', media_type="application/x-ndjson")

    with serve(plain) as server:
        assert [frame.json["type"] for frame in server.watch("/").until("b")] == ["a", "b"]
        with pytest.raises(EOFError):
            server.watch("/").until("nope")


def test_a_process_that_does_not_start() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        serve_process("tests.nosuchmodule:app", kind="uvicorn", cwd=ROOT)


def test_public_names_are_there() -> None:
    for name in tidelog.testing.__all__:
        assert getattr(tidelog.testing, name).__module__.startswith("tidelog.testing.")
    with pytest.raises(AttributeError, match="nope"):
        _ = tidelog.testing.nope
