"""`WS /runs/{id}/ws` with a real client: the same records, places to resume, verbs, refusals (spec §13)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import HTTPException, Request
from starlette.middleware.cors import CORSMiddleware
from tests.server.chat import NDJSON, Chat, make_tide, who
from tests.server.sockets import PATIENCE, refused, talk
from websockets.exceptions import InvalidStatus

from tidelog import Progress, Source, SourceError, Sources, ToolEnded, ToolInput, ToolStarted, cancel_after
from tidelog.auth import Principal
from tidelog.server.steering import FRAME_BYTES, MOST_ERRORS
from tidelog.testing import Gate, Server, serve

ALL = (
    Progress(task="t", done=1), Sources([Source(id="s1", title="T")]), "one ", "two ", ToolStarted(call="c", name="x"),
    ToolInput(call="c", input={"n": 1}), "three\n", ToolEnded(call="c", output=2), "四 ", "five",
)  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.002)


def viewers(server: Server, chat: Chat, run: str) -> int:
    """How many the run counts."""
    return server.call(lambda: len(chat.tide.runner.live(run).viewers))  # type: ignore[union-attr]


def of_a_start(server: Server, chat: Chat, run: str) -> int:
    """How many the run counts for who started it and waits: its request counts, too, for as long as that is needed."""
    until(lambda: viewers(server, chat, run) == 1)
    return 1


@pytest.fixture(params=[False, True], ids=["tidelog", "uvicorn"])
def whole(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    """A run of all sorts that has ended."""
    with serve(Chat(*ALL).app, bare=request.param) as server:
        viewer = server.watch("/chat")
        viewer.rest()
        yield server, viewer.run


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Server, str]]:
    """A run that does not end."""
    with serve(Chat("a", Gate()).app) as server, server.watch("/chat") as viewer:
        yield server, viewer.run


# The records


@pytest.mark.parametrize("query", [{"merge": "0"}, {"chunk": "whole"}])
def test_the_native_messages_are_the_lines(whole: tuple[Server, str], query: dict[str, str]) -> None:
    server, run = whole
    lines = server.watch(f"/runs/{run}/events", accept=NDJSON, params=query).rest()
    with talk(server, run, **query) as viewer:
        assert viewer.rest() == [line.json for line in lines]
        assert viewer.closed() == (1000, "")
        assert viewer.connection.protocol.extensions == [], "nothing is compressed"


@pytest.mark.parametrize("dialect", ["simple", "sse-text"])
def test_other_dialects_say_what_an_event_source_hears(whole: tuple[Server, str], dialect: str) -> None:
    server, run = whole
    frames = server.watch(f"/runs/{run}/events", params={"dialect": dialect, "merge": "0"}).rest()
    with talk(server, run, dialect=dialect, merge="0") as viewer:
        first, *found = viewer.rest()
    assert first == {"id": f"{run}.1.1"}, "where a dialect has no words for the start, its id comes alone"
    assert [(one.get("event", "message"), one["data"]) for one in found] == [(one.event, one.data) for one in frames]
    assert [one.get("id") for one in found if "id" in one] == list(dict.fromkeys(one.id for one in frames))


def test_bare_text() -> None:
    with serve(Chat("one\r\n", "two", SourceError("no", code="overloaded")).app) as server:
        with server.watch("/chat") as first:
            first.rest()
        with talk(server, first.run, dialect="text", merge="0") as viewer:
            assert [one["data"] for one in viewer.rest()] == ["one\r\n", "two"]
            assert viewer.closed() == (1011, "the run failed"), "text has no words for it"


def test_live() -> None:
    first, second = Gate(), Gate()
    chat = Chat("a", first, "b", second, "c")
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run, merge="0") as viewer:
        assert viewer.until(type="text.delta")["text"] == "a"
        for gate, text in ((first, "b"), (second, "c")):
            gate.open()
            assert viewer.until(type="text.delta")["text"] == text
        assert viewer.rest()[-1]["outcome"] == "completed"


@pytest.mark.parametrize("by", ["after", "last_event_id"])
@pytest.mark.parametrize("dialect", ["native", "simple"])
def test_resume_at_every_cut_equals_the_whole(whole: tuple[Server, str], dialect: str, by: str) -> None:
    server, run = whole
    query = {"dialect": dialect, "merge": "0"}
    with talk(server, run, **query) as viewer:
        uncut = viewer.rest()
    for cut in range(len(uncut) + 1):
        kept = uncut[:cut]
        while kept and "seq" not in kept[-1] and "id" not in kept[-1]:
            kept.pop()  # a record of which only a part was heard comes again
        seq = (kept[-1].get("seq") or int(kept[-1]["id"].rsplit(".", 1)[1])) if kept else 0
        place = {"after": seq} if by == "after" else {"last_event_id": f"{run}.1.{seq}"}
        with talk(server, run, **query, **place) as viewer:
            rest = viewer.rest()
            assert viewer.closed() == (1000, "")
        if dialect != "native" and kept and rest and "data" not in rest[0]:
            rest.pop(0)  # the prelude repeats the id
        assert [*kept, *rest] == uncut


def test_it_counts_as_a_viewer() -> None:
    chat = Chat("a", Gate(), on_leave=cancel_after(0))
    with serve(chat.app) as server:
        found = server.watch("/chat", headers={"Prefer": "respond-async"}).json
        with talk(server, found["run"]) as viewer:
            viewer.until(type="text.delta")
            assert viewers(server, chat, found["run"]) == 1
        chat.script.wait_closed()
        assert server.watch(found["events"]).rest()[-1].json["outcome"] == "stopped"


def test_a_heartbeat_is_a_message() -> None:
    """A page cannot see a ping, and must notice a connection that is dead."""
    chat = Chat("a", Gate(), tide=make_tide(heartbeat=0.02))
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run) as viewer:
        for _ in range(3):
            assert viewer.until(type="heartbeat") == {"type": "heartbeat"}


def test_at_a_pace() -> None:
    gates = Gate(), Gate()
    with serve(Chat("a", gates[0], "b", gates[1], "c").app) as server, server.watch("/chat?merge=0") as start:
        for text, gate in zip("ab", gates, strict=True):
            while start.read(1)[0].json.get("text") != text:
                pass
            time.sleep(0.15)
            gate.open()
        start.rest()
        begun = time.monotonic()  # from here on, for what is late for its reader shortens the way to the next
        with talk(server, start.run, pace="0.5", merge="0") as viewer:
            at = [(viewer.until(type="text.delta")["text"], time.monotonic() - begun) for _ in range(3)]
        assert "".join(text for text, _ in at) == "abc"
        assert at[1][1] >= 0.28
        assert at[2][1] >= 0.56
        for accept in ("text/event-stream", NDJSON, "text/plain"):
            begun = time.monotonic()
            server.watch(f"/runs/{start.run}/events?pace=0.5", accept=accept).rest()
            assert time.monotonic() - begun >= 0.56


# Verbs


def test_hold_go_and_seek() -> None:
    gate, last = Gate(), Gate()
    chat = Chat("a", "b", gate, "c", last)
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run, merge="0") as viewer:
        while viewer.read()[0].get("text") != "b":
            pass
        viewer.say({"type": "hold", "ref": "1"})
        assert viewer.read() == [{"type": "reply", "to": "hold", "ref": "1", "result": "held"}]
        gate.open()
        while start.read(1)[0].json.get("text") != "c":  # the others go on
            pass
        viewer.say({"type": "seek", "seq": 1})
        assert viewer.read() == [{"type": "reply", "to": "seek", "result": "moved", "after": 1}]
        viewer.say({"type": "go"})
        assert viewer.read()[0]["result"] == "going"
        assert [one["text"] for one in viewer.read(3)] == ["a", "b", "c"]
        viewer.say({"type": "seek", "seq": 3}, {"type": "seek", "seq": 0})
        viewer.until(type="reply", after=0)
        assert [one["seq"] for one in viewer.read(4)] == [1, 2, 3, 4]
        last.open()
        assert viewer.rest()[-1]["type"] == "run.ended"


def test_only_under_lockstep_a_run_notices_a_held_view() -> None:
    gate = Gate()
    chat = Chat("x", gate, *["x" * 1000] * 60, lockstep=3000)
    with serve(chat.app) as server:
        run = server.watch("/chat", headers={"Prefer": "respond-async"}).json["run"]
        with talk(server, run, merge="0") as viewer:
            viewer.say({"type": "hold"})
            viewer.until(result="held")
            gate.open()
            shown = len([one for one in viewer.heard if "seq" in one])
            for _ in range(20):
                assert server.client.get(f"/runs/{run}").json()["last_seq"] <= shown + 6
            viewer.say({"type": "go"})
            assert viewer.rest()[-1]["outcome"] == "completed"


def test_a_place_beyond_the_tail_is_an_error_and_no_more() -> None:
    with serve(Chat("a", Gate()).app) as server, server.watch("/chat") as start, talk(server, start.run) as viewer:
        viewer.until(type="text.delta")
        viewer.say({"type": "seek", "seq": 3, "ref": "x"})
        error = viewer.until(type="error")
        assert (error["to"], error["ref"], error["code"]) == ("seek", "x", "cursor_ahead")
        viewer.say({"type": "seek", "seq": 2})
        assert viewer.until(type="reply")["after"] == 2


def test_a_dialect_that_folds_is_folded_anew() -> None:
    chat = Chat(ToolStarted(call="c", name="x"), "a", ToolEnded(call="c", output=1), Gate())
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run, dialect="simple") as viewer:
        end = viewer.until(event="tool_end")
        viewer.say({"type": "seek", "seq": 3})
        viewer.until(type="reply")
        assert viewer.read(3) == [
                {"id": f"{start.run}.1.3"}, viewer.heard[viewer.heard.index(end) - 1], end
            ], "it knows the name of the tool still"  # fmt: skip


def test_stop_is_answered_truthfully() -> None:
    chat = Chat("a", Gate())
    with (
        serve(chat.app) as server, server.watch("/chat") as start,
        talk(server, start.run) as held, talk(server, start.run) as viewer,
    ):  # fmt: skip
        held.say({"type": "hold"})
        held.until(result="held")
        viewer.say({"type": "stop", "ref": "s"})
        said = viewer.rest()  # the answer comes between two frames, before or behind the last one
        assert {"type": "reply", "to": "stop", "ref": "s", "result": "stopped"} in said[-3:]
        assert [one["outcome"] for one in said if one["type"] == "run.ended"] == ["stopped"]
        assert viewer.closed() == (1000, "")
        held.say({"type": "stop"})
        assert held.until(to="stop")["result"] == "already_ended"
        held.say({"type": "go"})
        assert held.rest()[-1]["outcome"] == "stopped"


def test_pause_and_resume_are_of_the_run() -> None:
    gate = Gate()
    chat = Chat("a", gate, "b", Gate())
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run) as viewer:
        viewer.until(type="text.delta")
        for verb, result in (
            ("pause", "paused"),
            ("pause", "already_paused"),
            ("resume", "resumed"),
            ("resume", "not_paused"),
        ):
            viewer.say({"type": verb, "ref": result})
            assert viewer.until(type="reply", ref=result)["result"] == result
        states = [one["state"] for one in viewer.heard if one.get("type") == "run.state"]
        assert states == ["paused", "running"]


def test_who_may_only_read_may_hold_and_no_more() -> None:
    """The hook is asked for each verb of the run; a ticket lets nobody steer."""

    def authorize(principal: str | None, target: Any, verb: str) -> bool:
        return principal == target.owner or (principal == "bob" and verb == "read")

    chat = Chat("a", Gate(), tide=make_tide(principal=who, authorize=authorize))
    with serve(chat.app) as server, server.watch("/chat", headers=ANN) as start:
        ticket = server.client.post("/tickets", headers=ANN, json={"run": start.run}).json()["ticket"]
        for more, code in (({"headers": BOB}, "not_found"), ({"ticket": ticket}, "unauthorized")):
            with talk(server, start.run, **more) as viewer:
                for verb in ("stop", "pause", "resume", "answer"):
                    viewer.say({"type": verb, "question": "q1", "value": "yes"})
                    assert viewer.until(type="error", to=verb)["code"] == code
                viewer.say({"type": "hold"})
                assert viewer.until(type="reply")["result"] == "held"
        assert refused(server, start.run, ticket=ticket)[0] == 401, "it is spent"
        with talk(server, start.run, headers=ANN) as viewer:
            viewer.say({"type": "stop"})
            assert viewer.until(type="reply")["result"] == "stopped"


@pytest.mark.parametrize("held", [False, True])
def test_a_credential_that_expires_ends_the_view(held: bool) -> None:
    def principal(request: Request) -> Principal:
        seconds = request.headers.get("x-seconds")
        return Principal("ann", time.time() + float(seconds) if seconds else None)

    chat = Chat("a", Gate(), tide=make_tide(principal=principal))
    brief = {"X-Seconds": "0.5"}
    with (
        serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run, headers=brief) as viewer
    ):  # fmt: skip
        if held:
            viewer.say({"type": "hold"})
        assert viewer.rest()[-1]["type"] == "reauth"
        assert viewer.closed() == (4401, "reauth")


# Frames without sense

SENSELESS: list[Any] = [
    "", "x", "{", "[]", "null", '"stop"', b"{}", b"\x00\xff", {}, {"type": 1}, {"type": "Stop"}, {"type": ["stop"]},
    {"type": "stop", "ref": 7}, {"type": "stop", "ref": "x" * 65}, {"type": "seek"}, {"type": "seek", "seq": -1},
    {"type": "seek", "seq": True}, {"type": "seek", "seq": 1.5}, {"type": "seek", "seq": "1"}, "[" * 9000, '{"a":' * 3000,
    '{"type":"seek","seq":1e999}', '{"type":"\\ud800"}', '{"type":"hold","ref":"\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("frame", SENSELESS, ids=lambda frame: repr(frame)[:20])
def test_a_frame_without_sense_is_an_error_and_no_more(live: tuple[Server, str], frame: Any) -> None:
    with talk(*live) as viewer:
        viewer.say(frame)
        error = viewer.until(type="error")
        assert error["code"] == "invalid_request"
        viewer.say({"type": "hold"})
        assert viewer.until(type="reply")["result"] == "held"


def test_the_sentence_names_the_verbs(live: tuple[Server, str]) -> None:
    with talk(*live) as viewer:
        viewer.say({"type": "sing"})
        assert "stop, " in viewer.until(type="error")["message"]


def test_too_many_of_them_close(live: tuple[Server, str]) -> None:
    with talk(*live) as viewer:
        viewer.say(*[{"type": "seek", "seq": 99}] * (MOST_ERRORS + 1), *["?"] * MOST_ERRORS)
        assert viewer.closed() == (1008, "too many frames without sense")
        errors = sum(one["type"] == "error" for one in viewer.heard)
        assert errors == 2 * MOST_ERRORS + 1, "what makes sense counts not"


@pytest.mark.parametrize("frame", ["x" * (FRAME_BYTES + 1), b"x" * (FRAME_BYTES + 1), "潮" * (FRAME_BYTES // 2)])
def test_too_large_a_frame_closes(live: tuple[Server, str], frame: Any) -> None:
    with talk(*live) as viewer:
        viewer.say(frame)
        assert viewer.closed() == (1009, f"a frame may hold {FRAME_BYTES} bytes")


def test_an_error_of_ours_closes_and_frees(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from tidelog.server import steering

    async def broken(at: Any, said: Any) -> dict[str, Any]:
        raise ZeroDivisionError

    monkeypatch.setitem(steering.VERBS, "hold", broken)
    chat = Chat("a", Gate())
    with serve(chat.app) as server, server.watch("/chat") as start:
        before = of_a_start(server, chat, start.run)
        with talk(server, start.run) as viewer:
            viewer.say({"type": "hold"})
            assert viewer.closed() == (1011, "internal")
        until(lambda: viewers(server, chat, start.run) == before)
    assert "ZeroDivisionError" in caplog.text


# The end


def test_a_server_that_goes_says_so() -> None:
    chat, gate = Chat("a", gate := Gate()), gate
    with serve(chat.app) as server, server.watch("/chat") as start:
        with talk(server, start.run) as native, talk(server, start.run, dialect="simple") as simple:
            native.until(type="text.delta")
            simple.read(2)
            server.call(chat.tide.runner.drain)
            assert native.rest()[-1]["type"] == "reconnect"
            assert native.closed() == simple.closed() == (1012, "the server goes")
            assert simple.heard[-1].keys() == {"id", "data"}
        gate.open()


@pytest.mark.parametrize("held", [False, True])
def test_a_run_that_is_deleted_meanwhile(held: bool) -> None:
    chat = Chat("a", Gate())
    with serve(chat.app) as server, server.watch("/chat") as start, talk(server, start.run) as viewer:
        viewer.until(type="text.delta")
        if held:
            viewer.say({"type": "hold"})
            viewer.until(type="reply")
        server.call(lambda: chat.tide.runner.store.drop(f"run/{start.run}"))
        if held:
            viewer.say({"type": "stop", "ref": "1"})
            assert viewer.until(ref="1")["code"] == "not_found"
            viewer.say({"type": "go"})
        assert viewer.closed() == (4404, "not_found")


def test_nothing_is_left_behind() -> None:
    """Whoever leaves, in whatever state, frees its tasks and its place."""
    chat = Chat("a", Gate())
    with serve(chat.app) as server, server.watch("/chat") as start:
        before = of_a_start(server, chat, start.run)
        tasks = server.call(lambda: len(asyncio.all_tasks()))
        for frames in ([], [{"type": "hold"}], [{"type": "seek", "seq": 0}] * 20, ["?"] * 5):
            for close in (True, False):
                with talk(server, start.run) as viewer:
                    viewer.until(type="text.delta")
                    viewer.say(*frames)
                    if not close:
                        viewer.connection.socket.shutdown(2)
        until(lambda: viewers(server, chat, start.run) == before)
        until(lambda: server.call(lambda: len(asyncio.all_tasks())) == tasks)


# Refusals, before anything is accepted


ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


def test_somebody_else_finds_nothing() -> None:
    chat = Chat("a", Gate(), tide=make_tide(principal=who))
    with serve(chat.app) as server, server.watch("/chat", headers=ANN) as start:
        before = of_a_start(server, chat, start.run)
        unknown = refused(server, "nosuch", headers=BOB)
        assert unknown[0] == 404
        for query in ({}, {"after": 999}, {"dialect": "nosuch"}):
            assert refused(server, start.run, headers=BOB, **query) == unknown
            assert refused(server, start.run, **query)[0] == 401
        with talk(server, start.run, headers=ANN) as viewer:
            viewer.until(type="text.delta")
            assert viewers(server, chat, start.run) == before + 1


def test_what_makes_no_sense_has_the_status_of_http() -> None:
    chat = Chat("a", Gate())
    with serve(chat.app) as server, server.watch("/chat") as start:
        for query, status, code in (
            ({"dialect": "nosuch"}, 400, "invalid_request"), ({"pace": "0"}, 400, "invalid_request"),
            ({"merge": "x"}, 400, "invalid_request"), ({"after": "x"}, 400, "invalid_cursor"),
            ({"last_event_id": f"{start.run}.0.1"}, 400, "invalid_cursor"), ({"after": 99}, 410, "cursor_ahead"),
            ({"last_event_id": f"{start.run}.2.1"}, 410, "cursor_ahead"), ({"last_event_id": "nosuch.1.1"}, 404, "not_found"),
        ):  # fmt: skip
            found = refused(server, start.run, **query)
            assert (found[0], found[1]["code"]) == (status, code), query
            path = f"/runs/{start.run}/events"
            assert server.watch(path, params={k: str(v) for k, v in query.items()}).status == status, query


def test_there_is_room_for_so_many() -> None:
    tide = make_tide(max_viewers=2)
    with serve(Chat("a", Gate(), tide=tide).app) as server, server.watch("/chat") as start:
        with talk(server, start.run) as viewer:
            viewer.until(type="text.delta")
            assert refused(server, start.run)[1]["code"] == "too_many_viewers"
        until(lambda: server.call(lambda: len(tide.runner.admission.viewers)) == 1)
        with talk(server, start.run) as viewer:
            viewer.until(type="text.delta")


def test_a_run_that_retention_dropped() -> None:
    chat = Chat("a")
    with serve(chat.app) as server:
        with server.watch("/chat") as start:
            start.rest()
        server.call(lambda: chat.tide.runner.store.expire(time.time() + 60))  # type: ignore[attr-defined]
        status, problem = refused(server, start.run)
        assert (status, problem["code"]) == (410, "expired")


def test_another_site() -> None:
    chat = Chat("a", Gate(), tide=make_tide(origins=["https://app.example"]))
    chat.app.add_middleware(CORSMiddleware, allow_origins=["https://cors.example"])
    with serve(chat.app) as server, server.watch("/chat") as start:
        for origin in ("https://evil.example", "null", f"{server.url}0"):
            assert refused(server, start.run, origin=origin)[1]["code"] == "cross_site"
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert refused(server, start.run, headers=foreign, origin=server.url)[0] == 403
        assert refused(server, "nosuch", origin="https://evil.example")[0] == 403, "and learns nothing of runs"
        for origin in (None, server.url, "https://app.example", "https://cors.example"):
            with talk(server, start.run, origin=origin) as viewer:
                viewer.until(type="text.delta")


def test_a_principal_that_refuses() -> None:
    def principal(request: Request) -> str:
        if request.query_params.get("ticket") != "good":
            raise HTTPException(401, "Who are you?")
        assert request.method in ("GET", "POST")
        return "ann"

    chat = Chat("a", Gate(), tide=make_tide(principal=principal))
    with serve(chat.app) as server, server.watch("/chat?ticket=good") as start:
        assert refused(server, start.run) == (401, {"detail": "Who are you?"})
        with talk(server, start.run, ticket="good") as viewer:
            viewer.until(type="text.delta")


def test_a_server_that_cannot_tell_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the 403 of ASGI; what matters is that nothing is accepted."""
    tide = make_tide()
    chat = Chat("a", Gate(), tide=tide)

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        scope.pop("extensions", None) if scope["type"] == "websocket" else None
        await chat.app(scope, receive, send)

    with serve(plain) as server, pytest.raises(InvalidStatus) as error, talk(server, "nosuch"):
        pass
    assert error.value.response.status_code == 403


