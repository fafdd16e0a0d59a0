"""`Idempotency-Key`: one key, one run, whoever asks how often (spec §4)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from starlette.responses import Response
from tests.server.chat import JSON, Chat, make_tide, who

from tidelog.testing import Gate, Script, rebuild, serve

KEY = {"Idempotency-Key": "k1"}


def test_the_same_request_finds_the_same_run() -> None:
    chat = Chat("Hello")
    with serve(chat.app) as server:
        viewers = [server.watch("/chat", json={"q": 1}, headers=KEY) for _ in range(3)]
        assert {rebuild(viewer.rest()) for viewer in viewers} == {"Hello"}
    assert len({viewer.run for viewer in viewers}) == 1
    assert chat.script.started == 1


def test_another_body_or_query_is_409() -> None:
    chat = Chat("Hello")
    with serve(chat.app) as server:
        server.watch("/chat", json={"q": 1}, headers=KEY).rest()
        for other in ({"json": {"q": 2}}, {"json": {"q": 1}, "params": {"x": "1"}}):
            with server.watch("/chat", headers=KEY, **other) as viewer:
                assert (viewer.status, viewer.json["code"]) == (409, "idempotency_mismatch")
    assert chat.script.started == 1


def test_fifty_at_once_start_one_run() -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo")

    def start(_: int) -> tuple[str, str]:
        with server.watch("/chat", json={"q": 1}, headers=KEY) as viewer:
            viewer.read(2)
            gate.open()
            viewer.rest()
            return viewer.run, rebuild(viewer.frames)

    with serve(chat.app) as server, ThreadPoolExecutor(50) as pool:
        found = set(pool.map(start, range(50)))
    assert {text for _, text in found} == {"Hello"}
    assert len(found) == 1
    assert chat.script.started == 1


def test_a_key_in_the_query_counts_on_get_alone() -> None:
    chat = Chat("Hello")
    with serve(chat.app) as server:
        gets = {server.watch("/chat", params={"key": "k"}).run for _ in range(2)}
        posts = {server.watch("/chat", json={}, params={"key": "k"}).run for _ in range(2)}
    assert (len(gets), len(posts)) == (1, 2)


def test_keys_belong_to_a_principal_and_a_route() -> None:
    tide, script = make_tide(principal=who), Script("Hello")
    app = FastAPI()
    app.include_router(tide.router)

    @app.get("/one")
    @app.get("/other")
    async def chat() -> Response:
        return tide.response(script)

    with serve(app) as server:
        runs = {
            server.watch(path, headers={**KEY, "X-User": user}).run
            for path in ("/one", "/other")
            for user in ("a", "b")
        }
    assert len(runs) == 4


def test_every_form_finds_it_and_a_failed_one_fails_again() -> None:
    chat = Chat(ValueError("x"))
    with serve(chat.app) as server:
        for _ in range(2):
            with server.watch("/chat", json={}, headers=KEY, accept=JSON) as viewer:
                assert (viewer.status, viewer.json["code"]) == (500, "internal")
        with server.watch("/chat", json={}, headers=KEY) as viewer:
            assert (viewer.status, viewer.json["code"]) == (500, "internal")
    assert chat.script.started == 1


def test_without_the_body_it_is_refused() -> None:
    """A key that cannot be compared with the body would answer another question."""
    tide, script = make_tide(), Script("Hello")
    app = FastAPI()
    app.include_router(tide.router)

    @app.post("/chat")
    async def chat(body: dict[str, Any]) -> Response:
        return tide.response(script)

    with serve(app) as server, server.watch("/chat", json={"q": 1}, headers=KEY) as viewer:
        assert viewer.status == 400
        assert "request=request" in viewer.json["detail"]
    assert script.started == 0
