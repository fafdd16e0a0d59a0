"""The routes of runs and threads (spec §8)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.server.chat import JSON, NDJSON, Chat, make_tide, types

from tidelog import Progress, Sources, Usage
from tidelog.testing import Gate, collect, rebuild, serve

STATE = {
    "run", "thread", "state", "last_seq", "epoch", "outcome", "error", "usage", "can", "owner_age", "questions",
    "successor", "created", "ended",
}  # fmt: skip


class TestState:
    def test_live_and_ended(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo", Usage(input=2, output=3)).app) as server, server.watch("/chat") as viewer:
            gate.reached()
            live = server.client.get(viewer.headers["location"]).json()
            gate.open()
            viewer.rest()
            ended = server.client.get(viewer.headers["location"]).json()
        assert set(live) >= STATE
        assert (live["run"], live["thread"], live["state"]) == (viewer.run, viewer.headers["thread-id"], "running")
        assert (live["last_seq"], live["epoch"], live["outcome"], live["ended"]) == (2, 1, None, None)
        assert (ended["state"], ended["outcome"], ended["last_seq"]) == ("ended", "completed", 6)
        assert ended["usage"] == {"input": 2, "output": 3, "source": "provider"}
        assert ended["can"] == ["retry"]
        assert ended["created"] <= ended["ended"]

    @pytest.mark.parametrize("path", ["", "/events", "/transcript"])
    def test_an_unknown_one_is_404(self, path: str) -> None:
        with serve(Chat("Hi").app) as server:
            answer = server.client.get(f"/runs/nosuchrun{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

    @pytest.mark.parametrize("path", ["", "/events", "/transcript"])
    def test_one_that_retention_dropped_is_410(self, path: str) -> None:
        chat = Chat("Hi", tide=make_tide(retention=0.0))
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            viewer.rest()
            server.call(chat.tide.runner._keeper.expire)
            answer = server.client.get(f"/runs/{viewer.run}{path}")
        assert (answer.status_code, answer.json()["code"]) == (410, "expired")


class TestEvents:
    def test_as_sse_lines_and_json(self) -> None:
        with serve(Chat("Hi", {"n": 1}).app) as server:
            viewer = server.watch("/chat")
            frames = viewer.rest()
            path = f"/runs/{viewer.run}/events"
            assert server.watch(path).rest() == frames
            lines = server.watch(path, accept=NDJSON)
            assert [frame.data for frame in lines.rest()] == [frame.data for frame in frames]
            document = server.watch(path, accept=JSON)
            assert document.json == [frame.json for frame in frames]
        assert (document.headers["run-state"], document.headers["last-seq"]) == ("ended", "5")
        assert lines.headers["run-state"] == "ended"

    def test_after_and_last_event_id_the_header_wins(self) -> None:
        with serve(Chat("a", "b", "c").app) as server:
            viewer = server.watch("/chat", params={"merge": "0"})
            frames = viewer.rest()
            path = f"/runs/{viewer.run}/events"
            for after in range(1, 6):
                wanted = frames[after:]
                assert server.watch(path, params={"after": str(after), "merge": "0"}).rest() == wanted
                query = {"after": "1", "merge": "0"}
                assert server.watch(path, params=query, last_event_id=frames[after - 1].id).rest() == wanted

    @pytest.mark.parametrize("query", ["after=x", "after=-1", "after=1.5", "wait=x", "wait=61", "wait=nan", "wait=-1"])
    def test_what_makes_no_sense_is_400(self, query: str) -> None:
        with serve(Chat("Hi").app) as server:
            run = server.watch("/chat").run
            assert server.client.get(f"/runs/{run}/events?{query}").status_code == 400

    @pytest.mark.parametrize(
        ("place", "status"),
        [("?after=99", 410), ("{run}.1.99", 410), ("{run}.2.1", 410), ("other.1.1", 404), ("{run}.x.1", 400)],
    )
    def test_cursors_that_lead_nowhere(self, place: str, status: int) -> None:
        with serve(Chat("Hi").app) as server:
            run = server.watch("/chat").run
            query, header = (place, None) if place.startswith("?") else ("", place.format(run=run))
            assert server.watch(f"/runs/{run}/events{query}", last_event_id=header).status == status

    def test_the_end(self) -> None:
        with serve(Chat("Hi").app) as server:
            viewer = server.watch("/chat")
            last = viewer.rest()[-1]
            path = f"/runs/{viewer.run}/events"
            sse = server.watch(path, last_event_id=last.id)
            assert (sse.status, sse.text) == (204, "")
            for accept, body in ((NDJSON, ""), (JSON, "[]")):
                answer = server.watch(path, accept=accept, last_event_id=last.id)
                assert (answer.status, answer.text, answer.headers["run-state"]) == (200, body, "ended")

    def test_dialects_and_granularity(self) -> None:
        with serve(Chat("a ", "b. ", "c").app) as server:
            run = server.watch("/chat").run
            frames = server.watch(f"/runs/{run}/events", params={"dialect": "sse-text", "chunk": "whole"}).rest()
            assert frames[0][:2][::-1] == ("message", "a b. c")
            assert server.watch(f"/runs/{run}/events", params={"dialect": "nope"}).status == 400

    def test_many_viewers_see_the_same(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo").app) as server, ThreadPoolExecutor(8) as pool:
            viewer = server.watch("/chat")
            path = f"{server.url}/runs/{viewer.run}/events"
            found = [pool.submit(collect, path) for _ in range(8)]
            gate.open()
            assert {rebuild(one.result()) for one in found} == {"Hello"}
            assert rebuild(viewer.rest()) == "Hello"


class TestLongPoll:
    def test_what_is_there_comes_at_once(self) -> None:
        gate = Gate()
        with serve(Chat("Hi", gate).app) as server:
            run = server.watch("/chat").run
            for accept in (JSON, NDJSON):
                answer = server.watch(f"/runs/{run}/events", accept=accept, params={"wait": "60"})
                lines = answer.json if accept == JSON else [json.loads(line) for line in answer.text.splitlines()]
                assert [one["type"] for one in lines] == ["run.started", "text.delta"]
                assert (answer.headers["run-state"], answer.headers["last-seq"]) == ("running", "2")

    @pytest.mark.parametrize("accept", [JSON, NDJSON])
    def test_it_waits_for_what_comes(self, accept: str) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo").app) as server, ThreadPoolExecutor(1) as pool:
            run = server.watch("/chat").run
            gate.reached()
            path = f"/runs/{run}/events?wait=60&after=2"
            answer = pool.submit(server.client.get, path, headers={"Accept": accept})
            gate.open()
            assert '"lo"' in answer.result().text

    @pytest.mark.parametrize(("accept", "empty"), [(JSON, "[]"), (NDJSON, "")])
    def test_nothing_came_in_time(self, accept: str, empty: str) -> None:
        with serve(Chat("Hi", Gate()).app) as server:
            run = server.watch("/chat").run
            answer = server.client.get(f"/runs/{run}/events?wait=0.05&after=2", headers={"Accept": accept})
        assert (answer.status_code, answer.text, answer.headers["run-state"]) == (200, empty, "running")
        assert answer.headers["last-seq"] == "2"

    def test_sse_waits_anyway(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo").app) as server:
            viewer = server.watch("/chat")
            other = server.watch(f"/runs/{viewer.run}/events", params={"wait": "0"})
            gate.open()
            assert rebuild(other.rest()) == "Hello"


class TestTranscript:
    STEPS = (Sources(sources=[{"id": "s", "title": "T"}]), Progress(task="read", done=1, total=2), "Hel")

    def test_of_a_live_run_and_of_an_ended_one(self) -> None:
        gate = Gate()
        with serve(Chat(*self.STEPS, gate, "lo").app) as server, server.watch("/chat") as viewer:
            gate.reached()
            live = server.client.get(f"/runs/{viewer.run}/transcript").json()
            gate.open()
            viewer.rest()
            ended = server.client.get(f"/runs/{viewer.run}/transcript").json()
            document = server.watch("/chat", accept=JSON).json
        assert (live["state"], live["text"], live["outcome"]) == ("running", "Hel", None)
        assert (ended["state"], ended["text"], ended["outcome"]) == ("ended", "Hello", "completed")
        assert ended["message"]["parts"] == [{"type": "text", "id": "p1", "done": True, "text": "Hello"}]
        assert ended["progress"]["read"]["done"] == 1
        assert set(document) == set(ended)

    def test_one_that_is_too_large_names_the_events(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tidelog.transcript.MAX_DOCUMENT_BYTES", 1000)
        with serve(Chat("x" * 1000).app) as server:
            document = server.watch("/chat", accept=JSON)
            events = f"{document.headers['location']}/events"
            transcript = server.client.get(f"/runs/{document.run}/transcript")
            again = server.client.post(f"/runs/{document.run}/continue")
            for status, found in (
                (document.status, document.json), (transcript.status_code, transcript.json()),
                (again.status_code, again.json()),
            ):  # fmt: skip
                assert (status, found["code"]) == (413, "too_large")
                assert f"read {events}" in found["detail"]
            with server.watch(events) as viewer:
                assert rebuild(viewer.rest()) == "x" * 1000


class TestLists:
    def test_newest_first_and_limited(self) -> None:
        with serve(Chat("Hi").app) as server:
            runs = [server.watch("/chat").run for _ in range(3)]
            found = [run["run"] for run in server.client.get("/runs").json()["runs"]]
            two = [run["run"] for run in server.client.get("/runs?limit=2").json()["runs"]]
        assert found == runs[::-1]
        assert two == runs[:0:-1]

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "1001"])
    def test_a_limit_that_is_none_is_400(self, limit: str) -> None:
        with serve(Chat("Hi").app) as server:
            assert server.client.get(f"/runs?limit={limit}").status_code == 400

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
    def test_through_a_proxy_there_are_no_lists(self, header: str) -> None:
        """Without a principal, only this machine may list; a request that a proxy passed on is nobody's."""
        with serve(Chat("Hi").app) as server:
            assert server.client.get("/runs", headers={header: "203.0.113.9"}).status_code == 404
            assert server.client.get("/runs").status_code == 200


