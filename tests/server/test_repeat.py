"""`retry` and `continue`: a new run in the same thread, of the stored request, with the caller's headers (spec §8)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Form, Header, HTTPException, Request
from starlette.responses import Response
from tests.server.chat import Chat, make_tide, types, who

from tidelog import Tidelog, current_run
from tidelog.testing import Gate, Server, Viewer, rebuild, serve


class Writer:
    """An application whose answer depends on the request, and which knows what it continues."""

    def __init__(self, tide: Tidelog | None = None, *, prefix: str = "") -> None:
        self.tide = tide or make_tide()
        self.gate = Gate()
        self.seen: list[dict[str, Any]] = []
        self.again = "dear old world, again"
        self.app = FastAPI()
        self.app.include_router(self.tide.router, prefix=prefix)

        def allowed(x_token: Annotated[str, Header()] = "") -> None:
            if x_token == "expired":
                raise HTTPException(401, "Log in again.")

        @self.app.post("/write", dependencies=[Depends(allowed)])
        async def write(request: Request, body: dict[str, Any], mood: str = "") -> Response:
            return self.tide.response(self.answer(request.headers.get("x-user"), body, mood), request=request)

    async def answer(self, user: str | None, body: dict[str, Any], mood: str) -> AsyncIterator[str]:
        run = current_run()
        self.seen.append({"user": user, "body": body, "mood": mood, "mode": run.mode, "partial": run.partial})
        if run.mode == "continue":
            yield self.again
        else:
            yield "Hello dear old world"
            await self.gate.wait()
            yield "!"

    def stopped(self, server: Server, **request: Any) -> Viewer:
        """A run that was stopped after its first words."""
        viewer = server.watch("/write?mood=glad", json={"q": 1}, **request)
        viewer.read(2)
        server.client.post(f"{viewer.headers['location']}/stop", headers=request.get("headers"))
        viewer.rest()
        return viewer


def test_retry_is_a_sibling() -> None:
    writer = Writer()
    with serve(writer.app) as server:
        old = writer.stopped(server)
        writer.gate.open()
        answer = server.client.post(f"/runs/{old.run}/retry")
        found = answer.json()
        new = server.watch(found["events"]).rest()
        assert server.client.get(f"/runs/{old.run}").json()["successor"] == found["run"]
        assert server.client.get(f"/runs/{old.run}").json()["outcome"] == "stopped", "the old log is untouched"
        thread = server.client.get(f"/threads/{found['thread']}").json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/runs/{found['run']}"
    assert (found["of"], found["mode"], found["thread"]) == (old.run, "retry", old.headers["thread-id"])
    started = new[0].json
    assert (started["of"], started["mode"], started["thread"]) == (old.run, "retry", found["thread"])
    assert started["message"] != old.frames[0].json["message"]
    assert rebuild(new) == "Hello dear old world!"
    assert [run["run"] for run in thread["runs"]] == [old.run, found["run"]]
    assert writer.seen[1] == {"user": None, "body": {"q": 1}, "mood": "glad", "mode": "retry", "partial": ""}


def test_continue_keeps_the_message_and_opens_with_a_snapshot() -> None:
    writer = Writer()
    with serve(writer.app) as server:
        old = writer.stopped(server)
        found = server.client.post(f"/runs/{old.run}/continue").json()
        new = server.watch(found["events"], params={"merge": "0"}).rest()
    assert types(new) == ["run.started", "text.snapshot", "text.delta", "text.ended", "run.ended"]
    assert new[0].json["message"] == old.frames[0].json["message"]
    assert (new[0].json["mode"], new[1].json["text"]) == ("continue", "Hello dear old world")
    assert rebuild(new) == "Hello dear old world, again", "what the model repeats of the end is dropped"
    assert writer.seen[1]["partial"] == "Hello dear old world"


@pytest.mark.parametrize(
    ("again", "whole"),
    [
        (" of ours", "Hello dear old world of ours"),
        ("Hello dear old world of ours", "Hello dear old world of ours"),
        ("old world of ours", "Hello dear old world of ours"),
        ("world of ours", "Hello dear old worldworld of ours"),  # too short to be more than chance
        ("", "Hello dear old world"),
    ],
)
def test_the_seam(again: str, whole: str) -> None:
    writer = Writer()
    writer.again = again
    with serve(writer.app) as server:
        found = server.client.post(f"/runs/{writer.stopped(server).run}/continue").json()
        assert rebuild(server.watch(found["events"]).rest()) == whole


@pytest.mark.parametrize("verb", ["retry", "continue"])
def test_authentication_runs_again_with_the_callers_headers(verb: str) -> None:
    writer = Writer(make_tide(principal=who))
    with serve(writer.app) as server:
        ann = {"X-User": "ann"}
        old = writer.stopped(server, headers={**ann, "X-Token": "good"})
        writer.gate.open()
        expired = server.client.post(f"/runs/{old.run}/{verb}", headers={**ann, "X-Token": "expired"})
        assert (expired.status_code, expired.json()) == (401, {"detail": "Log in again."})
        assert server.client.post(f"/runs/{old.run}/{verb}", headers={"X-User": "bob"}).status_code == 404
        again = server.client.post(f"/runs/{old.run}/{verb}", headers={**ann, "X-Token": "new"})
        assert again.status_code == 201
        server.watch(again.json()["events"], headers=ann).rest()
    assert [one["user"] for one in writer.seen] == ["ann", "ann"]


@pytest.mark.parametrize("verb", ["retry", "continue"])
def test_of_a_run_that_lives_is_409(verb: str) -> None:
    with serve(Chat("Hel", Gate()).app) as server:
        answer = server.client.post(f"/runs/{server.watch('/chat').run}/{verb}")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_ended")


@pytest.mark.parametrize("verb", ["retry", "continue"])
def test_of_a_request_that_is_not_json_is_409(verb: str) -> None:
    tide, app = make_tide(), FastAPI()
    app.include_router(tide.router)

    async def words() -> AsyncIterator[str]:
        yield "Hi"

    @app.post("/form")
    async def form(request: Request, q: Annotated[str, Form()]) -> Response:
        return tide.response(words, request=request)

    @app.post("/unknown")
    async def unknown(body: dict[str, Any]) -> Response:
        return tide.response(words)

    with serve(app) as server:
        runs = [
            server.client.post("/form", data={"q": "x"}).headers["run-id"],
            server.client.post("/unknown", json={"q": "x"}).headers["run-id"],
            server.call(lambda: tide.start(words)).id,
        ]
        for run in runs:
            server.watch(f"/runs/{run}/events").rest()
            answer = server.client.post(f"/runs/{run}/{verb}")
            assert (answer.status_code, answer.json()["code"]) == (409, "not_repeatable")
            assert server.client.get(f"/runs/{run}").json()["can"] == []


def test_by_get_with_its_query() -> None:
    chat = Chat("Hi")
    with serve(chat.app) as server:
        old = server.watch("/chat", params={"q": "a b&c", "thread": "t"})
        old.rest()
        found = server.client.post(f"/runs/{old.run}/retry").json()
        assert rebuild(server.watch(found["events"]).rest()) == "Hi"
    assert found["thread"] == "t"


def test_behind_a_prefix_a_root_path_and_a_mount() -> None:
    inner = Writer(prefix="/v1")
    outer = FastAPI()
    outer.mount("/sub", inner.app)
    with serve(outer, root_path="/behind") as server:
        viewer = server.watch("/sub/write", json={"q": 1})
        viewer.read(2)
        inner.gate.open()
        viewer.rest()
        answer = server.client.post(f"/sub/v1/runs/{viewer.run}/retry")
        assert answer.status_code == 201
        assert answer.headers["location"] == f"/behind/sub/v1/runs/{answer.json()['run']}"
        assert rebuild(server.watch(f"/sub/v1/runs/{answer.json()['run']}/events").rest()) == "Hello dear old world!"


def test_of_an_endpoint_in_a_mounted_application() -> None:
    """The router is the outer application's: the request goes through all of it again, dependencies and middleware too."""
    tide, outer, inner, passed = make_tide(), FastAPI(), FastAPI(), list[str]()
    outer.include_router(tide.router, prefix="/v1")
    outer.mount("/sub", inner)

    @outer.middleware("http")
    async def seen(request: Request, call_next: Any) -> Response:
        passed.append(request.url.path)
        answer: Response = await call_next(request)
        return answer

    @inner.post("/say")
    async def say(request: Request, body: dict[str, Any]) -> Response:
        return tide.response([body["word"]], request=request)

    with serve(outer) as server:
        old = server.watch("/sub/say", json={"word": "Hi"})
        old.rest()
        found = server.client.post(f"/v1/runs/{old.run}/retry")
        assert (found.status_code, found.headers["location"]) == (201, f"/v1/runs/{found.json()['run']}")
        assert rebuild(server.watch(found.json()["events"]).rest()) == "Hi"
    assert passed.count("/sub/say") == 2


def test_a_retry_can_be_retried_and_continued() -> None:
    """Successors chain: each old run names its latest."""
    writer = Writer()
    with serve(writer.app) as server:
        first = writer.stopped(server).run
        second = server.client.post(f"/runs/{first}/continue").json()
        server.watch(second["events"]).rest()
        third = server.client.post(f"/runs/{second['run']}/continue").json()
        text = rebuild(server.watch(third["events"]).rest())  # all that it says repeats the end
        again = server.client.post(f"/runs/{first}/continue").json()
        assert server.client.get(f"/runs/{first}").json()["successor"] == again["run"]
        assert server.client.get(f"/runs/{second['run']}").json()["successor"] == third["run"]
    assert text == "Hello dear old world, again"
