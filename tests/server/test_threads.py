"""Threads over HTTP: what was said, one run at a time, and the history for a model (spec §8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import Body, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response
from tests.server.chat import make_tide, types, who

from tidelog import Tidelog, current_run
from tidelog.testing import Gate, Server, Viewer, rebuild, serve

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


class Ask(BaseModel):
    question: str


class Talk:
    """A chat that answers `question` with a gate between two halves, and remembers what its model was given."""

    def __init__(self, tide: Tidelog | None = None, **options: Any) -> None:
        self.tide = tide or make_tide()
        self.app, self.gate = FastAPI(), Gate()
        self.given: list[list[dict[str, str]]] = []
        self.app.include_router(self.tide.router)

        @self.app.post("/chat")
        @self.tide.stream(message="question", **options)
        async def chat(ask: Ask) -> AsyncIterator[str]:
            self.given.append(await self.tide.history())
            async for piece in self.model(ask.question):
                yield piece

    async def model(self, question: str) -> AsyncIterator[str]:
        """Says the second half once the gate is open; a continued answer repeats some of its end, as models do."""
        run = current_run()
        if run.mode == "continue":
            yield f"{run.partial[-12:]} the end."
            return
        yield f"Answer {len(self.given)} to {question}: "
        await self.gate.wait()
        yield "done."

    def ask(self, server: Server, question: str, **request: Any) -> Viewer:
        return server.watch("/chat", json={"question": question}, params={"thread": "t"}, **request)


def messages(server: Server, headers: dict[str, str] | None = None, **query: Any) -> list[tuple[str, str]]:
    found = server.client.get("/threads/t", params=query, headers=headers).json()
    return [(one["role"], one["content"]) for one in found["messages"]]


def stopped(server: Server, viewer: Viewer) -> None:
    viewer.read(2)
    server.client.post(f"/runs/{viewer.run}/stop")
    viewer.rest()


def test_what_was_said_stands_in_order() -> None:
    talk = Talk()
    talk.gate.open()
    with serve(talk.app) as server:
        runs = [talk.ask(server, question) for question in ("Why?", "How?")]
        for viewer in runs:
            viewer.rest()
    assert messages_of(talk, "Why?", "How?") == talk.given[1] + [
        {"role": "assistant", "content": "Answer 2 to How?: done."}
    ]


def messages_of(talk: Talk, *questions: str) -> list[dict[str, str]]:
    """What a thread of these questions holds."""
    found: list[dict[str, str]] = []
    for number, question in enumerate(questions, 1):
        found.append({"role": "user", "content": question})
        found.append({"role": "assistant", "content": f"Answer {number} to {question}: done."})
    return found


def test_a_second_device_finds_the_messages_and_the_live_run() -> None:
    talk = Talk()
    with serve(talk.app) as server:
        viewer = talk.ask(server, "Why?")
        viewer.read(2)
        live = server.client.get("/threads/t").json()
        second = server.watch(f"/runs/{live['active']}/events")
        talk.gate.open()
        viewer.rest()
        assert rebuild(second.rest()) == rebuild(viewer.frames) == "Answer 1 to Why?: done."
        ended = server.client.get("/threads/t").json()
    assert live["active"] == viewer.run
    assert live["messages"] == [
        {"role": "user", "content": "Why?", "run": viewer.run},
        {
            "role": "assistant", "content": "Answer 1 to Why?: ", "run": viewer.run,
            "id": viewer.frames[0].json["message"], "state": "running",
        },
    ]  # fmt: skip
    assert ended["active"] is None
    assert ended["messages"][1] == {
        **live["messages"][1], "content": "Answer 1 to Why?: done.", "state": "ended", "outcome": "completed",
    }  # fmt: skip


class TestOneAtATime:
    def test_another_is_refused_with_the_id_of_the_first(self) -> None:
        talk = Talk()
        with serve(talk.app) as server:
            first = talk.ask(server, "Why?")
            first.read(2)
            with talk.ask(server, "How?") as second:
                assert (second.status, second.json["code"], second.json["run"]) == (409, "thread_busy", first.run)
            assert [run["run"] for run in server.client.get("/threads/t").json()["runs"]] == [first.run]
            talk.gate.open()
            first.rest()
            assert talk.ask(server, "How?").rest()[-1].json["outcome"] == "completed"
            assert [role for role, _ in messages(server)] == ["user", "assistant"] * 2

    @pytest.mark.parametrize("store", ["memory:", "sqlite"])
    def test_of_many_at_once_exactly_one_starts(self, store: str, tmp_path: Any) -> None:
        talk = Talk(make_tide(f"sqlite:///{tmp_path}/a.db" if store == "sqlite" else store))
        with serve(talk.app) as server, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: talk.ask(server, f"{n}"), range(8)))
            [winner] = [one for one in answers if one.status == 200]
            lost = [one.json for one in answers if one.status != 200]
            assert {one["code"] for one in lost} == {"thread_busy"}
            assert [run["run"] for run in server.client.get("/runs").json()["runs"]] == [winner.run]
            talk.gate.open()
            winner.rest()
            assert len(messages(server)) == 2
            assert len(talk.given) == 1

    @pytest.mark.parametrize("verb", ["retry", "continue"])
    def test_a_verb_is_a_start(self, verb: str) -> None:
        talk = Talk()
        with serve(talk.app) as server:
            old = talk.ask(server, "Why?")
            stopped(server, old)
            live = talk.ask(server, "How?")
            live.read(2)
            answer = server.client.post(f"/runs/{old.run}/{verb}")
            assert (answer.status_code, answer.json()["run"]) == (409, live.run)

    def test_the_same_request_is_no_other_run(self) -> None:
        talk, key = Talk(), {"Idempotency-Key": "k"}
        with serve(talk.app) as server:
            first, second = (talk.ask(server, "Why?", headers=key) for _ in range(2))
            assert first.run == second.run
            with talk.ask(server, "Why?", headers={"Idempotency-Key": "other"}) as third:
                assert (third.status, third.json["run"]) == (409, first.run)
            talk.gate.open()
            first.rest()
            assert talk.ask(server, "Why?", headers={"Idempotency-Key": "other"}).run != first.run

    def test_unless_the_endpoint_says_otherwise(self) -> None:
        talk = Talk(concurrent=True)
        with serve(talk.app) as server:
            runs = [talk.ask(server, question) for question in ("Why?", "How?")]
            for viewer in runs:
                viewer.read(2)
            assert server.client.get("/threads/t").json()["active"] == runs[1].run
            server.client.post(f"/runs/{runs[1].run}/stop")
            assert server.client.get("/threads/t").json()["active"] == runs[0].run

    def test_threads_of_others_and_runs_without_a_thread_do_not_matter(self) -> None:
        talk = Talk(make_tide(principal=who))
        with serve(talk.app) as server:
            viewers = [talk.ask(server, "Why?", headers=headers) for headers in (ANN, BOB)]
            viewers += [server.watch("/chat", json={"question": "?"}, headers=ANN) for _ in range(2)]
            assert {viewer.status for viewer in viewers} == {200}

    def test_of_tide_start(self) -> None:
        talk = Talk()

        async def source() -> AsyncIterator[str]:
            yield "from a job"
            await talk.gate.wait()

        with serve(talk.app) as server:
            run = server.call(lambda: talk.tide.start(source, thread="t", message="Do it"))
            with talk.ask(server, "Why?") as viewer:
                assert (viewer.status, viewer.json["run"]) == (409, run.id)
            talk.gate.open()
            server.call(run.wait)
            assert messages(server) == [("user", "Do it"), ("assistant", "from a job")]


class TestRepeats:
    def test_a_retry_takes_the_place_of_the_answer(self) -> None:
        talk = Talk()
        with serve(talk.app) as server:
            old = talk.ask(server, "Why?")
            stopped(server, old)
            talk.gate.open()
            talk.ask(server, "How?").rest()
            found = server.client.post(f"/runs/{old.run}/retry").json()
            server.watch(found["events"]).rest()
            assert messages(server) == [
                ("user", "Why?"), ("assistant", "Answer 3 to Why?: done."),
                ("user", "How?"), ("assistant", "Answer 2 to How?: done."),
            ]  # fmt: skip
            again = server.client.post(f"/runs/{found['run']}/retry").json()
            server.watch(again["events"]).rest()
            assert messages(server)[1] == ("assistant", "Answer 4 to Why?: done.")
            assert len(messages(server)) == 4
            server.client.delete(f"/runs/{again['run']}")
            assert messages(server)[1] == ("assistant", "Answer 3 to Why?: done."), "what it replaced is there still"
        assert talk.given[2] == [{"role": "user", "content": "Why?"}], "what came later is none of its business"

    def test_a_model_is_given_the_partial_text_and_goes_on(self) -> None:
        talk = Talk()
        with serve(talk.app) as server:
            old = talk.ask(server, "Why?")
            stopped(server, old)
            found = server.client.post(f"/runs/{old.run}/continue").json()
            frames = server.watch(found["events"]).rest()
            assert messages(server) == [("user", "Why?"), ("assistant", "Answer 1 to Why?:  the end.")]
            assert server.client.get(f"/runs/{old.run}/transcript").json()["text"] == "Answer 1 to Why?: "
        assert rebuild(frames) == "Answer 1 to Why?:  the end."
        assert types(frames)[1] == "text.snapshot"
        assert talk.given[1] == [
            {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Answer 1 to Why?: "},
        ]  # fmt: skip

    @pytest.mark.parametrize("overlap", [8, 50, 200, 201])
    def test_what_a_model_repeats_of_the_end_is_dropped(self, overlap: int) -> None:
        """Up to 200 characters; more is taken for new text, and nothing of the earlier text is ever lost."""
        text = "".join(f"{n:04} " for n in range(60))
        tide, app, gate = make_tide(), FastAPI(), Gate()
        app.include_router(tide.router)

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            run = current_run()
            if run.mode is None:
                yield text
                await gate.wait()
            again = run.partial[-overlap:] + "and the end"
            for start in range(0, len(again), 7):
                yield again[start : start + 7]

        with serve(app) as server:
            old = server.watch("/chat")
            stopped(server, old)
            found = server.client.post(f"/runs/{old.run}/continue").json()
            whole = rebuild(server.watch(found["events"]).rest())
        assert whole.startswith(text)
        assert (whole == text + "and the end") == (overlap <= 200)

    def test_a_continuation_that_fails_keeps_the_text(self) -> None:
        tide, app, gate = make_tide(), FastAPI(), Gate()
        app.include_router(tide.router)

        @app.get("/chat")
        @tide.stream(message="q")
        async def chat(q: str) -> AsyncIterator[str]:
            if current_run().mode == "continue":
                raise ConnectionRefusedError
            yield "The text so far"
            await gate.wait()

        with serve(app) as server:
            old = server.watch("/chat?q=Why&thread=t")
            stopped(server, old)
            run = old.run
            for _ in range(2):
                found = server.client.post(f"/runs/{run}/continue").json()
                ending = server.watch(found["events"]).rest()[-1].json
                assert (ending["outcome"], ending["error"]["code"]) == ("failed", "provider_error")
                assert messages(server) == [("user", "Why"), ("assistant", "The text so far")]
                run = found["run"]  # and on from the one that failed


class TestHistory:
    def make(self, server: Server, talk: Talk, *questions: str) -> None:
        talk.gate.open()
        for question in questions:
            talk.ask(server, question, headers=ANN).rest()

    def test_inside_a_run_it_ends_with_what_the_user_said(self) -> None:
        talk = Talk()
        talk.gate.open()
        with serve(talk.app) as server:
            server.watch("/chat", json={"question": "In a new thread"}).rest()
            talk.ask(server, "Why?").rest()
            talk.ask(server, "How?").rest()
        assert talk.given == [
            [{"role": "user", "content": "In a new thread"}],
            [{"role": "user", "content": "Why?"}],
            [
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "Answer 2 to Why?: done."},
                {"role": "user", "content": "How?"},
            ],
        ]

    def test_outside_it_is_whoever_asks_for(self) -> None:
        talk = Talk(make_tide(principal=who))
        with serve(talk.app) as server:
            self.make(server, talk, "Why?")
            said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Answer 1 to Why?: done."}]
            assert server.call(lambda: talk.tide.history("t", principal="ann")) == said
            for principal in ("bob", None):
                assert server.call(lambda principal=principal: talk.tide.history("t", principal=principal)) == []
            assert server.call(lambda: talk.tide.history("nothing", principal="ann")) == []

    def test_of_the_request(self) -> None:
        talk = Talk(make_tide(principal=who))

        @talk.app.get("/before")
        async def before(request: Request, thread: str) -> Any:
            return await talk.tide.history(thread, request=request)

        with serve(talk.app) as server:
            self.make(server, talk, "Why?")
            assert len(server.client.get("/before?thread=t", headers=ANN).json()) == 2
            assert server.client.get("/before?thread=t", headers=BOB).json() == []

    def test_without_a_thread_or_a_run_there_is_none(self) -> None:
        talk = Talk()
        with serve(talk.app) as server, pytest.raises(Exception, match="no current run"):
            server.call(talk.tide.history)

    @pytest.mark.parametrize(
        ("chars", "found"),
        [
            (10_000, ["Why?", "Answer 1 to Why?: done.", "How?", "Answer 2 to How?: done."]),
            (54, ["Why?", "Answer 1 to Why?: done.", "How?", "Answer 2 to How?: done."]),
            (53, ["How?", "Answer 2 to How?: done."]),
            (27, ["How?", "Answer 2 to How?: done."]),
            (26, ["done."]),
            (5, ["done."]),
        ],
    )
    def test_its_end_is_what_counts(self, chars: int, found: list[str]) -> None:
        talk = Talk()
        with serve(talk.app) as server:
            self.make(server, talk, "Why?", "How?")
            said = server.call(lambda: talk.tide.history("t", chars=chars))
        assert len(said[-1]["content"]) <= chars
        assert [one["content"] for one in said[:-1]] == found[:-1]
        assert said[-1]["content"].endswith(found[-1])


class TestMessages:
    """Where the user's message comes from."""

    def test_from_a_parameter_a_dict_or_the_endpoint(self) -> None:
        tide, app = make_tide(), FastAPI()
        app.include_router(tide.router)

        async def answer() -> AsyncIterator[str]:
            yield "x"

        @app.get("/query")
        @tide.stream(message="q")
        async def query(q: str, other: int = 3) -> AsyncIterator[str]:
            yield "x"

        @app.post("/dict")
        @tide.stream(message="q")
        async def dict_(body: dict[str, Any]) -> AsyncIterator[str]:
            yield "x"

        @app.post("/by-hand")
        async def by_hand(q: str = Body(embed=True)) -> Response:
            return tide.response(answer, message=q)

        with serve(app) as server:
            server.watch("/query?q=one&thread=t").rest()
            server.watch("/dict?thread=t", json={"q": "two"}).rest()
            server.watch("/by-hand?thread=t", json={"q": "three"}).rest()
            server.watch("/dict?thread=t", json={"none": 1}).rest()
            found = messages(server)
            assert found == [
                ("user", "one"), ("assistant", "x"), ("user", "two"), ("assistant", "x"),
                ("user", "three"), ("assistant", "x"), ("assistant", "x"),
            ]  # fmt: skip
            assert messages(server, limit=2) == found[-2:]
            assert server.client.get("/threads/t?limit=0").status_code == 400

    def test_a_name_that_nothing_has_is_a_mistake(self) -> None:
        tide = Tidelog("memory:")

        async def chat(ask: Ask, n: int) -> AsyncIterator[str]:
            yield "x"

        with pytest.raises(TypeError, match="'prompt' is no parameter"):
            tide.stream(message="prompt")(chat)
        tide.stream(message="question")(chat)

    def test_it_has_a_limit(self) -> None:
        talk = Talk(max_body_bytes=40)
        talk.gate.open()
        with serve(talk.app) as server:
            with talk.ask(server, "x" * 41) as viewer:
                assert viewer.status == 413
            assert server.client.get("/runs").json()["runs"] == []


