"""One endpoint, every form: each row of spec §4 over a real server."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.server.chat import JSON, NDJSON, Chat, types

from tidelog import SourceError, Sources, ToolEnded, ToolInput, ToolStarted, Usage
from tidelog.testing import Gate, Server, rebuild, serve

WORDS = ("Hello ", "there. ", "All ", "well?")
TEXT = "".join(WORDS)


def ask(server: Server, accept: str | None = "text/event-stream", **request: Any) -> Any:
    return server.watch("/chat", accept=accept, **request)


class TestForms:
    def test_sse(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server) as viewer:
            frames = viewer.rest()
        assert viewer.status == 200
        assert viewer.complete
        assert viewer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert rebuild(frames) == TEXT
        assert types(frames)[0] == "run.started"
        assert frames[-1].json["outcome"] == "completed"
        assert [frame.id for frame in frames] == [f"{viewer.run}.1.{frame.json['seq']}" for frame in frames]
        assert all(frame.event == "message" for frame in frames)

    def test_ndjson(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server, NDJSON) as viewer:
            frames = viewer.rest()
        assert viewer.headers["content-type"] == NDJSON
        assert rebuild(frames) == TEXT
        assert bytes(viewer.body).endswith(b"}\n")
        assert [json.loads(line)["type"] for line in viewer.body.splitlines()] == types(frames)

    def test_text(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server, "text/plain") as viewer:
            assert viewer.text == TEXT
        assert viewer.complete
        assert viewer.headers["content-type"] == "text/plain; charset=utf-8"

    @pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
    def test_text_that_a_failure_cuts_is_aborted(self, bare: bool, caplog: pytest.LogCaptureFixture) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, ValueError("x")).app, bare=bare) as server, ask(server, "text/plain") as viewer:
            gate.open()
            assert viewer.text == "Hel"
            assert not viewer.complete
        if not bare:
            assert [record.name for record in caplog.records if record.levelname == "ERROR"] == ["tidelog"], (
                "the failure alone"
            )

    def test_text_that_a_failure_cuts_ends_with_the_marker(self) -> None:
        chat = Chat("Hel", ValueError("x"), error_marker="\n[cut]")
        with serve(chat.app) as server, ask(server, "text/plain") as viewer:
            assert viewer.text == "Hel\n[cut]"
            assert viewer.complete

    def test_json(self) -> None:
        source = {"id": "s1", "title": "Guide"}
        steps = (Sources(sources=[source]), "Hi", {"n": 1}, Usage(input=3, output=1))
        with serve(Chat(*steps).app) as server, ask(server, JSON) as viewer:
            found = viewer.json
        assert viewer.status == 200
        assert viewer.headers["content-type"] == JSON
        assert int(viewer.headers["content-length"]) == len(viewer.body)
        assert "transfer-encoding" not in viewer.headers
        assert (found["run"], found["state"], found["outcome"]) == (viewer.run, "ended", "completed")
        assert found["text"] == "Hi"
        assert found["sources"] == [source]
        assert [one["data"] for one in found["data"]] == [{"n": 1}]
        assert found["usage"] == {"input": 3, "output": 1, "source": "provider"}

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (SourceError("Busy.", code="rate_limited", retry_after=7), 429, "rate_limited"),
            (SourceError("Down."), 502, "provider_error"),
            (RuntimeError("secret words"), 500, "internal"),
        ],
    )
    def test_json_tells_a_failure_by_its_status(self, error: Exception, status: int, code: str) -> None:
        with serve(Chat("Hel", error).app) as server, ask(server, JSON) as viewer:
            found = viewer.json
        assert (viewer.status, found["error"]["code"], found["text"]) == (status, code, "Hel")
        assert found["outcome"] == "failed"
        assert b"secret words" not in viewer.body

    def test_json_tells_a_timeout(self) -> None:
        with serve(Chat("Hel", Gate(), gap_timeout=0.05).app) as server, ask(server, JSON) as viewer:
            assert viewer.json["outcome"] == "timed_out"
        assert viewer.status == 504

    def test_json_of_a_stopped_run_is_200(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate).app) as server, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.client.get, "/chat", headers={"Accept": JSON, "Thread-Id": "t"})
            gate.reached()
            with server.watch("/threads/t", accept=JSON) as thread:
                run = thread.json["active"]
            assert server.watch(f"/runs/{run}/stop", "POST", accept=JSON).json == {"result": "stopped"}
            found = answer.result().json()
        assert (answer.result().status_code, found["outcome"], found["text"]) == (200, "stopped", "Hel")

    def test_async(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo").app) as server:
            with ask(server, headers={"Prefer": "respond-async"}) as viewer:
                found = viewer.json
            assert viewer.status == 202
            assert viewer.headers["location"] == f"/runs/{found['run']}"
            assert found["thread"] == viewer.headers["thread-id"]
            gate.open()
            with server.watch(found["events"]) as later:
                assert rebuild(later.rest()) == "Hello"


class TestDefault:
    @pytest.mark.parametrize("accept", [None, "*/*", "text/html, */*;q=0.8"])
    @pytest.mark.parametrize(
        ("default", "kind"),
        [
            ("sse", "text/event-stream; charset=utf-8"),
            ("text", "text/plain; charset=utf-8"),
            ("json", JSON),
            ("auto", JSON),
        ],
    )
    def test_it_answers_who_names_no_form(self, default: str, kind: str, accept: str | None) -> None:
        with serve(Chat(*WORDS, default=default).app) as server, ask(server, accept) as viewer:
            assert viewer.headers["content-type"] == kind
            viewer.rest()

    @pytest.mark.parametrize(
        ("accept", "kind"), [("text/event-stream", "text/event-stream"), (NDJSON, NDJSON), (JSON, JSON)]
    )
    def test_the_request_wins(self, accept: str, kind: str) -> None:
        with serve(Chat(*WORDS, default="text").app) as server, ask(server, accept) as viewer:
            assert viewer.headers["content-type"].startswith(kind)
            viewer.rest()

    def test_a_form_with_q_0_is_not_asked_for(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server, "application/json, text/event-stream;q=0") as viewer:
            assert viewer.headers["content-type"] == JSON


class TestAsync:
    """An endpoint whose work nobody waits for."""

    @pytest.mark.parametrize("accept", [None, "*/*", JSON, "application/json, text/plain, */*"])
    def test_it_answers_202_before_the_work_begins(self, accept: str | None) -> None:
        gate = Gate()
        with serve(Chat(gate, "Hello", default="async").app) as server:
            with ask(server, accept) as viewer:
                found = viewer.json
            assert viewer.status == 202
            assert viewer.headers["location"] == f"/runs/{found['run']}"
            gate.open()
            with server.watch(found["events"]) as later:
                assert rebuild(later.rest()) == "Hello"

    @pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
    def test_who_asks_for_a_stream_gets_it(self, accept: str) -> None:
        with serve(Chat(*WORDS, default="async").app) as server, ask(server, accept) as viewer:
            assert viewer.status == 200
            assert rebuild(viewer.rest()) == TEXT

    def test_a_failure_is_told_by_the_run(self) -> None:
        with serve(Chat(SourceError("Down."), default="async").app) as server:
            with ask(server, None) as viewer:
                found = viewer.json
            assert viewer.status == 202
            with server.watch(found["events"]) as later:
                assert later.rest()[-1].json["error"]["message"] == "Down."


class TestAuto:
    BOTH = "application/json, text/event-stream"

    def test_a_quick_run_is_a_document(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server, self.BOTH) as viewer:
            assert viewer.json["text"] == TEXT
        assert "content-length" in viewer.headers

    def test_a_slow_one_is_a_stream(self) -> None:
        gate = Gate()
        with serve(Chat("Hel", gate, "lo", auto_hold=0.05).app) as server, ask(server, self.BOTH) as viewer:
            assert viewer.headers["content-type"].startswith("text/event-stream")
            gate.open()
            assert rebuild(viewer.rest()) == "Hello"


class TestDialects:
    STEPS = (
        Sources(sources=[{"id": "s1", "title": "Guide"}]), ToolStarted(call="c1", name="search"),
        ToolInput(call="c1", input={"q": "x"}), ToolEnded(call="c1", output={"hits": 1}), "Hi\nthere",
        {"n": 1},
    )  # fmt: skip

    def test_simple(self) -> None:
        with serve(Chat(*self.STEPS).app) as server, ask(server, params={"dialect": "simple"}) as viewer:
            told = [(frame.event, frame.json) for frame in viewer.rest()]
        assert told == [
            ("retrieval_done", {"docs": [{"id": "s1", "title": "Guide"}]}),
            ("tool_start", {"name": "search", "input": {"q": "x"}}),
            ("tool_end", {"name": "search", "output": {"hits": 1}}),
            ("message", {"type": "content", "data": "Hi\nthere"}),
            ("data", {"n": 1}),
            ("done", {"type": "done"}),
        ]

    def test_sse_text(self) -> None:
        chat = Chat(*self.STEPS, dialect="sse-text")
        with serve(chat.app) as server, ask(server) as viewer:
            frames = viewer.rest()
        assert [frame.data for frame in frames if frame.event == "message"] == ["Hi\nthere"]
        assert frames[-1].event == "done"

    @pytest.mark.parametrize("dialect", ["simple", "sse-text"])
    def test_what_fails_in_band_dialects_is_in_band(self, dialect: str) -> None:
        chat = Chat(SourceError("Busy.", code="rate_limited"), dialect=dialect)
        with serve(chat.app) as server, ask(server) as viewer:
            frames = viewer.rest()
        assert viewer.status == 200
        assert viewer.complete
        assert [frame.event for frame in frames] == ["error", "done"]
        assert frames[0].json == {"type": "error", "message": "Busy.", "code": "rate_limited"}

    @pytest.mark.parametrize("dialect", ["simple", "sse-text"])
    def test_in_band_dialects_answer_before_the_first_event(self, dialect: str) -> None:
        """The first bytes are a block that carries the run's id alone."""
        gate = Gate()
        with serve(Chat(gate, "Hi", dialect=dialect).app) as server, ask(server) as viewer:
            assert viewer.status == 200
            gate.open()
            viewer.rest()
        assert bytes(viewer.body).startswith(f"id: {viewer.run}.1.1\n\n".encode())
        assert viewer.body.count(b"\n\nid: ") + 1 == len(viewer.frames) + 1

    @pytest.mark.parametrize("params", [{"dialect": "nope"}, {"merge": "x"}, {"merge": "2s"}, {"chunk": "page"}])
    def test_unknown_ones_are_400_and_start_nothing(self, params: dict[str, str]) -> None:
        chat = Chat(*WORDS)
        with serve(chat.app) as server, ask(server, params=params) as viewer:
            assert viewer.json["code"] == "invalid_request"
        assert viewer.status == 400
        assert chat.script.started == 0


