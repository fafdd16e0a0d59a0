"""Failures: a real status until the first event, in band after it, and never silent (spec §4, §9)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response
from tests.server.chat import JSON, NDJSON, Chat, make_tide, types

from tidelog import SourceError, TidelogError
from tidelog.testing import Gate, Script, serve

FORMS = ["text/event-stream", NDJSON, "text/plain", JSON, "application/json, text/event-stream", None]
SECRET = "password=hunter2"


class Teapot(Exception):
    """An error of the application's own."""


class TestBeforeTheFirstEvent:
    @pytest.mark.parametrize("accept", FORMS)
    def test_it_is_a_problem_document(self, accept: str | None) -> None:
        error = SourceError("Try later.", code="rate_limited", retry_after=6.2)
        with serve(Chat(error).app) as server, server.watch("/chat", accept=accept) as viewer:
            found = viewer.json
        assert viewer.status == 429
        assert viewer.headers["content-type"] == "application/problem+json"
        assert viewer.headers["retry-after"] == "7"
        assert found == {
            "type": "urn:tidelog:rate_limited", "title": "The provider is busy.", "status": 429, "code": "rate_limited",
            "detail": "Try later.", "retryable": True, "retry_after": 6.2,
        }  # fmt: skip

    def test_an_http_exception_keeps_status_words_and_headers(self) -> None:
        error = HTTPException(402, "Pay first.", headers={"X-Price": "3"})
        with serve(Chat(error).app) as server, server.watch("/chat") as viewer:
            assert viewer.json["detail"] == "Pay first."
        assert (viewer.status, viewer.headers["x-price"]) == (402, "3")

    def test_internal_words_stay_in_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        chat = Chat(RuntimeError(SECRET))
        with serve(chat.app) as server, server.watch("/chat") as viewer:
            assert (viewer.json["code"], viewer.status) == ("internal", 500)
            [run] = server.client.get("/runs").json()["runs"]
        assert SECRET.encode() not in viewer.body
        [record] = [one for one in caplog.records if one.exc_info and one.name == "tidelog"]
        assert run["run"] in record.getMessage()
        assert SECRET in str(record.exc_info)

    @pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
    def test_the_applications_own_handler_answers(self, bare: bool) -> None:
        chat = Chat(Teapot("short and stout"))

        @chat.app.exception_handler(Teapot)
        async def teapot(request: Request, error: Teapot) -> Response:
            return JSONResponse({"teapot": str(error)}, 418)

        with serve(chat.app, bare=bare) as server, server.watch("/chat") as viewer:
            assert viewer.json == {"teapot": "short and stout"}
        assert viewer.status == 418

    def test_also_one_for_our_errors_and_for_http_exceptions(self) -> None:
        chat = Chat(SourceError("Down."))
        other = Chat(HTTPException(403, "No."))

        async def own(request: Request, error: Exception) -> Response:
            return JSONResponse({"own": str(getattr(error, "detail", error))}, 499)

        chat.app.add_exception_handler(TidelogError, own)
        other.app.add_exception_handler(HTTPException, own)
        for one, words in ((chat, "Down."), (other, "No.")):
            with serve(one.app) as server, server.watch("/chat") as viewer:
                assert viewer.json == {"own": words}
            assert viewer.status == 499

    def test_a_refusal_of_ours_goes_to_the_applications_handler(self) -> None:
        chat = Chat("Hi")

        @chat.app.exception_handler(TidelogError)
        async def own(request: Request, error: TidelogError) -> Response:
            return JSONResponse({"own": error.code}, 499)

        with serve(chat.app) as server, server.watch("/chat", last_event_id="a.b.c") as viewer:
            assert viewer.json == {"own": "invalid_cursor"}

    def test_the_run_is_stored_as_failed(self) -> None:
        with serve(Chat(SourceError("Down.")).app) as server:
            server.watch("/chat").rest()
            [run] = server.client.get("/runs").json()["runs"]
            frames = server.watch(f"/runs/{run['run']}/events").rest()
        assert (run["state"], run["outcome"], run["error"]["code"]) == ("ended", "failed", "provider_error")
        assert types(frames) == ["run.started", "run.ended"]
        assert frames[-1].json["error"] == {"code": "provider_error", "message": "Down.", "retryable": True}
        assert frames[-1].json["can"] == ["retry", "continue"]

    def test_a_timeout_of_the_first_event_is_504(self) -> None:
        with serve(Chat(Gate(), first_event_timeout=0.05).app) as server, server.watch("/chat") as viewer:
            assert (viewer.json["code"], viewer.status) == ("timed_out", 504)

    def test_validation_is_422_and_starts_nothing(self) -> None:
        tide, script = make_tide(), Script("Hi")
        app = FastAPI()
        app.include_router(tide.router)

        class Ask(BaseModel):
            question: str

        async def chat(ask: Ask) -> Response:
            return tide.response(script)

        chat.__annotations__["ask"] = Ask
        app.post("/chat")(chat)
        app.post("/stream")(_stream(tide, script, Ask))
        with serve(app) as server:
            for path in ("/chat", "/stream"):
                assert server.watch(path, json={"nope": 1}).status == 422
                assert server.watch(path, json={"question": "x"}).status == 200
        assert script.started == 2

    def test_a_function_that_gives_no_source(self) -> None:
        with serve(Chat(Script()).app) as server, server.watch("/chat") as viewer:
            assert viewer.rest()[-1].json["outcome"] == "completed"
        chat = Chat("x")
        chat.script = lambda: 3  # type: ignore[assignment,return-value]
        with serve(chat.app) as server, server.watch("/chat") as viewer:
            assert viewer.status == 400


