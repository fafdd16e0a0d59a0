"""Middleware that looks harmless: streams stream, viewers that leave are noticed, nothing is logged as an error."""

from __future__ import annotations

import logging
import types as coroutines
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.server.chat import JSON, Chat, make_tide, types

from tidelog import SourceError, cancel_after
from tidelog.testing import Gate, Script, drop, freeze, rebuild, serve

BARE = pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])


def under_five(chat: Chat) -> Chat:
    """`@app.middleware("http")`, five times over, and one that reads the body."""

    async def passing(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Passed"] = str(int(response.headers.get("X-Passed", "0")) + 1)
        return response

    async def reading(request: Request, call_next: Any) -> Any:
        await request.body()
        return await call_next(request)

    for _ in range(5):
        chat.app.middleware("http")(passing)
    chat.app.middleware("http")(reading)
    return chat


@BARE
class TestFiveLayers:
    def test_events_come_as_they_are_made(self, bare: bool) -> None:
        gates = [Gate() for _ in range(5)]
        steps = [step for number, gate in enumerate(gates) for step in (f"w{number} ", gate)]
        with serve(under_five(Chat(*steps)).app, bare=bare) as server, server.watch("/chat") as viewer:
            assert viewer.headers["x-passed"] == "5"
            viewer.read(1)
            for number, gate in enumerate(gates):
                assert viewer.read(1)[0].json["text"] == f"w{number} "
                gate.open()
            assert viewer.rest()[-1].json["outcome"] == "completed"
            assert viewer.complete

    def test_bodies_and_json(self, bare: bool) -> None:
        with serve(under_five(Chat("Hi")).app, bare=bare) as server:
            assert server.watch("/chat", json={"q": 1}, accept=JSON).json["text"] == "Hi"

    @pytest.mark.parametrize("phase", ["before the first token", "in mid-token", "behind a blocked reader"])
    def test_a_viewer_that_leaves_is_noticed(self, phase: str, bare: bool, caplog: pytest.LogCaptureFixture) -> None:
        gate = Gate()
        steps: dict[str, list[Any]] = {
            "before the first token": [gate],
            "in mid-token": ["Hel", gate],
            "behind a blocked reader": [*["x" * 100_000] * 100, gate],
        }
        chat = under_five(Chat(*steps[phase], on_leave=cancel_after(0), status_hold=60.0))
        with caplog.at_level(logging.WARNING), serve(chat.app, bare=bare) as server:
            if phase == "before the first token":
                with pytest.raises(TimeoutError):
                    server.watch("/chat", timeout=0.3)
            elif phase == "in mid-token":
                drop(f"{server.url}/chat", after=2)
            else:
                freeze(f"{server.url}/chat", after=1).drop()
            chat.script.wait_closed()
        assert [record.getMessage() for record in caplog.records] == []

    def test_failures_before_the_first_event_and_after_it(self, bare: bool) -> None:
        error = SourceError("Busy.", code="rate_limited")
        with serve(under_five(Chat(error)).app, bare=bare) as server:
            assert server.watch("/chat").status == 429
        with serve(under_five(Chat("Hel", error)).app, bare=bare) as server, server.watch("/chat") as viewer:
            assert viewer.rest()[-1].json["error"]["code"] == "rate_limited"

    def test_stop_and_draining(self, bare: bool) -> None:
        chat = under_five(Chat("Hel", Gate()))
        with serve(chat.app, bare=bare) as server:
            viewer, other = server.watch("/chat"), server.watch("/chat")
            assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
            assert viewer.rest()[-1].json["outcome"] == "stopped"
            server.call(chat.tide.runner.drain)
            assert types(other.rest())[-1] == "reconnect"


def test_text_that_a_failure_cuts_does_not_look_complete() -> None:
    """Not under uvicorn alone: `@app.middleware("http")` ends every body well, and no application can help it."""
    chat = under_five(Chat("Hel", SourceError("x")))
    with serve(chat.app) as server, server.watch("/chat", accept="text/plain") as viewer:
        assert viewer.text == "Hel"
        assert not viewer.complete


@BARE
def test_gzip_leaves_streams_alone_and_may_press_documents(bare: bool) -> None:
    gate = Gate()
    chat = Chat("word " * 500, gate, "end")
    chat.app.add_middleware(GZipMiddleware, minimum_size=100)
    headers = {"Accept-Encoding": "gzip"}
    with serve(chat.app, bare=bare) as server, server.watch("/chat", headers=headers) as viewer:
        assert "content-encoding" not in viewer.headers
        viewer.read(2)
        gate.open()
        assert rebuild(viewer.rest() and viewer.frames).endswith("end")
        document = server.client.get("/chat", headers={"Accept": JSON})
    assert document.headers["content-encoding"] == "gzip"
    assert document.json()["text"].endswith("end")
    assert document.headers["vary"] in ("Accept, Accept-Encoding", "Accept-Encoding, Accept")


@BARE
def test_cors_in_front(bare: bool) -> None:
    chat = Chat("Hel", gate := Gate(), "lo", tide=make_tide())
    chat.app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"])
    with serve(chat.app, bare=bare) as server:
        viewer = server.watch("/chat", headers={"Origin": "https://app.example"})
        viewer.read(2)
        gate.open()
        assert rebuild(viewer.rest() and viewer.frames) == "Hello"
    assert viewer.headers["access-control-allow-origin"] == "https://app.example"
    assert viewer.headers["vary"] in ("Accept, Origin", "Origin, Accept")


@BARE
def test_a_user_of_a_cookie_of_starlettes_sessions(bare: bool) -> None:
    """Who asks is known from a session; streaming does not keep it from being set, and others' runs are not there."""

    def signed_in(request: Request) -> str | None:
        return request.session.get("user")

    chat = Chat("Hel", gate := Gate(), "lo", tide=make_tide(principal=signed_in))

    @chat.app.post("/login/{user}")
    async def login(request: Request, user: str) -> None:
        request.session["user"] = user

    chat.app.add_middleware(SessionMiddleware, secret_key="a key of the tests")
    with serve(chat.app, bare=bare) as server:
        cookies = {}
        for user in ("ann", "bob"):
            cookies[user] = server.client.post(f"/login/{user}").headers["set-cookie"].partition(";")[0]
            server.client.cookies.clear()
        with server.watch("/chat", headers={"Cookie": cookies["ann"]}) as viewer:
            viewer.read(2)
            for user, status in (("ann", 200), ("bob", 404)):
                found = server.client.get(f"/runs/{viewer.run}", headers={"Cookie": cookies[user]})
                assert found.status_code == status, user
            gate.open()
            assert rebuild(viewer.rest() and viewer.frames) == "Hello"


@BARE
@pytest.mark.parametrize("where", ["", "/v1"])
def test_in_an_application_of_starlettes(bare: bool, where: str) -> None:
    """The routes and an endpoint in a Starlette application, or below a path of one; its own lifespan goes on."""
    tide, script, alive = make_tide(), Script("Hel", gate := Gate(), "lo"), []

    async def chat(request: Request) -> Response:
        return tide.response(script)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        alive.append(True)
        yield
        alive.append(False)

    api = FastAPI()
    api.include_router(tide.router)
    app = Starlette(routes=[Route("/chat", chat), Mount(where or "/", api)], lifespan=lifespan)
    with serve(app, bare=bare) as server, server.watch("/chat") as viewer:
        viewer.read(2)
        assert server.client.get(f"{where}/runs/{viewer.run}").json()["state"] == "running"
        gate.open()
        assert rebuild(viewer.rest() and viewer.frames) == "Hello"
    assert alive == [True, False]


@BARE
def test_a_layer_that_changes_the_body_is_not_passed_by(bare: bool) -> None:
    """The quick way to the socket is taken only where the layers change nothing."""

    class Upper:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def changed(message: Any) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": message.get("body", b"").replace(b"word", b"WORD!")}
                await send(message)

            await self.app(scope, receive, changed)

    gates = [Gate() for _ in range(3)]
    chat = Chat(*(step for gate in gates for step in ("word ", gate)))
    chat.app.add_middleware(Upper)
    with serve(chat.app, bare=bare) as server, server.watch("/chat") as viewer:
        for gate in gates:
            gate.open()
        assert rebuild(viewer.rest()) == "WORD! " * 3


class Counting:
    """A layer that counts how often it is resumed: for each of the layers around an answer that costs as much again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.resumed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._count(self.app(scope, receive, send).__await__())

    @coroutines.coroutine
    def _count(self, app: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        waited = app.send(None)
        while True:
            try:
                answer = yield waited
            except BaseException as error:
                waited = app.throw(error)
                continue
            self.resumed += 1
            try:
                waited = app.send(answer)
            except StopIteration:
                return


def test_what_is_told_wakes_none_of_the_layers() -> None:
    """Where only a task can write it is one of its own: the request waits for its end, however many frames are around it."""
    gates = [Gate() for _ in range(20)]
    steps = [step for number, gate in enumerate(gates) for step in (gate, f"w{number} ")]
    layer = Counting(Chat(*steps).app)
    with serve(layer, bare=True) as server, server.watch("/chat") as viewer:
        viewer.read(1)
        before = layer.resumed
        for number, gate in enumerate(gates):
            gate.open()
            assert viewer.read(1)[0].json["text"] == f"w{number} "
        assert layer.resumed - before <= 1
        assert viewer.rest()[-1].json["outcome"] == "completed"
