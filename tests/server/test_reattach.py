"""A client that comes back to the URL it started from: it never starts a run (spec §3, §4)."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from tests.server.chat import NDJSON, Chat, make_tide, who

from tidelog.testing import Gate, Script, Server, drop, rebuild, serve

WORDS = ("a", "b", "c", "d")


def refused(server: Server, last_event_id: str, path: str = "/chat", **request: Any) -> tuple[int, str]:
    with server.watch(path, last_event_id=last_event_id, **request) as viewer:
        return viewer.status, viewer.json["code"]


@pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
def test_it_goes_on_where_it_was_cut(bare: bool) -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo")
    with serve(chat.app, bare=bare) as server:
        seen = drop(f"{server.url}/chat", after=2)
        gate.open()
        with server.watch("/chat", last_event_id=seen[-1].id) as viewer:
            rest = viewer.rest()
    assert viewer.status == 200
    assert rest[0].json["seq"] == 3
    assert rebuild(seen + rest) == "Hello"
    assert chat.script.started == 1


def test_by_post_and_by_query() -> None:
    chat = Chat(*WORDS)
    with serve(chat.app) as server:
        frames = server.watch("/chat", json={"q": 1}, params={"merge": "0"}).rest()
        for place in range(len(frames) - 1):
            with server.watch(
                "/chat", json={"q": 1}, params={"merge": "0", "last_event_id": frames[place].id}
            ) as viewer:
                assert viewer.rest() == frames[place + 1 :]
    assert chat.script.started == 1


@pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
def test_a_burst_that_is_not_to_be_merged_is_a_frame_for_each_record(bare: bool) -> None:
    with serve(Chat(*"abcdefghijklmnopqrst").app, bare=bare) as server:
        frames = server.watch("/chat", params={"merge": "0"}).rest()
    assert [frame.json["seq"] for frame in frames] == list(range(1, len(frames) + 1))
    assert not any("from" in frame.json for frame in frames)


def test_the_header_wins() -> None:
    with serve(Chat(*WORDS).app) as server:
        frames = server.watch("/chat", params={"merge": "0"}).rest()
        request: dict[str, Any] = {
            "last_event_id": frames[2].id,
            "params": {"last_event_id": frames[1].id, "merge": "0"},
        }
        with server.watch("/chat", **request) as viewer:
            assert viewer.rest() == frames[3:]


def test_at_the_end_there_is_nothing_left() -> None:
    with serve(Chat(*WORDS).app) as server:
        last = server.watch("/chat").rest()[-1].id
        with server.watch("/chat", last_event_id=last) as sse:
            assert (sse.status, sse.headers["run-state"], bytes(sse.body)) == (204, "ended", b"")
        with server.watch("/chat", accept=NDJSON, last_event_id=last) as lines:
            assert (lines.status, lines.text, lines.headers["run-state"]) == (200, "", "ended")


@pytest.mark.parametrize("foreign", ["17", "abc", "1700000000-0", "a.b", "a.b.c.d"])
def test_a_foreign_id_is_ignored(foreign: str) -> None:
    chat = Chat(*WORDS)
    with serve(chat.app) as server, server.watch("/chat", last_event_id=foreign) as viewer:
        assert rebuild(viewer.rest()) == "abcd"
    assert chat.script.started == 1


@pytest.mark.parametrize("malformed", ["a.b.c", "run.1.x", "run.0.1", "run.-1.1", f"{'x' * 65}.1.1", "..", "run.1.1e3"])
def test_a_malformed_one_is_400(malformed: str) -> None:
    chat = Chat(*WORDS)
    with serve(chat.app) as server:
        assert refused(server, malformed) == (400, "invalid_cursor")
    assert chat.script.started == 0


def test_an_unknown_one_is_404() -> None:
    chat = Chat(*WORDS)
    with serve(chat.app) as server:
        assert refused(server, "nosuchrun.1.1") == (404, "not_found")
    assert chat.script.started == 0


def test_one_beyond_the_tail_is_410() -> None:
    chat = Chat(*WORDS)
    with serve(chat.app) as server:
        run = server.watch("/chat").run
        chat.script.wait_closed()
        assert refused(server, f"{run}.1.999") == (410, "cursor_ahead")
        assert refused(server, f"{run}.2.1") == (410, "cursor_ahead")
    assert chat.script.started == 1


@pytest.mark.parametrize("seq", [0, 1])
def test_its_beginning_is_a_place(seq: int) -> None:
    with serve(Chat(*WORDS).app) as server:
        run = server.watch("/chat").run
        with server.watch("/chat", last_event_id=f"{run}.1.{seq}") as viewer:
            first = viewer.rest()[0].json
            assert first.get("from", first["seq"]) == seq + 1


def test_a_deleted_one_is_404_and_one_that_retention_dropped_410() -> None:
    chat = Chat(*WORDS, tide=make_tide(retention=0.0))
    with serve(chat.app) as server:
        deleted, expired = (server.watch("/chat").rest()[1].id for _ in range(2))
        assert server.client.delete(f"/runs/{deleted.split('.')[0]}").status_code == 204
        assert refused(server, deleted) == (404, "not_found")
        server.call(chat.tide.runner._keeper.expire)
        assert refused(server, expired) == (410, "expired")


def test_another_routes_and_anothers_run_are_404() -> None:
    tide, script = make_tide(principal=who), Script(*WORDS)
    app = FastAPI()
    app.include_router(tide.router)

    @app.get("/chat")
    @app.get("/other")
    async def chat(request: Request) -> Response:
        return tide.response(script, request=request)

    ann, bob = {"X-User": "ann"}, {"X-User": "bob"}
    with serve(app) as server:
        place = server.watch("/chat", headers=ann).rest()[1].id
        assert refused(server, place, "/other", headers=ann) == (404, "not_found")
        assert refused(server, place, headers=bob) == (404, "not_found")
        assert refused(server, place) == (401, "unauthorized")
        with server.watch("/chat", headers=ann, last_event_id=place) as viewer:
            assert viewer.status == 200
    assert script.started == 1


def test_cut_before_the_first_token_it_is_still_one_run() -> None:
    """The answer's headers and first bytes carry the id, whatever the dialect."""
    for dialect in ("native", "simple", "sse-text"):
        gate = Gate()
        chat = Chat(gate, "Hello", status_hold=0.0, dialect=dialect)
        with serve(chat.app) as server:
            with server.watch("/chat") as viewer:
                place = f"{viewer.run}.1.1"
                while f"id: {place}\n".encode() not in viewer.body:
                    assert viewer.more()
                viewer.drop()
            gate.open()
            with server.watch("/chat", last_event_id=place) as again:
                assert any("Hello" in frame.data for frame in again.rest())
        assert chat.script.started == 1


def test_a_dialect_that_folds_resumes_at_every_place() -> None:
    chat = Chat("Hi", {"n": 1}, "there", dialect="simple")
    with serve(chat.app) as server:
        with server.watch("/chat", params={"merge": "0"}) as viewer:
            frames = viewer.rest()
        for place, frame in enumerate(frames[:-1]):
            with server.watch("/chat", params={"merge": "0"}, last_event_id=frame.id) as again:
                assert [(one.event, one.data) for one in again.rest()] == [
                    (o.event, o.data) for o in frames[place + 1 :]
                ]