class TestThreads:
    def test_its_runs_in_order_and_the_active_one(self) -> None:
        gate = Gate()
        chat = Chat("Hel", gate, concurrent=True)
        with serve(chat.app) as server:
            first, second = (server.watch("/chat", params={"thread": "t"}) for _ in range(2))
            gate.reached(2)
            live = server.client.get("/threads/t").json()
            server.client.post(f"/runs/{second.run}/stop")
            one = server.client.get("/threads/t").json()
            gate.open()
            first.rest()
            none = server.client.get("/threads/t").json()
        assert [run["run"] for run in live["runs"]] == [first.run, second.run]
        assert (live["active"], one["active"], none["active"]) == (second.run, first.run, None)

    def test_an_unknown_one_is_404(self) -> None:
        with serve(Chat("Hi").app) as server:
            assert server.client.get("/threads/nope").status_code == 404
            assert server.client.delete("/threads/nope").status_code == 404


class TestDeletion:
    def test_of_an_ended_run(self) -> None:
        with serve(Chat("Hi").app) as server:
            viewer = server.watch("/chat", params={"thread": "t"}, headers={"Idempotency-Key": "k"})
            viewer.rest()
            assert server.client.delete(f"/runs/{viewer.run}").status_code == 204
            for path in ("", "/events", "/transcript"):
                assert server.client.get(f"/runs/{viewer.run}{path}").status_code == 404
            assert server.client.delete(f"/runs/{viewer.run}").status_code == 404
            assert server.client.get("/runs").json()["runs"] == []
            again = server.watch("/chat", params={"thread": "t"}, headers={"Idempotency-Key": "k"})
            assert again.run != viewer.run

    def test_of_a_live_one_stops_it_and_ends_its_viewers(self) -> None:
        gate = Gate()
        chat = Chat("Hel", gate)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            viewer.read(2)
            assert server.client.delete(f"/runs/{viewer.run}").status_code == 204
            chat.script.wait_closed()
            viewer.rest()
            assert viewer.closed

    def test_of_a_thread(self) -> None:
        gate = Gate()
        chat = Chat("Hel", gate, concurrent=True)
        with serve(chat.app) as server:
            runs = [server.watch("/chat", params={"thread": "t"}).run for _ in range(2)]
            assert server.client.delete("/threads/t").status_code == 204
            chat.script.wait_closed(2)
            assert {server.client.get(f"/runs/{run}").status_code for run in runs} == {404}
            assert server.client.get("/threads/t").status_code == 404


