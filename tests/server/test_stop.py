"""Stopping: from any tab, at any moment, and the answer tells the truth (spec §8, §10)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.server.chat import JSON, Chat, make_tide, types

from tidelog import ToolStarted
from tidelog.testing import Gate, Server, rebuild, serve


def stop(server: Server, run: str) -> Any:
    answer = server.client.post(f"/runs/{run}/stop")
    assert answer.status_code == 200
    return answer.json()["result"]


@pytest.mark.parametrize("steps", [(), ("Hel",), ("Hel", ToolStarted(call="c", name="search"))], ids=str)
def test_in_every_phase(steps: tuple[Any, ...]) -> None:
    """Before the first token, in mid-token, in a tool call: what is open is closed, then the run ends as stopped."""
    chat = Chat(*steps, Gate(), "never", status_hold=0.0)
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        chat.script.wait_started()
        assert stop(server, viewer.run) == "stopped"
        assert chat.script.closed == 1, "the upstream is closed when stop has answered"
        frames = viewer.rest()
    [play] = chat.script.plays
    assert play.opened_in is play.closed_in
    assert viewer.complete
    assert frames[-1].json["outcome"] == "stopped"
    assert frames[-1].json["can"] == ["retry", "continue"]
    assert rebuild(frames) == ("Hel" if steps else "")
    assert types(frames)[-1] == "run.ended"
    opened = [kind for kind in types(frames) if kind in ("text.delta", "tool.started")]
    assert types(frames).count("text.ended") == min(1, len(steps))
    assert types(frames).count("tool.ended") == opened.count("tool.started")


def test_before_the_status_is_known() -> None:
    """A run that is stopped before its first event did not fail."""
    chat = Chat(Gate(), "never", status_hold=60.0)
    with serve(chat.app) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.watch, "/chat")
        chat.script.wait_started()
        [run] = server.client.get("/runs").json()["runs"]
        assert stop(server, run["run"]) == "stopped"
        viewer = answer.result()
        assert viewer.status == 200
        assert types(viewer.rest()) == ["run.started", "run.ended"]


def test_after_the_end() -> None:
    with serve(Chat("Hello").app) as server, server.watch("/chat") as viewer:
        viewer.rest()
        assert [stop(server, viewer.run) for _ in range(2)] == ["already_ended"] * 2
        assert server.client.get(f"/runs/{viewer.run}").json()["outcome"] == "completed"


def test_an_unknown_run() -> None:
    with serve(Chat("Hello").app) as server:
        assert server.client.post("/runs/nosuchrun/stop").status_code == 404


def test_from_several_tabs_at_once() -> None:
    chat = Chat("Hel", Gate())
    with serve(chat.app) as server, ThreadPoolExecutor(8) as pool:
        tabs = [server.watch("/chat", headers={"Idempotency-Key": "k"}) for _ in range(4)]
        results = list(pool.map(lambda _: stop(server, tabs[0].run), range(8)))
        assert {rebuild(tab.rest()) for tab in tabs} == {"Hel"}
        assert {tab.frames[-1].json["outcome"] for tab in tabs} == {"stopped"}
    assert set(results) <= {"stopped", "already_ended"}
    assert "stopped" in results
    assert chat.script.closed == 1


def test_it_touches_no_other_run() -> None:
    gate = Gate()
    with serve(Chat("Hel", gate, "lo", concurrent=True).app) as server:
        old, new = (server.watch("/chat", params={"thread": "t"}) for _ in range(2))
        stop(server, old.run)
        gate.open()
        assert rebuild(new.rest()) == "Hello"


def test_a_run_without_viewers() -> None:
    chat = Chat("Hel", Gate())
    with serve(chat.app) as server:
        with server.watch("/chat") as viewer:
            viewer.read(2)
            viewer.drop()
        assert stop(server, viewer.run) == "stopped"
        assert server.watch(f"/runs/{viewer.run}/transcript", accept=JSON).json["text"] == "Hel"


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_a_source_that_is_never_idle(sync: bool) -> None:
    """It must be stopped between two chunks, since it never waits."""
    chat = Chat(tide=make_tide(), max_run_records=10_000_000)
    closed = Gate()

    def words() -> Any:
        try:
            while True:
                yield "word "
        finally:
            closed.open()

    async def awords() -> Any:
        for word in words():
            yield word

    chat.script = words if sync else awords  # type: ignore[assignment]
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        viewer.read(3)
        assert stop(server, viewer.run) == "stopped"
        for _ in viewer:
            pass
        assert viewer.frames[-1].json["outcome"] == "stopped"
    assert closed.is_open
