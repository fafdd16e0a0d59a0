"""What a client sees of a full server: its place, 429 and when to come back; and that nothing is held when all have gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.server.chat import JSON, NDJSON, Chat, make_tide, types, who
from tests.server.test_metrics import Scrape
from tests.test_cli import until

from tidelog import SourceError
from tidelog.testing import Gate, Script, Server, Viewer, rebuild, serve

ASYNC = {"Prefer": "respond-async"}


def idle(server: Server, tide: Any) -> None:
    """Every run has ended, every viewer has gone, and no slot is held."""
    admission = tide.runner.admission
    until(
        lambda: server.call(lambda: (len(admission.runs), admission.runs.waiting, len(admission.viewers))) == (0, 0, 0)
    )


def problem(viewer: Viewer) -> tuple[int, str]:
    assert viewer.headers["content-type"] == "application/problem+json"
    return viewer.status, viewer.json["code"]


@pytest.fixture
def full() -> Any:
    """A chat whose only slot is taken until its gate opens."""
    gate = Gate()
    chat = Chat(gate, "Hi", tide=make_tide(max_runs=1, heartbeat=0.02))
    with serve(chat.app) as server:
        server.client.get("/chat", headers=ASYNC)
        gate.reached()
        yield chat, gate, server
        gate.open()
        idle(server, chat.tide)


class TestTheQueue:
    @pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
    def test_a_viewer_sees_its_place_at_once_and_then_its_answer(self, full: Any, accept: str) -> None:
        chat, gate, server = full
        viewer = server.watch("/chat", accept=accept)
        assert viewer.status == 200
        started, queued = viewer.read(2)
        assert (started.json["run"], queued.json["state"], queued.json["position"]) == (viewer.run, "queued", 1)
        if accept != NDJSON:
            until(lambda: viewer.parser.comments or not viewer.more())  # heartbeats go on
        state = server.client.get(f"/runs/{viewer.run}").json()
        assert (state["state"], state["position"]) == ("queued", 1)
        assert Scrape(server)("runs", state="queued") == 1
        assert Scrape(server)("longest_silence_seconds") > 0, "that of the one that works"
        assert chat.script.started == 1
        gate.open()
        viewer.rest()
        assert types(viewer.frames) == [
            "run.started",
            "run.state",
            "run.state",
            "text.delta",
            "text.ended",
            "run.ended",
        ]
        assert rebuild(viewer.frames) == "Hi"
        assert server.client.get(f"/runs/{viewer.run}").json()["position"] is None

    def test_it_survives_its_viewer_and_is_resumed_to(self, full: Any) -> None:
        _, gate, server = full
        viewer = server.watch("/chat")
        last = viewer.read(2)[-1].id
        viewer.drop()
        again = server.watch("/chat", last_event_id=last)
        assert again.run == viewer.run
        gate.open()
        assert rebuild(viewer.frames + again.rest()) == "Hi"

    def test_it_is_stopped_at_once(self, full: Any) -> None:
        chat, _, server = full
        viewer = server.watch("/chat")
        viewer.read(2)
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
        assert viewer.rest()[-1].json["outcome"] == "stopped"
        assert chat.script.started == 1

    def test_json_waits_and_async_does_not(self, full: Any) -> None:
        _, gate, server = full
        found = server.client.get("/chat", headers=ASYNC)
        assert found.status_code == 202
        assert server.client.get(f"/runs/{found.json()['run']}").json()["state"] == "queued"
        gate.open()
        assert server.watch("/chat", accept=JSON).json["text"] == "Hi"

    @pytest.mark.parametrize("dialect", ["simple", "sse-text"])
    def test_the_wires_of_the_tutorials_see_heartbeats_only(self, full: Any, dialect: str) -> None:
        _, gate, server = full
        viewer = server.watch("/chat", params={"dialect": dialect})
        until(lambda: viewer.parser.comments or not viewer.more())
        assert not [frame for frame in viewer.frames if frame.data]
        gate.open()
        assert b"Hi" in b"".join(frame.data.encode() for frame in viewer.rest())

    def test_a_failure_behind_the_queue_is_a_real_status_where_none_was_sent(self) -> None:
        gate = Gate()
        tide = make_tide(max_runs=1)
        chat = Chat(gate, SourceError("Busy.", code="rate_limited"), tide=tide)
        with serve(chat.app) as server:
            server.client.get("/chat", headers=ASYNC)
            gate.reached()
            server.call(lambda: server_later(gate))
            assert problem(server.watch("/chat", accept=JSON)) == (429, "rate_limited")
            idle(server, tide)

    def test_who_waits_too_long_is_told_when_to_come_back(self) -> None:
        tide = make_tide(max_runs=1, queue_timeout=0.05)
        chat = Chat("Hi", Gate(), tide=tide)
        with serve(chat.app) as server:
            held = server.client.get("/chat", headers=ASYNC).json()["run"]
            viewer = server.watch("/chat", accept=JSON)
            assert problem(viewer) == (503, "overloaded")
            assert int(viewer.headers["retry-after"]) >= 1
            streamed = server.watch("/chat").rest()[-1].json
            assert (streamed["outcome"], streamed["error"]["code"]) == ("failed", "overloaded")
            assert streamed["error"]["retry_after"] >= 1
            server.client.post(f"/runs/{held}/stop")
            idle(server, tide)

    def test_a_run_that_waits_is_reaped_when_its_process_dies(self, tmp_path: Path) -> None:
        """It has a lease like any run: `interrupted`, by whoever sees the store next."""
        url = f"sqlite:///{tmp_path}/t.db"
        gate = Gate()
        chat = Chat(gate, tide=make_tide(url, max_runs=1))
        with serve(chat.app) as server:
            server.client.get("/chat", headers=ASYNC)
            run = server.client.get("/chat", headers=ASYNC).json()["run"]
        with serve(Chat("x", tide=make_tide(url)).app) as server:
            state = server.client.get(f"/runs/{run}").json()
            assert (state["state"], state["outcome"], state["position"]) == ("ended", "interrupted", None)


async def server_later(gate: Gate) -> None:
    import asyncio

    asyncio.get_running_loop().call_later(0.1, gate.open)


class TestRefusals:
    @pytest.fixture
    def crowded(self) -> Any:
        gate = Gate()
        chat = Chat(gate, "Hi", tide=make_tide(max_runs=1, queue=0))
        with serve(chat.app) as server:
            server.client.get("/chat", headers=ASYNC)
            gate.reached()
            yield chat, server
            gate.open()
            idle(server, chat.tide)

    @pytest.mark.parametrize("accept", [JSON, NDJSON, "text/plain", "*/*"])
    def test_a_problem_with_its_time(self, crowded: Any, accept: str) -> None:
        chat, server = crowded
        viewer = server.watch("/chat", accept=accept)
        assert problem(viewer) == (429, "too_many_runs")
        assert viewer.json["retryable"] is True
        assert 1 <= int(viewer.headers["retry-after"]) <= 60
        assert Scrape(server)("refused_total", reason="max_runs") == 1
        assert chat.script.started == 1

    def test_post_and_async_too(self, crowded: Any) -> None:
        _, server = crowded
        assert problem(server.watch("/chat", json={"q": 1})) == (429, "too_many_runs")
        assert server.client.get("/chat", headers=ASYNC).status_code == 429

    def test_an_event_source_is_told_to_come_back(self, crowded: Any) -> None:
        _, server = crowded
        viewer = server.watch("/chat")
        assert (viewer.status, viewer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        viewer.rest()
        assert viewer.complete
        assert viewer.body.startswith(b"retry: ")
        assert int(viewer.body.split()[1]) >= 2000
        assert "run-id" not in viewer.headers

    def test_a_repeat_and_a_return_are_let_in(self) -> None:
        gate = Gate()
        chat = Chat("Hel", gate, "lo", tide=make_tide(max_runs=1, queue=0))
        with serve(chat.app) as server:
            viewer = server.watch("/chat", params={"key": "k"})
            last = viewer.read(2)[-1].id
            repeat = server.watch("/chat", params={"key": "k"})
            back = server.watch("/chat", last_event_id=last)
            assert {repeat.run, back.run} == {viewer.run}
            assert server.watch("/chat", params={"key": "other"}, accept=JSON).status == 429
            gate.open()
            assert [rebuild(each.rest() and each.frames) for each in (viewer, repeat)] == ["Hello"] * 2
            assert server.watch("/chat", params={"key": "other"}, accept=JSON).json["text"] == "Hello"
            idle(server, chat.tide)

    def test_a_principal_has_its_share_and_others_theirs(self) -> None:
        gate = Gate()
        chat = Chat(gate, "Hi", tide=make_tide(principal=who, max_runs_per_principal=1, queue=2), status_hold=0.01)
        with serve(chat.app) as server:
            first, queued = (server.watch("/chat", headers={"X-User": "ann"}, accept=NDJSON) for _ in range(2))
            assert queued.read(2)[-1].json["state"] == "queued"
            assert problem(server.watch("/chat", headers={"X-User": "ann"}, accept=JSON)) == (429, "too_many_runs")
            bob = server.watch("/chat", headers={"X-User": "bob", **ASYNC}).json["run"]
            assert server.client.get(f"/runs/{bob}", headers={"X-User": "bob"}).json()["state"] == "running"
            gate.open()
            assert [rebuild(each.rest() and each.frames) for each in (first, queued)] == ["Hi"] * 2
            idle(server, chat.tide)

    def test_an_endpoint_has_its_own_limit_whatever_its_path(self) -> None:
        gate, tide, app = Gate(), make_tide(), FastAPI()
        app.include_router(tide.router)

        @app.get("/slow/{name}")
        @tide.stream(max_runs=1)
        async def slow(name: str) -> Any:
            await gate.wait()
            yield name

        @app.get("/response/{name}")
        async def response(name: str) -> Response:
            return tide.response(Script(gate, name), max_runs=1)

        @app.get("/fast")
        @tide.stream
        async def fast() -> Any:
            yield "fast"

        with serve(app) as server:
            for path in ("/slow", "/response"):
                runs = [server.client.get(f"{path}/{name}", headers=ASYNC).json()["run"] for name in ("a", "b")]
                assert [server.client.get(f"/runs/{run}").json()["state"] for run in runs] == ["running", "queued"]
            assert server.watch("/fast", accept=JSON).json["text"] == "fast"
            gate.open()
            idle(server, tide)

    def test_outside_a_request_there_is_no_endpoint(self) -> None:
        tide = make_tide()
        with serve(Chat("Hi", tide=tide).app) as server, pytest.raises(TypeError, match="max_runs"):
            server.call(lambda: tide.start(Script("x"), max_runs=1))
        with pytest.raises(ValueError, match="max_runs"):
            tide.stream(max_runs=0)


class TestViewers:
    @pytest.fixture
    def watched(self) -> Any:
        """One viewer may watch, and does."""
        gate = Gate()
        chat = Chat("Hel", gate, "lo", tide=make_tide(max_viewers=1))
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            viewer.read(2)
            yield chat, server, viewer
            gate.open()
            viewer.close()
            idle(server, chat.tide)

    def test_one_more_is_refused_and_its_run_never_started(self, watched: Any) -> None:
        chat, server, viewer = watched
        assert problem(server.watch("/chat", accept=JSON)) == (429, "too_many_viewers")
        assert problem(server.watch(f"/runs/{viewer.run}/events", accept=NDJSON)) == (429, "too_many_viewers")
        for path in ("/chat", f"/runs/{viewer.run}/events"):
            told = server.watch(path)
            told.rest()
            assert (told.status, told.body[:7]) == (200, b"retry: ")
        assert chat.script.started == 1
        assert Scrape(server)("refused_total", reason="max_viewers") == 4
        assert Scrape(server)("viewers_admitted") == 1

    def test_who_stays_for_nothing_is_no_viewer(self, watched: Any) -> None:
        _, server, viewer = watched
        assert server.client.get("/chat", headers=ASYNC).status_code == 202
        events = f"/runs/{viewer.run}/events"
        assert server.client.get(events, headers={"Accept": JSON}).status_code == 200
        assert server.client.get(f"{events}?wait=5", headers={"Accept": JSON}).status_code == 429
        assert server.client.get(f"/runs/{viewer.run}/transcript").status_code == 200

    def test_a_viewer_of_a_finished_run_counts_while_it_reads(self) -> None:
        tide = make_tide(max_viewers=1, send_timeout=60.0)
        chat = Chat(*["x" * 50_000] * 100, tide=tide)
        with serve(chat.app) as server:
            run = server.client.get("/chat", headers=ASYNC).json()["run"]
            until(lambda: server.client.get(f"/runs/{run}").json()["state"] == "ended")
            slow = server.watch(f"/runs/{run}/events", receive_buffer=4096)
            slow.read(1)
            assert server.watch(f"/runs/{run}/events", accept=NDJSON).status == 429
            slow.drop()
            idle(server, tide)

    @pytest.mark.parametrize("end", ["leaves", "is cut", "is told all", "stalls", "is sent away", "its run is deleted"])
    def test_whatever_ends_a_view_frees_it_once(self, end: str) -> None:
        gate = Gate()
        tide = make_tide(max_viewers=2, send_timeout=0.2)
        chat = Chat("Hel", gate, *["x" * 50_000] * 60, tide=tide)
        with serve(chat.app) as server:
            for _ in range(2):
                viewer = server.watch("/chat", receive_buffer=4096)
                viewer.read(2)
                if end == "leaves":
                    viewer.close()
                elif end == "is cut":
                    viewer.drop()
                elif end == "is told all":
                    gate.open()
                    viewer.rest()
                elif end == "stalls":
                    gate.open()
                elif end == "its run is deleted":
                    server.client.delete(f"/runs/{viewer.run}")
                else:
                    server.call(tide.runner.drain)
                    viewer.rest()
                until(lambda: server.call(lambda: len(tide.runner.admission.viewers)) == 0)
                if end == "is sent away":
                    break
            gate.open()
            idle(server, tide)


def test_ready_stays_true_under_load() -> None:
    """A full server serves its viewers; a balancer that took it out would only move the load."""
    chat = Chat(Gate(), tide=make_tide(max_runs=1, queue=0))
    with serve(chat.app) as server:
        server.client.get("/chat", headers=ASYNC)
        assert server.client.get("/chat", headers=ASYNC).status_code == 429
        assert server.client.get("/readyz").status_code == 200
