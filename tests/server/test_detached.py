"""Viewers that wait under `tidelog serve` need no request: it is over for the application, and nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn.config
from bench.sockets import kernel_bytes
from fastapi import Depends, FastAPI, Request
from opentelemetry.trace import StatusCode
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from tests.parts import PATIENCE
from tests.server.chat import NDJSON, Chat, make_tide, types
from tests.server.stage import Client, Stage, until, waiting
from tests.server.test_tracing import Traced, of

from tidelog import SourceError, Tidelog, cancel_after
from tidelog.log import Record
from tidelog.server import detached
from tidelog.server.serve import WRITE_BUFFER
from tidelog.testing import Gate, rebuild
from tidelog.transports.deliver import SLICE_BYTES
from tidelog.transports.lines import Lines


@pytest.fixture(params=["uvloop", "asyncio"], autouse=True)
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server."""
    pytest.importorskip(request.param)
    factory = f"uvicorn.loops.{request.param}:{request.param}_loop_factory"
    monkeypatch.setitem(uvicorn.config.LOOP_FACTORIES, "auto", factory)


def cors(app: FastAPI) -> None:
    app.add_middleware(CORSMiddleware, allow_origins=["https://app.example"])


def functions(app: FastAPI) -> None:
    async def passing(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    for _ in range(3):
        app.middleware("http")(passing)


def gzip(app: FastAPI) -> None:
    app.add_middleware(GZipMiddleware, minimum_size=1)


@pytest.mark.parametrize("layer", [cors, functions, gzip])
def test_the_request_is_over_while_its_viewer_waits(layer: Callable[[FastAPI], None]) -> None:
    chat, gate = waiting("lo")
    layer(chat.app)
    with Stage(chat) as stage:
        headers = {"Origin": "https://app.example"} if layer is cors else {}
        with stage.server.watch("/chat", headers=headers) as viewer:
            viewer.until("text.delta")
            stage.detached()
            until(lambda: stage.noting.over == 1)

            def tasks() -> list[str]:
                return stage.server.call(lambda: [str(task.get_coro()) for task in asyncio.all_tasks()])

            until(lambda: not [task for task in tasks() if "run_asgi" in task or "Middleware" in task])
            assert len([task for task in tasks() if "Viewing.serve" in task]) == 1
            assert stage.viewers == 1
            gate.open()
            assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"
            assert viewer.complete
        stage.empty()


def test_dependencies_with_yield_are_closed_once_the_viewer_waits() -> None:
    chat, gate = waiting("lo")
    closed = []

    async def opened() -> AsyncIterator[int]:
        yield 1
        closed.append(1)

    @chat.app.get("/deep")
    async def deep(one: int = Depends(opened)) -> Response:
        return chat.tide.response(chat.script)

    with Stage(chat) as stage, stage.server.watch("/deep") as viewer:
        viewer.read(2)
        until(lambda: closed)
        gate.open()
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"


def test_a_layer_that_fails_behind_the_stream_does_not_cut_it(caplog: pytest.LogCaptureFixture) -> None:
    """It did so after the last byte, and now does once the viewer waits: it is logged as ever."""
    chat, gate = waiting("lo")

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    @chat.app.get("/deep")
    async def deep(one: int = Depends(failing)) -> Response:
        return chat.tide.response(chat.script)

    with caplog.at_level(logging.ERROR), Stage(chat) as stage, stage.server.watch("/deep") as viewer:
        viewer.read(2)
        until(lambda: stage.noting.over)
        gate.open()
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"
        assert viewer.complete
    assert [record.getMessage().strip() for record in caplog.records] == ["Exception in ASGI application"]


def test_a_body_that_nobody_reads_and_that_comes_late() -> None:
    chat, gate = waiting("lo")

    @chat.app.post("/deaf")
    async def deaf() -> Response:
        return chat.tide.response(chat.script)

    with Stage(chat) as stage, Client(stage.server) as client:
        client.socket.sendall(
            b"POST /deaf HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Length: 3\r\n\r\n"
        )
        client.expect("/deaf")
        client.until(b'"Hel"')
        client.socket.sendall(b"abc")
        with stage.server.watch("/chat") as other:
            other.read(2)
            until(lambda: stage.noting.over)
            gate.open()
            other.rest()
        assert b"run.ended" in client.rest()
        client.ask("/healthz")
        client.expect("/healthz")
        assert b"ok" in client.rest()


def test_what_a_layer_encodes_keeps_its_request() -> None:
    chat, gate = waiting("lo")
    gzip(chat.app)
    headers = {"Accept-Encoding": "gzip"}
    with Stage(chat) as stage:
        lines = stage.server.client.stream("GET", "/chat", headers={**headers, "Accept": NDJSON})
        with lines as packed, stage.server.watch("/chat") as plain:
            assert packed.headers["content-encoding"] == "gzip"
            plain.read(2)
            stage.detached()
            assert stage.noting.now == ["/chat"]
            gate.open()
            plain.rest()
            assert packed.read().endswith(b"}\n")


def test_short_answers_stay_in_their_request() -> None:
    """No task more, and nothing is taken over: a script that ends at once, and one of a run that has ended."""
    chat = Chat("Hello")
    with Stage(chat) as stage, pytest.MonkeyPatch.context() as patch:
        patch.setattr(detached.Detached, "__init__", None)
        run = stage.server.watch("/chat").rest() and stage.server.client.get("/runs").json()["runs"][0]["run"]
        assert rebuild(stage.server.watch(f"/runs/{run}/events").rest()) == "Hello"


def test_another_request_on_the_connection() -> None:
    """And another one after that, which is a stream again."""
    chat, gate = waiting("lo")
    with Stage(chat) as stage:
        with Client(stage.server) as client:
            for number in range(3):
                stage.rests(client)
                gate.open()
                assert b"run.ended" in client.rest()
                client.ask("/healthz", "*/*")
                client.expect("/healthz", "*/*")
                assert b"ok" in client.rest()
                assert stage.state.total_requests == 2 * (number + 1)
                gate = Gate()
                chat.script.steps = ("Hel", gate, "lo")  # type: ignore[attr-defined]
        stage.empty()


def test_a_request_that_comes_while_the_stream_goes_on() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage, Client(stage.server) as client:
        stage.rests(client)
        client.socket.sendall(b"GET /hea")
        client.socket.sendall(b"lthz HTTP/1.1\r\nHost: x\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: stage.ahead() > 60)
        gate.open()
        assert b"run.ended" in client.rest()
        for path in ("/healthz", "/readyz"):
            client.expect(path)
            assert b"status" in client.rest()


def test_a_request_that_came_before_keeps_the_stream_where_it_was() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage, Client(stage.server) as client:
        client.socket.sendall(b"GET /chat HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\nGET /hea")
        client.expect("/chat")
        client.until(b'"Hel"')
        with stage.server.watch("/chat") as other:
            other.read(2)
            stage.detached(1)  # the other one
            assert stage.noting.now == ["/chat"]
        client.socket.sendall(b"lthz HTTP/1.1\r\nHost: x\r\n\r\n")
        gate.open()
        assert b"run.ended" in client.rest()
        client.expect("/healthz")
        assert b"ok" in client.rest()


def test_what_comes_meanwhile_is_bounded() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage, Client(stage.server) as client:
        stage.rests(client)
        client.socket.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1 << 26:
                sent += client.socket.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert sent < 1 << 26
        assert stage.ahead() < detached.AHEAD + 512 * 1024
        client.socket.settimeout(PATIENCE)
        gate.open()
        assert b"run.ended" in client.rest()
        client.expect("/healthz")
        assert b"ok" in client.rest(), "it is read again"


def test_nonsense_behind_a_stream_is_refused_after_it() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage, Client(stage.server) as client:
        stage.rests(client)
        client.socket.sendall(b"\0nonsense\r\n\r\n")
        gate.open()
        assert b"run.ended" in client.rest()
        assert (client.http.trailing_data[0] or client.socket.recv(4096)).startswith(b"HTTP/1.1 400")


def test_a_connection_that_is_not_to_be_kept_is_closed() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage:
        with stage.server.watch("/chat", headers={"Connection": "close"}) as viewer:
            viewer.read(2)
            stage.detached()
            gate.open()
            viewer.rest()
            assert viewer.complete
            assert viewer.cut, "the server has closed it"
        stage.empty()


def test_an_idle_connection_is_closed_in_time() -> None:
    chat, gate = waiting("lo")
    stage = Stage(chat)
    stage.serving._uvicorn.config.timeout_keep_alive = 1
    with stage, Client(stage.server) as client:
        stage.rests(client)
        gate.open()
        client.rest()
        assert client.socket.recv(1) == b""
        stage.empty()


LEAVING: dict[str, Callable[[Client], None]] = {
    "closed": lambda client: client.socket.close(),
    "half-closed": lambda client: client.socket.shutdown(socket.SHUT_WR),
    "behind a request that waits": lambda client: (client.ask("/healthz"), client.socket.close())[1],
}


@pytest.mark.parametrize("how", LEAVING)
def test_a_client_that_leaves_while_it_waits(how: str) -> None:
    chat, _ = waiting("lo", on_leave=cancel_after(0))
    with Stage(chat) as stage, Client(stage.server) as client:
        stage.rests(client)
        assert stage.viewers == 1
        LEAVING[how](client)
        chat.script.wait_closed()
        stage.empty()


def test_the_process_goes() -> None:
    """All that wait are told to come back, in a body that is complete."""
    chat, _ = waiting()
    with Stage(chat) as stage:
        first = stage.server.watch("/chat")
        viewers = [first, *(stage.server.watch(f"/runs/{first.run}/events") for _ in range(20))]
        for viewer in viewers:
            viewer.read(2)
        stage.detached(len(viewers))
        stage.server.call(chat.tide.runner.drain)
        for viewer in viewers:
            assert types(viewer.rest())[-1] == "reconnect"
            assert viewer.complete
            viewer.close()
        stage.empty()


def test_a_server_that_shuts_down_keeps_no_connection() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage:
        with Client(stage.server) as client:
            stage.rests(client)
            stage.server.call(lambda: [one.shutdown() for one in tuple(stage.state.connections)])
            gate.open()
            assert b"run.ended" in client.rest()
            assert client.socket.recv(1) == b""
        stage.empty()


def test_tasks_that_are_cancelled_give_everything_back() -> None:
    """As uvicorn does with what has not ended in time."""
    chat, _ = waiting()
    with Stage(chat) as stage:
        with stage.server.watch("/chat") as viewer:
            viewer.read(2)
            stage.detached()
            stage.server.call(lambda: [task.cancel() for task in tuple(stage.state.tasks)])
            viewer.rest()
            assert not viewer.complete
        stage.empty()


def test_a_task_that_is_cancelled_before_its_first_step_gives_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = detached.Detached.run

    def cancelled(self: detached.Detached, viewer: Any, context: Any) -> None:
        before = set(self._server.tasks)
        plain(self, viewer, context)
        (task,) = self._server.tasks - before
        task.cancel()

    monkeypatch.setattr(detached.Detached, "run", cancelled)
    traced = Traced()
    chat, _ = waiting(tide=traced.tide(), on_leave=cancel_after(0))
    with Stage(chat) as stage:
        with stage.server.watch("/chat") as viewer:
            viewer.rest()
            assert not viewer.complete
            bell = stage.server.call(lambda: chat.tide.runner.store.changed(f"run/{viewer.run}"))
        stage.empty()
        chat.script.wait_closed()
        until(lambda: traced.named("tidelog.view"))
        assert bell.count == 0
        assert chat.tide.runner.turn._in == 0


def test_an_error_breaks_off_and_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    plain = Lines.verbatim

    def broken(self: Lines, record: Record) -> bytes:
        return plain(self, record) if b'"lo":' not in record.data else b"" + 0  # type: ignore[operator]

    monkeypatch.setattr(Lines, "verbatim", broken)
    chat, gate = waiting({"lo": 1})
    with caplog.at_level(logging.ERROR), Stage(chat) as stage:
        with stage.server.watch("/chat", accept=NDJSON) as viewer:
            viewer.read(2)
            stage.detached()
            gate.open()
            viewer.rest()
            assert not viewer.complete
        stage.empty()
    told = [record for record in caplog.records if record.name == "uvicorn.error"]
    assert [record.getMessage().strip() for record in told] == ["Exception in ASGI application"]
    assert told[0].exc_info is not None
    assert told[0].exc_info[0] is TypeError


def test_text_that_a_failure_cuts_is_cut() -> None:
    chat, gate = waiting(SourceError("x"))
    functions(chat.app)
    with Stage(chat) as stage, stage.server.watch("/chat", accept="text/plain") as viewer:
        assert viewer.more()
        stage.detached()
        gate.open()
        assert viewer.text == "Hel"
        assert not viewer.complete


def test_text_that_a_failure_cuts_may_say_so() -> None:
    chat, gate = waiting(SourceError("x"), error_marker=" [cut]")
    with Stage(chat) as stage, stage.server.watch("/chat", accept="text/plain") as viewer:
        assert viewer.more()
        stage.detached()
        gate.open()
        assert viewer.text == "Hel [cut]"
        assert viewer.complete


def test_heartbeats_go_on() -> None:
    chat, gate = waiting("lo", tide=make_tide(heartbeat=0.2))
    with Stage(chat) as stage, stage.server.watch("/chat") as viewer:
        viewer.read(2)
        stage.detached()
        before = bytes(viewer.body).count(b": hb")
        while bytes(viewer.body).count(b": hb") < before + 3:
            assert viewer.more()
        gate.open()
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"


def test_a_viewer_that_is_behind_has_all_of_it() -> None:
    """The socket is full while the run goes on: the task waits for room, and writes the rest."""
    words = [f"{number} " + "x" * 2000 for number in range(500)]
    chat, gate = waiting(*words)
    with Stage(chat) as stage:
        with stage.server.watch("/chat", receive_buffer=4096) as viewer:
            viewer.read(2)
            stage.detached()
            gate.open()
            chat.script.wait_closed()
            assert rebuild([*viewer.frames, *viewer.rest()]) == "Hel" + "".join(words)
            assert viewer.complete
        stage.empty()


@pytest.mark.parametrize("ends", [False, True])
def test_who_takes_nothing_from_the_first_needs_no_request(ends: bool) -> None:
    """It waits like any other, for room; the run goes on meanwhile, or ends."""
    words, gate = [f"{number} " + "x" * 10_000 for number in range(200)], Gate()
    chat = Chat(*words) if ends else Chat(*words, gate, "lo")
    with Stage(chat) as stage:
        with stage.server.watch("/chat", receive_buffer=4096) as viewer:
            stage.detached()
            until(lambda: stage.noting.over == 1)
            if not ends:
                gate.open()
            chat.script.wait_closed()
            assert stage.buffered() <= WRITE_BUFFER + SLICE_BYTES + 512, "what did not go out is one write at most"
            assert rebuild(viewer.rest()) == "".join(words) + ("" if ends else "lo")
            assert viewer.complete
        stage.empty()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux' memory")
def test_who_takes_nothing_keeps_little_of_the_kernels_memory() -> None:
    chat, gate = waiting(*["x" * 4096] * 500)
    with Stage(chat) as stage, stage.server.watch("/chat") as viewer:
        viewer.read(2)
        stage.detached()
        gate.open()
        chat.script.wait_closed()
        until(stage.buffered)
        assert kernel_bytes(int(stage.server.url.rpartition(":")[2])) <= 40 * 1024, "it was 50 to 56 KiB"
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hel" + "x" * 4096 * 500


def test_a_viewer_that_takes_nothing_is_given_up() -> None:
    chat, gate = waiting(*["x" * 10_000] * 200, tide=make_tide(send_timeout=0.3))
    with Stage(chat) as stage, stage.server.watch("/chat", receive_buffer=4096) as viewer:
        viewer.read(2)
        stage.detached()
        gate.open()
        stage.empty()
        viewer.rest()
        assert not viewer.complete


@pytest.mark.parametrize("how", ["ended", "left", "sent_away", "dropped"])
def test_the_span_of_a_view_goes_on(how: str) -> None:
    traced = Traced()
    chat, gate = waiting("lo", tide=traced.tide())
    with Stage(chat) as stage:
        with stage.server.watch("/chat") as viewer:
            viewer.read(2)
            stage.detached()
            assert traced.named("tidelog.view") == []
            if how == "ended":
                gate.open()
            elif how == "left":
                viewer.drop()
            elif how == "sent_away":
                stage.server.call(chat.tide.runner.drain)
            else:
                run = viewer.run
                stage.server.call(lambda: chat.tide.runner.store.drop(f"run/{run}"))
            if how != "left":
                viewer.rest()
            until(lambda: traced.named("tidelog.view"))
        (view,) = traced.named("tidelog.view")
        assert of(view).get("tidelog.how") == (how if how != "dropped" else None)
        assert view.status.status_code is (StatusCode.ERROR if how == "dropped" else StatusCode.UNSET)
        stage.empty()


def test_viewers_of_a_run_and_of_its_thread() -> None:
    chat, gate = waiting("lo")
    with Stage(chat) as stage:
        with stage.server.watch("/chat") as first:
            first.read(2)
            thread = first.headers["thread-id"]
            paths = [f"/runs/{first.run}/events", f"/runs/{first.run}/events?pace=100", f"/threads/{thread}/events"]
            others = [stage.server.watch(path) for path in paths]
            stage.detached(4)
            assert stage.viewers == 4
            gate.open()
            for viewer in (first, *others[:2]):
                assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"
            others[2].drop()
        stage.empty()


def test_a_store_of_another_process_counts_them(tmp_path: Any) -> None:
    """Whoever watches elsewhere is counted until it leaves there, with a request or without one."""
    store = f"sqlite:///{tmp_path}/logs.db"
    chat, _ = waiting("lo", tide=Tidelog(store, drain_timeout=0), on_leave=cancel_after(0))
    other = Chat("never", tide=Tidelog(store, drain_timeout=0))
    with Stage(chat) as stage, Stage(other) as elsewhere:
        with stage.server.watch("/chat") as first:
            first.read(2)
            there = elsewhere.server.watch(f"/runs/{first.run}/events")
            there.read(2)
            elsewhere.detached()
            live: Any = stage.server.call(lambda: chat.tide.runner._live[first.run])
            until(lambda: any(live._elsewhere.values()))
            first.drop()
            stage.empty()
            assert chat.script.closed == 0
            there.drop()
            chat.script.wait_closed()
        elsewhere.empty()
