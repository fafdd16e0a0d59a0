"""Leaving: the run goes on, unless its endpoint says otherwise (spec §10). The garbage collector is off."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.server.chat import JSON, NDJSON, Chat, make_tide

from tidelog import ToolStarted, cancel_after
from tidelog.testing import Gate, Script, drop, freeze, rebuild, serve

AT_ONCE = cancel_after(0)
SOON = 5.0
"""The promise is 1 s; a machine that is busy with other tests gets more."""


@pytest.fixture(autouse=True)
def _no_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def assert_closed_soon(script: Script) -> None:
    left = time.monotonic()
    script.wait_closed()
    assert time.monotonic() - left < SOON
    [play] = script.plays
    assert play.opened_in is play.closed_in, "opened and closed by one task"


@pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
class TestCancelAtOnce:
    @pytest.mark.parametrize(
        "accept", ["text/event-stream", JSON, NDJSON, "text/plain", "application/json, text/event-stream"]
    )
    def test_before_the_first_token(self, accept: str, bare: bool) -> None:
        chat = Chat(Gate(), "never", on_leave=AT_ONCE, status_hold=60.0, auto_hold=60.0)
        with serve(chat.app, bare=bare) as server, ThreadPoolExecutor(1) as pool:
            asking = pool.submit(server.watch, "/chat", accept=accept, timeout=0.3)
            chat.script.wait_started()
            with pytest.raises(TimeoutError):
                asking.result()
            assert_closed_soon(chat.script)
            [run] = server.client.get("/runs").json()["runs"]
            assert server.watch(f"/runs/{run['run']}/events").rest()[-1].json["outcome"] == "stopped"

    @pytest.mark.parametrize("how", ["drop", "close"])
    def test_in_mid_token(self, how: str, bare: bool) -> None:
        chat = Chat("Hel", Gate(), "never", on_leave=AT_ONCE)
        with serve(chat.app, bare=bare) as server:
            viewer = server.watch("/chat")
            viewer.read(2)
            viewer.drop() if how == "drop" else viewer.close()
            assert_closed_soon(chat.script)

    def test_in_a_tool_call(self, bare: bool) -> None:
        chat = Chat("Hel", ToolStarted(call="c", name="slow"), Gate(), on_leave=AT_ONCE)
        with serve(chat.app, bare=bare) as server:
            drop(f"{server.url}/chat", after=2)
            assert_closed_soon(chat.script)

    def test_behind_a_blocked_reader(self, bare: bool) -> None:
        """The viewer takes nothing, so the writer waits for it; then the viewer goes."""
        chat = Chat(*["x" * 100_000] * 100, Gate(), on_leave=AT_ONCE)
        with serve(chat.app, bare=bare) as server:
            viewer = freeze(f"{server.url}/chat", after=1)
            chat.script.wait_started()
            viewer.drop()
            assert_closed_soon(chat.script)


def test_the_last_viewer_counts() -> None:
    chat = Chat("Hel", gate := Gate(), "lo", Gate(), on_leave=AT_ONCE)
    with serve(chat.app) as server:
        first = server.watch("/chat")
        first.read(2)
        second = server.watch(f"/runs/{first.run}/events")
        second.read(2)
        first.drop()
        gate.open()
        assert second.read(1)[0].json["text"] == "lo"
        assert chat.script.closed == 0
        second.drop()
        assert_closed_soon(chat.script)


def test_who_comes_back_in_time_keeps_it() -> None:
    chat = Chat("Hel", gate := Gate(), "lo", on_leave=cancel_after(30))
    with serve(chat.app) as server:
        seen = drop(f"{server.url}/chat", after=2)
        with server.watch("/chat", last_event_id=seen[-1].id) as again:
            gate.open()
            assert rebuild(seen + again.rest()) == "Hello"


def test_a_grace_period_ends() -> None:
    chat = Chat("Hel", Gate(), on_leave=cancel_after(0.1))
    with serve(chat.app) as server:
        seen = drop(f"{server.url}/chat", after=2)
        assert_closed_soon(chat.script)
        run = seen[0].json["run"]
        frames = server.watch(f"/runs/{run}/events").rest()
    assert frames[-1].json["outcome"] == "stopped"


def test_without_it_the_run_goes_on() -> None:
    chat = Chat("Hel", gate := Gate(), "lo", tide=make_tide())
    with serve(chat.app) as server:
        seen = drop(f"{server.url}/chat", after=2)
        gate.open()
        chat.script.wait_closed()
        assert chat.script.plays[0].ended_by is None
        assert rebuild(server.watch(f"/runs/{seen[0].json['run']}/events").rest()) == "Hello"


def test_nobody_ever_watched() -> None:
    """A run that was started in the background has no last viewer that could leave."""
    chat = Chat("Hel", gate := Gate(), "lo", on_leave=AT_ONCE)
    with serve(chat.app) as server:
        found = server.watch("/chat", headers={"Prefer": "respond-async"}).json
        gate.open()
        assert rebuild(server.watch(found["events"]).rest()) == "Hello"


def test_a_bad_value_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="0 seconds or more"):
        cancel_after(-1)
    with pytest.raises(ValueError, match="cancel_after"):
        make_tide().stream(on_leave="stop")  # type: ignore[call-overload]
