"""Pausing a run over HTTP: the verbs tell the truth, every viewer sees it, and nothing is said of the source (spec §8, §10)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.server.chat import JSON, NDJSON, Chat, make_tide, types

from tidelog import Limits, SourceError, cancel_after, current_run
from tidelog.testing import Gate, Server, Viewer, rebuild, serve

DIALECTS = ["native", "simple", "sse-text"]


def ask(server: Server, run: str, verb: str, status: int = 200) -> Any:
    answer = server.client.post(f"/runs/{run}/{verb}")
    assert answer.status_code == status
    return answer.json()["result"]


def state(server: Server, run: str) -> Any:
    return server.client.get(f"/runs/{run}").json()["state"]


def paused(server: Server, chat: Chat, **request: Any) -> Viewer:
    """A viewer of a run that was paused behind its first words, where its script waits at a gate."""
    viewer = server.watch("/chat", **request)
    chat.script.wait_started()
    gate = next(step for step in chat.script.steps if isinstance(step, Gate))
    gate.reached()
    assert ask(server, viewer.run, "pause") == "paused"
    return viewer


def test_the_verbs_and_the_state() -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo", Gate())
    with serve(chat.app) as server:
        viewer = paused(server, chat)
        assert state(server, viewer.run) == "paused"
        assert server.client.get("/runs").json()["runs"][0]["state"] == "paused"
        transcript = server.watch(f"/runs/{viewer.run}/transcript", accept=JSON).json
        assert (transcript["state"], transcript["text"]) == ("paused", "Hel")
        assert ask(server, viewer.run, "pause") == "already_paused"
        gate.open()
        late = server.watch(f"/runs/{viewer.run}/events")
        assert late.until("run.state")[-1].json["state"] == "paused"
        assert ask(server, viewer.run, "resume") == "resumed"
        assert state(server, viewer.run) == "running"
        assert ask(server, viewer.run, "resume") == "not_paused"
        assert late.until("run.state")[-1].json["state"] == "running"
        assert ask(server, viewer.run, "stop") == "stopped"
        assert [ask(server, viewer.run, verb) for verb in ("pause", "resume")] == ["already_ended"] * 2
        frames = viewer.rest()
        late.rest()
    assert [frame.json["state"] for frame in frames if frame.json["type"] == "run.state"] == ["paused", "running"]
    assert "Hello".startswith(rebuild(frames))
    assert rebuild(late.frames) == rebuild(frames)


def test_a_run_that_is_not_there() -> None:
    with serve(Chat("Hello").app) as server:
        for verb in ("pause", "resume"):
            assert server.client.post(f"/runs/nosuchrun/{verb}").status_code == 404


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("when", ["before the first event", "in between"])
def test_every_dialect_goes_on(dialect: str, when: str) -> None:
    """Those of the tutorials have no word for it. Whoever comes back meanwhile has an id, and misses nothing."""
    gate = Gate()
    steps = ("Hel", gate, "lo") if when == "in between" else (gate, "Hel", "lo")
    chat = Chat(*steps, dialect=dialect, status_hold=0.0)
    with serve(chat.app) as server:
        viewer = paused(server, chat, params={"merge": "0"})
        while not viewer.parser.last_id:
            assert viewer.more()
        back = server.watch("/chat", params={"merge": "0"}, last_event_id=viewer.parser.last_id)
        assert back.run == viewer.run
        while not back.parser.last_id:
            assert back.more()
        gate.open()
        assert ask(server, viewer.run, "resume") == "resumed"
        frames, rest = viewer.rest() and viewer.frames, back.rest() and back.frames
    assert chat.script.started == 1
    whole, tail = [(f.event, f.data) for f in frames], [(f.event, f.data) for f in rest]
    assert whole[len(whole) - len(tail) :] == tail
    assert dialect == "native" or not any("paused" in (frame.data or "") for frame in frames)
    words = "".join(frame.data or "" for frame in frames)
    assert "Hel" in words
    assert "lo" in words


def test_bare_text_says_nothing_of_it() -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo")
    with serve(chat.app) as server:
        viewer = paused(server, chat, accept="text/plain")
        gate.open()
        ask(server, viewer.run, "resume")
        viewer.rest()
        assert viewer.body == b"Hello"
        assert viewer.complete


@pytest.mark.parametrize("accept", ["text/event-stream", NDJSON, JSON])
def test_a_pause_is_no_first_event(accept: str) -> None:
    """A run that fails behind it, before its source said anything, still has a real status."""
    gate = Gate()
    chat = Chat(gate, SourceError("Busy.", code="rate_limited"), status_hold=60.0)
    with serve(chat.app) as server:
        answer: list[Viewer] = []
        thread = threading.Thread(target=lambda: answer.append(server.watch("/chat", accept=accept)))
        thread.start()
        gate.reached()
        [run] = server.client.get("/runs").json()["runs"]
        assert ask(server, run["run"], "pause") == "paused"
        assert ask(server, run["run"], "resume") == "resumed"
        gate.open()
        thread.join(10.0)
        assert (answer[0].status, answer[0].json["code"]) == (429, "rate_limited")


def test_heartbeats_go_on() -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo", tide=make_tide(heartbeat=0.02))
    with serve(chat.app) as server:
        viewer = paused(server, chat)
        while viewer.body.count(b": hb") < 3:
            assert viewer.more()
        gate.open()
        ask(server, viewer.run, "resume")
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hello"


def test_who_leaves_a_paused_run_ends_it_where_that_is_wanted() -> None:
    chat = Chat("Hel", Gate(), on_leave=cancel_after(0))
    with serve(chat.app) as server:
        viewer = paused(server, chat)
        viewer.drop()
        chat.script.wait_closed()
        events = server.watch(f"/runs/{viewer.run}/events").rest()
        assert events[-1].json["outcome"] == "stopped"


def test_a_pause_is_limited() -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(limits=Limits(pause_limit=0.05)))
    with serve(chat.app) as server:
        viewer = paused(server, chat)
        ended = viewer.rest()[-1].json
        assert (ended["outcome"], ended["error"]["code"]) == ("timed_out", "timed_out")
        assert "paused" in ended["error"]["message"]


def test_draining_ends_it_at_once() -> None:
    chat = Chat("Hel", Gate(), tide=make_tide(drain_timeout=60.0))
    with serve(chat.app) as server:
        viewer = paused(server, chat)
        begun = time.monotonic()
        server.call(chat.tide.runner.drain)
        chat.script.wait_closed()
        assert time.monotonic() - begun < 5.0
        assert server.client.get(f"/runs/{viewer.run}").json()["outcome"] == "interrupted"


def test_in_python() -> None:
    """A source holds its own run, and whoever started a run holds it."""
    gate = Gate()

    async def answer() -> Any:
        yield "a"
        current_run().pause()
        yield "b"
        gate.open()
        yield "c"

    tide = make_tide()
    chat = Chat(tide=tide)
    with serve(chat.app) as server:
        run: Any = server.call(lambda: tide.start(answer))
        viewer = server.watch(f"/runs/{run.id}/events", params={"merge": "0"})
        assert types(viewer.read(4)) == ["run.started", "text.delta", "run.state", "text.delta"]
        assert run.paused
        assert not gate.is_open
        server.call(run.resume)
        assert rebuild([*viewer.frames, *viewer.rest()]) == "abc"


def test_metrics_tell_how_many() -> None:
    chat = Chat("Hel", Gate())
    with serve(chat.app) as server:
        paused(server, chat)
        text = server.client.get("/metrics").text
    assert 'tidelog_runs{state="paused"} 1.0' in text
    assert 'tidelog_runs{state="running"} 0.0' in text
    assert "tidelog_longest_silence_seconds 0.0" in text
