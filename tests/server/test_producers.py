"""Outside producers: `PUT /runs/{id}`, `POST /runs/{id}/events` (spec §8, §14)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from tests.server.chat import Chat, make_tide, who

from tidelog import Limits, Tidelog
from tidelog.log import feed_log
from tidelog.run import Run
from tidelog.server.producers import MOST_EVENTS
from tidelog.testing import Gate, Server, serve


def text(words: str, part: str = "p1") -> dict[str, Any]:
    return {"type": "text.delta", "part": part, "text": words}


class Client:
    """One producer of one run."""

    def __init__(self, server: Server, run: str = "job", producer: str = "me", **headers: str) -> None:
        self.server, self.path = server, f"/runs/{run}"
        self.headers = {"Producer-Id": producer, **headers}

    def put(self, **headers: str) -> httpx2.Response:
        return self.server.client.put(self.path, headers={**self.headers, **headers})

    def post(self, seq: int, *events: Any, epoch: int = 0, end: str = "") -> httpx2.Response:
        headers = {**self.headers, "Producer-Seq": str(seq), "Producer-Epoch": str(epoch)}
        query = {"end": end} if end else {}
        return self.server.client.post(f"{self.path}/events", headers=headers, params=query, json=list(events))

    def events(self) -> list[dict[str, Any]]:
        """The whole log: waits for its end."""
        return [frame.json for frame in self.server.watch(f"{self.path}/events", params={"merge": "0"}).rest()]

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.client.get(self.path).json()
        return found


def served(tide: Tidelog) -> Any:
    app = FastAPI()
    app.include_router(tide.router)
    return serve(app)


def test_one_that_waits_for_its_slot_outlives_its_server(tmp_path: Path) -> None:
    """It stays reserved for its producer, and whoever takes it over sets it to work. Nobody has seen it end."""
    url, parked = f"sqlite:///{tmp_path}/logs.db?beat=0.05", list[str]()
    first, second = make_tide(url, max_runs=1), make_tide(url, lease_patience=0.2)
    chat = Chat("busy", Gate(), tide=first)

    class Hears:
        def started(self, run: Run) -> None: ...
        def again(self, run: Run) -> None: ...
        def ended(self, run: Run) -> None:
            assert run.id != "job", "it goes on"

        def parked(self, run: Run) -> None:
            parked.append(run.id)

    with served(second) as other:
        with serve(chat.app) as server:
            first.runner.observers.append(Hears())
            server.watch("/chat").read(2)
            one = Client(server)
            assert one.put().json()["state"] == "queued"
            assert one.post(1, text("before ")).status_code == 200
        two = Client(other)
        assert two.post(2, text("and after"), end="completed").status_code == 200
        events = two.events()
        assert [event["text"] for event in events if event["type"] == "text.delta"] == ["before ", "and after"]
        assert [event["state"] for event in events if event["type"] == "run.state"] == ["queued", "running"]
        assert (events[-1]["outcome"], two.state()["epoch"]) == ("completed", 2)
    assert parked == ["job"]


@pytest.fixture
def server() -> Iterator[Server]:
    with served(make_tide()) as found:
        yield found


def test_a_run_from_its_reservation_to_its_end(server: Server) -> None:
    me = Client(server)
    made = me.put()
    assert made.status_code == 201
    assert made.headers["location"] == "/runs/job"
    found = made.json()
    assert (found["run"], found["state"], found["expected"], found["events"]) == (
        "job", "running", 1, "/runs/job/events",
    )  # fmt: skip
    with server.watch("/runs/job/events", params={"merge": "0"}) as viewer:
        viewer.read(1)
        assert me.post(1, text("a"), text("b")).json()["expected"] == 3
        assert [frame.json["text"] for frame in viewer.read(2)] == ["a", "b"], "live"
        last = me.post(3, {"type": "progress", "task": "t", "done": 1, "total": 1}, end="completed")
        assert last.status_code == 200
        viewer.rest()
    log = me.events()
    assert [event["type"] for event in log] == [
        "run.started", "text.delta", "text.delta", "progress", "text.ended", "run.ended",
    ]  # fmt: skip
    assert log[-1]["outcome"] == "completed"
    again = me.put()
    assert (again.status_code, again.json()["state"], again.json()["expected"]) == (200, "ended", 4)
    assert me.post(3, {"type": "progress", "task": "t", "done": 1}, end="completed").json()["outcome"] == "completed"


def test_lines_and_an_end_among_them(server: Server) -> None:
    me = Client(server)
    me.put()
    ended = {"type": "run.ended", "outcome": "failed", "error": {"code": "no_disk", "message": "The disk is full."}}
    lines = "\n".join(map(json.dumps, (text("你好\ud800"), ended))) + "\n"
    headers = {**me.headers, "Producer-Seq": "1", "Content-Type": "application/x-ndjson"}
    assert server.client.post("/runs/job/events", headers=headers, content=lines).status_code == 200
    log = me.events()
    assert log[1]["text"] == "你好\ud800"
    assert (log[-1]["outcome"], log[-1]["error"]) == ("failed", ended["error"])


@pytest.mark.parametrize(("end", "outcome"), [("stopped", "stopped"), ("failed", "failed"), ("completed", "completed")])
def test_every_end(server: Server, end: str, outcome: str) -> None:
    me = Client(server)
    me.put()
    me.post(1, end=end)
    log = me.events()
    assert [event["type"] for event in log] == ["run.started", "run.ended"]
    assert log[-1]["outcome"] == outcome


class TestNumbers:
    def test_a_repeat_adds_nothing(self, server: Server) -> None:
        me = Client(server)
        me.put()
        for _ in range(3):
            answer = me.post(1, text("a"), text("b"))
            assert (answer.status_code, answer.json()["expected"]) == (200, 3)
        assert me.post(2, text("b"), text("c")).json()["expected"] == 4, "what overlaps adds the rest"
        me.post(4, end="completed")
        assert [event.get("text") for event in me.events()] == [None, "a", "b", "c", None, None]

    def test_a_gap_is_409_with_the_number_that_is_missing(self, server: Server) -> None:
        me = Client(server)
        me.put()
        me.post(1, text("a"))
        answer = me.post(3, text("c"))
        assert (answer.status_code, answer.json()["code"], answer.json()["expected"]) == (409, "out_of_turn", 2)
        assert me.post(1, end="completed").json()["code"] == "out_of_turn", "an end before what was taken"
        assert me.post(1, text("a"), end="completed").status_code == 200
        assert [event.get("text") for event in me.events()] == [None, "a", None, None]

    def test_a_later_epoch_fences_the_earlier(self, server: Server) -> None:
        me = Client(server)
        me.put()
        me.post(1, text("a"))
        assert me.post(1, epoch=3).json()["epoch"] == 3, "an empty batch is enough"
        answer = me.post(2, text("b"))
        assert (answer.status_code, answer.json()["code"]) == (409, "fenced")
        assert me.post(1, text("c"), epoch=3).json()["expected"] == 2
        me.post(2, epoch=3, end="completed")
        assert [event.get("text") for event in me.events()] == [None, "a", "c", None, None]

    def test_behind_the_end_nothing_is_taken(self, server: Server) -> None:
        me = Client(server)
        me.put()
        me.post(1, text("a"), end="completed")
        assert me.post(1, text("a"), end="completed").status_code == 200
        for answer in (me.post(2, text("b")), me.post(2, end="failed")):
            assert (answer.status_code, answer.json()["code"]) == (409, "already_ended")
            assert (answer.json()["state"], answer.json()["outcome"]) == ("ended", "completed")
        assert len(me.events()) == 4

    def test_many_at_once_count_once(self, server: Server) -> None:
        me = Client(server)
        with ThreadPoolExecutor(8) as pool:
            made = [each.status_code for each in pool.map(lambda _: me.put(), range(8))]
            assert sorted(made) == [200] * 7 + [201]
            assert {each.status_code for each in pool.map(lambda _: me.post(1, text("a"), text("b")), range(16))} == {
                200
            }
        me.post(3, end="completed")
        assert [event.get("text") for event in me.events()] == [None, "a", "b", None, None]


class TestRefusals:
    @pytest.mark.parametrize(
        ("bad", "index"),
        [
            ([text("a"), {"type": "nosuch"}], 1),
            ([text("a"), {"type": "text.ended", "part": "p9"}], 1),
            ([text("a"), {"type": "text.ended", "part": "p1"}, text("b")], 2),
            ([text("a"), {"type": "text.delta", "text": 3}], 1),
            ([{"type": "run.started", "v": 1, "run": "x", "thread": "t", "message": "m", "attempt": 1}], 0),
            ([{"type": "run.state", "state": "paused"}], 0),
            ([{"type": "run.ended", "outcome": "interrupted"}], 0),
            ([{"type": "run.ended", "outcome": "completed"}, text("b")], 1),
            ([{"type": "run.ended", "outcome": "failed", "error": {"code": "No!", "message": ""}}], 0),
            ([text("a"), 7], 1),
        ],
    )  # fmt: skip
    def test_a_batch_counts_whole_or_not_at_all(self, server: Server, bad: list[Any], index: int) -> None:
        me = Client(server)
        me.put()
        answer = me.post(1, *bad)
        assert (answer.status_code, answer.json()["code"], answer.json()["index"]) == (422, "invalid_batch", index)
        assert me.post(1, text("fine"), end="completed").status_code == 200
        assert [event.get("text") for event in me.events()] == [None, "fine", None, None]

    @pytest.mark.parametrize(
        ("headers", "body", "status"),
        [
            ({}, "[]", 400),
            ({"Producer-Id": "a b"}, "[]", 400),
            ({"Producer-Id": "me", "Producer-Seq": "0"}, "[]", 400),
            ({"Producer-Id": "me", "Producer-Seq": "-1"}, "[]", 400),
            ({"Producer-Id": "me", "Producer-Epoch": "x"}, "[]", 400),
            ({"Producer-Id": "me"}, '[{"type":"usage"}]', 400),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, "[", 400),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, "[" * 100_000, 400),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, "x", 422),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, b"\xff\xfe", 422),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, "x" * 1024 * 1024 + "x", 413),
            ({"Producer-Id": "me", "Producer-Seq": "1"}, '{"type":"usage"}\n' * (MOST_EVENTS + 1), 413),
            ({"Producer-Id": "other", "Producer-Seq": "1"}, "[]", 409),
            ({"Producer-Id": "me"}, "", 200),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense(self, server: Server, headers: dict[str, str], body: Any, status: int) -> None:
        Client(server).put()
        answer = server.client.post("/runs/job/events", headers=headers, content=body)
        assert answer.status_code == status, answer.text

    def test_a_large_event_is_413(self) -> None:
        with served(make_tide(limits=Limits(max_event_bytes=100))) as server:
            me = Client(server)
            me.put()
            assert me.post(1, text("x" * 200)).status_code == 413

    def test_an_id_that_is_none(self, server: Server) -> None:
        assert Client(server, "a.b").put().status_code == 400
        assert Client(server, "x" * 65).put().status_code == 400

    def test_a_run_of_somebody_elses(self) -> None:
        gate = Gate()
        chat = Chat("Hi", gate, tide=make_tide())
        with serve(chat.app) as server:
            run = server.watch("/chat").run
            for answer in (Client(server, run).put(), Client(server, run).post(1, text("x"))):
                assert (answer.status_code, answer.json()["code"]) == (409, "run_taken")
            Client(server).put()
            assert Client(server, producer="other").put().json()["code"] == "run_taken"
            gate.open()

    def test_from_another_site_nothing_is_taken(self, server: Server) -> None:
        Client(server).put()
        foreign = Client(server, **{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
        assert foreign.post(1, text("x")).status_code == 403
        assert foreign.put().status_code == 403

    def test_another_principal_finds_nothing(self) -> None:
        with served(make_tide(principal=who)) as server:
            assert Client(server, **{"X-User": "ann"}).put().status_code == 201
            bob = Client(server, **{"X-User": "bob"})
            assert (bob.put().status_code, bob.post(1, text("x")).status_code) == (404, 404)

    def test_one_that_was_deleted(self, server: Server) -> None:
        me = Client(server)
        me.put()
        me.post(1, text("a"))
        assert server.client.delete("/runs/job").status_code == 204
        assert me.post(2, text("b")).status_code == 404


class TestTogether:
    def test_stopping_reaches_the_producer(self, server: Server) -> None:
        me = Client(server)
        me.put()
        me.post(1, text("a"))
        assert server.client.post("/runs/job/stop").json() == {"result": "stopped"}
        assert me.post(1, text("a")).json()["state"] == "ended", "in every answer"
        answer = me.post(2, text("b"))
        assert (answer.status_code, answer.json()["outcome"]) == (409, "stopped")
        assert me.events()[-1]["outcome"] == "stopped"

    def test_heartbeats_keep_a_silent_run(self) -> None:
        tide = make_tide(limits=Limits(first_event_timeout=1.0, gap_timeout=1.0))
        with served(tide) as server:
            me = Client(server)
            me.put()
            until = time.monotonic() + 3.0
            while time.monotonic() < until:
                assert me.post(1).json()["state"] == "running"
            assert me.post(1, text("a"), end="completed").status_code == 200
            assert me.events()[-1]["outcome"] == "completed"
            assert server.call(lambda: tide.runner.store.tail(feed_log("job"))).last < 30, "not one for each"

    def test_silence_ends_the_run(self) -> None:
        limits = Limits(first_event_timeout=0.4, gap_timeout=0.4)
        with served(make_tide(limits=limits)) as server:
            me = Client(server)
            me.put()
            assert me.events()[-1]["outcome"] == "timed_out"
            assert me.post(1, text("a")).json()["outcome"] == "timed_out"

    def test_a_thread_holds_one_at_a_time(self, server: Server) -> None:
        assert Client(server).put(**{"Thread-Id": "t"}).json()["thread"] == "t"
        answer = Client(server, "two").put(**{"Thread-Id": "t"})
        assert (answer.status_code, answer.json()["run"]) == (409, "job")

    def test_a_run_that_does_not_keep_up(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tidelog.posting.AHEAD_BYTES", 0)
        monkeypatch.setattr("tidelog.posting.ROOM_PATIENCE", 0.05)
        monkeypatch.setattr("tidelog.sources.pushed._taken", lambda feed, data: ())  # its run pulls nothing
        me = Client(server)
        me.put()
        assert me.post(1, text("a")).status_code == 200
        answer = me.post(2, text("b"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert me.post(2).status_code == 200, "a heartbeat needs no room"


def test_nothing_is_left_of_a_deleted_run() -> None:
    tide = make_tide()
    with served(tide) as server:
        me = Client(server)
        me.put()
        me.post(1, text("a"))
        server.client.delete("/runs/job")
        assert server.call(lambda: tide.runner.store.tail(feed_log("job"))) is None