class TestDeletion:
    def test_of_a_thread(self) -> None:
        talk = Talk()
        talk.gate.open()
        with serve(talk.app) as server:
            runs = [talk.ask(server, question) for question in ("Why?", "How?")]
            for viewer in runs:
                viewer.rest()
            assert server.client.delete("/threads/t").status_code == 204
            assert server.client.get("/threads/t").status_code == 404
            assert {server.client.get(f"/runs/{viewer.run}").status_code for viewer in runs} == {404}
            assert server.call(lambda: talk.tide.history("t")) == []
            talk.ask(server, "Anew?").rest()
            assert messages(server)[0] == ("user", "Anew?")

    def test_of_a_run_takes_what_was_said_with_it(self) -> None:
        talk = Talk()
        talk.gate.open()
        with serve(talk.app) as server:
            first, second = (talk.ask(server, question) for question in ("A secret", "How?"))
            first.rest(), second.rest()
            server.client.delete(f"/runs/{first.run}")
            assert messages(server)[0] == ("user", "How?")


def test_another_principal_finds_nothing() -> None:
    talk = Talk(make_tide(principal=who))
    talk.gate.open()
    with serve(talk.app) as server:
        talk.ask(server, "Why?", headers=ANN).rest()
        assert len(messages(server, headers=ANN)) == 2
        assert server.client.get("/threads/t", headers=BOB).status_code == 404
