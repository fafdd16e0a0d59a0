"""A view ends when its credential does, and does not look like a run that has ended."""

from __future__ import annotations

import time
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import HTTPConnection
from tests.server.chat import JSON, NDJSON, Chat, make_tide, types

from tidelog.auth import Principal
from tidelog.server import expiry
from tidelog.server.access import Access
from tidelog.server.expiry import expiring
from tidelog.stores.memory import MemoryStore
from tidelog.testing import Gate, serve

SOON = 2.0
"""A credential that ends soon, and not before a busy machine has shown the first frames."""


def brief(request: Request) -> Principal | None:
    """Whoever the header says, for so many seconds as it says."""
    name, _, seconds = request.headers.get("x-user", "").partition("/")
    return Principal(name, time.time() + float(seconds) if seconds else None)


def ann(seconds: float | None = None) -> dict[str, str]:
    return {"X-User": "ann" if seconds is None else f"ann/{seconds}"}


@pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
def test_it_ends_with_reauth_and_goes_on_with_a_fresh_one(accept: str) -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo", tide=make_tide(principal=brief))
    with serve(chat.app) as server:
        first = server.watch("/chat", headers=ann(SOON), accept=accept)
        frames = first.rest()
        assert types(frames) == ["run.started", "text.delta", "reauth"]
        assert first.complete
        assert frames[-1].id == frames[-2].id, "it carries none of its own"
        assert 1000 <= frames[-1].json["retry"] <= 3000
        path = f"/runs/{first.run}/events"
        assert server.watch(path, headers=ann(0), accept=accept).status == 401
        state = server.client.get(f"/runs/{first.run}", headers=ann()).json()
        assert (state["state"], state["outcome"]) == ("running", None), "to send a viewer away stops nothing"
        gate.open()
        again = server.watch(path, headers=ann(60), accept=accept, params={"after": "2"})
        assert types(again.rest())[-1] == "run.ended"


def test_a_ticket_ends_with_the_credential_that_it_was_given_for() -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(principal=brief))
    with serve(chat.app) as server:
        run = server.watch("/chat", headers=ann()).run
        issued = server.client.post("/tickets", headers=ann(SOON), json={"run": run}).json()
        with server.watch(f"/runs/{run}/events", params={"ticket": issued["ticket"]}) as viewer:
            assert types(viewer.rest())[-1] == "reauth"


@pytest.mark.parametrize("dialect", ["simple", "sse-text"])
def test_other_dialects_have_no_word_for_it_and_no_end(dialect: str) -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(principal=brief), dialect=dialect)
    with serve(chat.app) as server:
        viewer = server.watch("/chat", headers=ann(SOON))
        viewer.rest()
        assert b"Hel" in viewer.body
        assert b"done" not in viewer.body
        assert b"reauth" not in viewer.body


def test_bare_text_is_cut() -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(principal=brief))
    with serve(chat.app) as server:
        assert server.watch("/chat", headers=ann(SOON), accept="text/plain").cut()


def test_a_run_that_ends_first_is_a_run_that_ended() -> None:
    chat = Chat("Hel", "lo", tide=make_tide(principal=brief))
    with serve(chat.app) as server:
        assert types(server.watch("/chat", headers=ann(30)).rest())[-1] == "run.ended"


def test_a_long_poll_waits_no_longer_than_it_may() -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(principal=brief))
    with serve(chat.app) as server:
        viewer = server.watch("/chat", headers=ann())
        viewer.read(2)
        path = f"/runs/{viewer.run}/events?after=2&wait=60"
        for accept in (NDJSON, JSON):
            polled = server.client.get(path, headers={**ann(SOON), "Accept": accept})
            assert (polled.status_code, polled.headers["last-seq"]) == (200, "2")


@pytest.mark.anyio
class TestExpiring:
    async def scope(self, until: float | None) -> Any:
        """That of a WebSocket whose handshake was let in."""
        scope: dict[str, Any] = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}

        async def ready() -> None:
            pass

        access = Access(MemoryStore(), ready, principal=lambda request: Principal("ann", until))
        assert (await access.caller(HTTPConnection(scope))).name == "ann"
        return scope

    async def test_a_clock_that_is_set_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import asyncio

        monkeypatch.setattr(expiry, "LOOK", 0.01)
        over = asyncio.Event()
        with expiring(await self.scope(time.time() + 3600), over.set):
            await asyncio.sleep(0)
            assert not over.is_set()
            later = time.time() + 3601
            monkeypatch.setattr(time, "time", lambda: later)
            await asyncio.wait_for(over.wait(), 5)

    async def test_it_looks_often_enough(self) -> None:
        assert expiry.LOOK < 30

    async def test_one_that_is_over_ends_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        scope = await self.scope(time.time() + 1)
        later = time.time() + 2
        monkeypatch.setattr(time, "time", lambda: later)
        heard: list[int] = []
        with expiring(scope, lambda: heard.append(1)):
            assert heard == [1]

    async def test_without_an_end_there_is_no_timer(self) -> None:
        with expiring(await self.scope(None), lambda: None), expiring({"type": "http"}, lambda: None):
            pass