class TestGranularity:
    def deltas(self, *steps: Any, **params: str) -> list[str]:
        with serve(Chat(*steps).app) as server, ask(server, params=params) as viewer:
            frames = viewer.rest()
        assert rebuild(frames) == "".join(steps)
        return [frame.json["text"] for frame in frames if frame.json["type"] == "text.delta"]

    def test_tokens(self) -> None:
        assert self.deltas(*WORDS, merge="0") == list(WORDS)
        assert self.deltas(*WORDS, chunk="token") == list(WORDS)

    def test_sentences(self) -> None:
        gate = Gate()
        chat = Chat("Hello ", "there. ", "All ", gate, "well? ", "Yes")
        with serve(chat.app) as server, ask(server, params={"chunk": "sentence"}) as viewer:
            assert [frame.json["text"] for frame in viewer.read(2)[1:]] == ["Hello there. "]
            gate.open()
            rest = [frame.json["text"] for frame in viewer.rest() if frame.json["type"] == "text.delta"]
        assert rest[0].startswith("All well? ")
        assert "".join(rest) == "All well? Yes"

    def test_whole(self) -> None:
        assert self.deltas(*WORDS, chunk="whole") == [TEXT]

    def test_merged_deltas_name_the_first_one_they_hold(self) -> None:
        """The first goes at once; the window is kept on average, so that the second may come early."""
        first, second = Gate(), Gate()
        chat = Chat("a", first, "b", second, *"cde")
        with serve(chat.app) as server, ask(server, params={"merge": "1s"}) as viewer:
            assert [frame.json["text"] for frame in viewer.read(2)[1:]] == ["a"]
            first.open()
            assert [frame.json["text"] for frame in viewer.read(1)] == ["b"]
            second.open()
            [merged] = [frame for frame in viewer.rest() if frame.json["type"] == "text.delta"]
        assert (merged.json["from"], merged.json["seq"], merged.json["text"]) == (4, 6, "cde")
        assert merged.id == f"{viewer.run}.1.6"

    def test_a_viewer_that_catches_up_does_not_wait_for_the_window(self) -> None:
        """Only what is new may be worth a wait: a long text that is already there would come in drips."""
        words = [f"word {number} " for number in range(3000)]
        with serve(Chat(*words).app) as server:
            run = ask(server, JSON).json["run"]
            begun = time.monotonic()
            frames = server.watch(f"/runs/{run}/events", params={"merge": "1s"}).rest()
            assert time.monotonic() - begun < 10.0, "dozens of batches, a second each"
        assert rebuild(frames) == "".join(words)
        assert len(frames) < 300


class TestThreads:
    def test_a_run_joins_the_thread_it_names(self) -> None:
        with serve(Chat(*WORDS).app) as server:
            with ask(server, headers={"Thread-Id": "mine"}) as first, ask(server, params={"thread": "mine"}) as second:
                assert first.rest()[0].json["thread"] == "mine"
                assert second.rest()[0].json["thread"] == "mine"
            assert (first.headers["thread-id"], second.headers["thread-id"]) == ("mine", "mine")
            found = server.client.get("/threads/mine").json()
        assert [run["run"] for run in found["runs"]] == [first.run, second.run]

    def test_without_one_it_gets_a_new_one(self) -> None:
        with serve(Chat(*WORDS).app) as server, ask(server) as one, ask(server) as other:
            assert one.headers["thread-id"] != other.headers["thread-id"]
            assert re.fullmatch("[a-z2-7]{26}", one.headers["thread-id"])

    def test_a_name_that_is_none_is_400(self) -> None:
        chat = Chat(*WORDS)
        with serve(chat.app) as server, ask(server, headers={"Thread-Id": "a/b"}) as viewer:
            assert viewer.status == 400
        assert chat.script.started == 0
