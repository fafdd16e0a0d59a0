"""The server's own connection: nothing follows the end of a body, and a client that has gone is noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from tests.parts import PATIENCE, until

from tidelog import Tidelog, cancel_after
from tidelog.testing import serve

ASK = b"GET /go?merge=0 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"


def app_of(*, count: int) -> tuple[Tidelog, FastAPI]:
    tide, app = Tidelog("memory:", drain_timeout=0), FastAPI()
    app.include_router(tide.router)

    @app.get("/go")
    @tide.stream(on_leave=cancel_after(0.05))
    async def go() -> AsyncIterator[str]:
        for n in range(count):
            yield f"w{n} "
            await asyncio.sleep(0.005)

    return tide, app


def connected(url: str) -> socket.socket:
    host, _, port = url.rpartition("/")[2].partition(":")
    made = socket.create_connection((host, int(port)), timeout=PATIENCE)
    made.sendall(ASK)
    return made


def test_a_client_that_leaves_is_noticed_behind_a_request_that_waits() -> None:
    tide, app = app_of(count=100_000)
    with serve(app) as server:
        client = connected(server.url)
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096)
        client.close()
        asyncio.run_coroutine_threadsafe(until(lambda: not len(tide.runner)), server.loop).result(PATIENCE)


def test_nothing_follows_the_end_of_a_body_whoever_ends_it() -> None:
    _, app = app_of(count=100)

    class Cut:
        """A layer that ends each answer by itself, and tells nobody."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            bodies = 0

            async def until_tenth(message: Any) -> None:
                nonlocal bodies
                bodies += message["type"] == "http.response.body"
                if bodies == 2:
                    asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(end()))
                await send(message)

            async def end() -> None:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

            await self.app(scope, receive, until_tenth if scope["type"] == "http" else send)

    app.add_middleware(Cut)
    with serve(app) as server, connected(server.url) as client:
        said = b""
        while b"\r\n0\r\n\r\n" not in said:
            said += client.recv(65536)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            said += client.recv(65536)
        assert said.endswith(b"\r\n0\r\n\r\n")