def _stream(tide: Any, script: Script, model: Any) -> Any:
    async def stream(ask: Any) -> Any:
        async for step in script():
            yield step

    stream.__annotations__["ask"] = model
    return tide.stream(stream)


class TestStatusHold:
    def test_after_it_the_failure_is_in_band(self) -> None:
        gate = Gate()
        chat = Chat(gate, SourceError("Down."), status_hold=0.05)
        with serve(chat.app) as server, server.watch("/chat") as viewer:
            assert viewer.status == 200
            gate.open()
            frames = viewer.rest()
        assert viewer.complete
        assert types(frames) == ["run.started", "run.ended"]
        assert frames[-1].json["error"]["code"] == "provider_error"

    def test_the_status_waits_for_the_first_event_alone(self) -> None:
        gate = Gate()
        chat = Chat("Hi", gate, status_hold=60.0)
        with serve(chat.app) as server, server.watch("/chat") as viewer:
            assert viewer.status == 200
            assert viewer.read(2)[1].json["text"] == "Hi"


class TestAfterTheFirstEvent:
    @pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
    @pytest.mark.parametrize("accept", ["text/event-stream", NDJSON])
    def test_it_is_in_band_and_safe(self, accept: str, bare: bool) -> None:
        chat = Chat("Hel", RuntimeError(SECRET))
        with serve(chat.app, bare=bare) as server, server.watch("/chat", accept=accept) as viewer:
            frames = viewer.rest()
        assert (viewer.status, viewer.complete) == (200, True)
        assert types(frames) == ["run.started", "text.delta", "text.ended", "run.ended"]
        error = frames[-1].json["error"]
        assert error == {"code": "internal", "message": "Something went wrong on the server.", "retryable": True}
        assert SECRET.encode() not in viewer.body

    @pytest.mark.parametrize("place", range(8))
    def test_raising_at_every_event_is_never_silent(self, place: int) -> None:
        words = [f"w{number} " for number in range(8)]
        chat = Chat(*words[:place], ValueError("x"), *words[place:])
        with serve(chat.app) as server:
            with server.watch("/chat") as viewer:
                frames = viewer.rest()
            ended = viewer.status == 500 if place == 0 else frames[-1].json["outcome"] == "failed"
            assert ended
            with server.watch("/chat", accept=JSON) as document:
                assert document.status == 500
        assert chat.script.plays[0].opened_in is chat.script.plays[0].closed_in

    def test_a_source_that_swallows_its_cancellation_is_ended_all_the_same(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """`close_timeout` bounds what a source may do to its run's end."""
        tide, gate = make_tide(), Gate()
        app = FastAPI()
        app.include_router(tide.router)

        async def stubborn() -> Any:
            try:
                yield "Hel"
                await gate.wait()
            finally:
                await Gate().wait()

        @app.get("/chat")
        async def chat() -> Response:
            return tide.response(stubborn, close_timeout=0.1)

        with caplog.at_level(logging.WARNING), serve(app) as server, server.watch("/chat") as viewer:
            gate.reached()
            assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
            assert viewer.rest()[-1].json["outcome"] == "stopped"
        assert "does not close" in caplog.text


class TestSourcesThatBreakTheRules:
    @pytest.mark.parametrize("bad", [3, object(), ["x"], {"x": object()}, {1: 2j}])
    def test_a_value_that_is_none_fails_the_run(self, bad: Any) -> None:
        with serve(Chat("Hi", bad).app) as server, server.watch("/chat") as viewer:
            last = viewer.rest()[-1].json
        assert (last["outcome"], last["error"]["code"]) == ("failed", "invalid_event")
        assert last["error"]["message"] == "The application produced an event that is not allowed here."

    def test_the_traceback_names_the_line_that_yielded(self, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[BaseException] = []
        tide = make_tide()
        app = FastAPI()
        app.include_router(tide.router)

        async def answer() -> Any:
            try:
                yield 3
            except TidelogError as error:
                seen.append(error)
                raise

        @app.get("/chat")
        async def chat() -> Response:
            return tide.response(answer)

        with serve(app) as server:
            assert server.watch("/chat").status == 500
        assert "int" in str(seen[0])