# Plain HTTP on its path


def test_without_upgrade_it_says_where_the_events_are() -> None:
    with serve(Chat("a", prefix="/api").app) as server:
        with server.watch("/chat") as start:
            start.rest()
        found = server.client.get(f"/api/runs/{start.run}/ws")
        assert (found.status_code, found.headers["upgrade"]) == (426, "websocket")
        assert found.json()["code"] == "upgrade_required"
        assert server.watch(found.json()["events"]).rest()[-1].json["type"] == "run.ended"
        assert server.client.get("/api/runs/nosuch/ws").status_code == 404


def test_a_server_without_websockets_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with serve(Chat("a").app) as server:
        with server.watch("/chat") as start:
            start.rest()
        answer = server.call(lambda: _asked_without(server, start.run))
    assert answer["status"] == 501
    assert "tidelog[websocket]" in answer["detail"]
    assert "tidelog[websocket]" in caplog.text
    assert answer["events"].endswith("/events")


async def _asked_without(server: Server, run: str) -> Any:
    """As a server asks that has no WebSocket library: an ordinary GET, `Upgrade` and all."""
    from tidelog.server.websocket import no_socket

    headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    response = no_socket(Request({"type": "http", "method": "GET", "headers": headers}), f"/runs/{run}")
    return json.loads(bytes(response.body))