class TestHealth:
    def test_ready_turns_false_as_draining_begins(self) -> None:
        chat = Chat("Hi")
        with serve(chat.app) as server:
            assert server.client.get("/healthz").status_code == 200
            assert server.client.get("/readyz").status_code == 200
            server.call(chat.tide.runner.drain)
            assert server.client.get("/healthz").status_code == 200
            assert server.client.get("/readyz").status_code == 503


class TestDraining:
    def test_viewers_are_told_to_come_back_and_the_run_goes_on(self) -> None:
        gate = Gate()
        chat = Chat("Hel", gate, "lo")
        with serve(chat.app) as server:
            native, lines, simple = (
                server.watch("/chat"),
                server.watch("/chat", accept=NDJSON),
                server.watch("/chat", params={"dialect": "simple"}),
            )
            gate.reached(3)
            server.call(chat.tide.runner.drain)
            assert native.rest()[-1].json == {"type": "reconnect", "retry": native.parser.retry}
            assert native.complete
            assert native.parser.last_id == f"{native.run}.1.2"
            assert types(lines.rest())[-1] == "reconnect"
            assert simple.rest()[-1].json == {"type": "content", "data": "Hel"}
            gate.open()
            chat.script.wait_closed(3)
            assert {play.ended_by for play in chat.script.plays} == {None}

    def test_starts_are_refused(self) -> None:
        """EventSource gives up for good on any status but 200: it is told to come back."""
        chat = Chat("Hi")
        with serve(chat.app) as server:
            server.call(chat.tide.runner.drain)
            for accept in (JSON, NDJSON, "text/plain"):
                answer = server.watch("/chat", accept=accept)
                assert (answer.status, answer.json["code"]) == (503, "overloaded")
                assert int(answer.headers["retry-after"]) > 0
            sse = server.watch("/chat")
            assert (sse.status, sse.rest(), sse.complete) == (200, [], True)
            assert sse.parser.retry is not None
        assert chat.script.started == 0
