"""`@tide.stream`: each rule of the decorator (design: request work in the endpoint, run work in the generator)."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, Request, Response, UploadFile, WebSocket
from pydantic import BaseModel
from tests.server.chat import JSON, make_tide, types

from tidelog import Tidelog, ToolEnded, ToolStarted, current_run
from tidelog.errors import InvalidEvent, InvalidRequest
from tidelog.server.checks import all_routes
from tidelog.testing import Gate, rebuild, serve


class Ask(BaseModel):
    question: str


def stamp(response: Response) -> str:
    """A dependency that sets headers."""
    response.headers["X-Stamp"] = "yes"
    response.headers.append("Vary", "Cookie")
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return "x"


def make() -> tuple[FastAPI, Tidelog]:
    app, tide = FastAPI(), make_tide()
    app.include_router(tide.router)
    return app, tide


class TestSignature:
    def test_fastapi_sees_resolved_hints_and_no_return_annotation(self) -> None:
        _, tide = make()

        @tide.stream
        async def chat(ask: Ask, mood: str = "glad") -> AsyncIterator[str]:
            """Answers."""
            yield ask.question

        signature = inspect.signature(chat)
        assert signature.return_annotation is inspect.Signature.empty
        assert signature.parameters["ask"].annotation is Ask
        assert signature.parameters["mood"].default == "glad"
        assert not hasattr(chat, "__wrapped__")
        assert (chat.__name__, chat.__doc__, chat.__module__) == ("chat", "Answers.", __name__)
        assert inspect.iscoroutinefunction(chat)

    def test_it_validates_and_answers(self) -> None:
        app, tide = make()

        @app.post("/chat")
        @tide.stream
        async def chat(ask: Ask, times: int = 1) -> AsyncIterator[str]:
            for _ in range(times):
                yield ask.question

        with serve(app) as server:
            assert rebuild(server.watch("/chat?times=3", json={"question": "x"}).rest()) == "xxx"
            assert server.watch("/chat", json={}).status == 422
            assert server.watch("/chat?times=x", json={"question": "x"}).status == 422

    def test_openapi_describes_it(self) -> None:
        app, tide = make()

        @app.post("/chat")
        @tide.stream
        async def chat(ask: Ask) -> AsyncIterator[str]:
            yield ask.question

        found = app.openapi()["paths"]["/chat"]["post"]
        assert found["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Ask"}
        assert [one["name"] for one in found.get("parameters", [])] == ["Last-Event-ID"]

    def test_options_and_none(self) -> None:
        app, tide = make()

        @app.get("/json")
        @tide.stream(default="json")
        async def answer() -> AsyncIterator[str]:
            yield "Hi"

        with serve(app) as server:
            assert server.watch("/json", accept=None).headers["content-type"] == JSON

    def test_path_parameters_headers_and_keyword_only_ones(self) -> None:
        app, tide = make()

        @app.get("/chat/{name}")
        @tide.stream
        async def chat(name: str, *, x_mood: Annotated[str, Header()]) -> AsyncIterator[str]:
            yield f"{name} {x_mood}"

        with serve(app) as server:
            assert rebuild(server.watch("/chat/ann", headers={"X-Mood": "glad"}).rest()) == "ann glad"

    @pytest.mark.parametrize(
        "kind", [UploadFile, BackgroundTasks, Request, list[UploadFile], UploadFile | None, WebSocket]
    )
    def test_what_a_run_outlives_is_a_type_error(self, kind: Any) -> None:
        _, tide = make()

        async def chat(thing: Any) -> AsyncIterator[str]:
            yield "x"

        chat.__annotations__["thing"] = kind
        with pytest.raises(TypeError, match=r"a run outlives the request.*return tide\.response\(chat\(\.\.\.\)\)"):
            tide.stream(chat)

    def test_variadic_parameters_are_a_type_error(self) -> None:
        _, tide = make()

        async def chat(*args: str) -> AsyncIterator[str]:
            yield "x"

        with pytest.raises(TypeError, match=r"\*args"):
            tide.stream(chat)


class TestDependencies:
    def test_their_headers_and_cookies_are_merged(self) -> None:
        app, tide = make()

        @app.get("/chat")
        @tide.stream
        async def chat(stamp: Annotated[str, Depends(stamp)]) -> AsyncIterator[str]:
            yield stamp

        with serve(app) as server:
            for accept in ("text/event-stream", JSON):
                viewer = server.watch("/chat", accept=accept)
                assert viewer.headers["x-stamp"] == "yes"
                cookies = [value for name, value in viewer.raw_headers if name.lower() == b"set-cookie"]
                assert [cookie.split(b";")[0] for cookie in cookies] == [b"one=1", b"two=2"]
                vary = b", ".join(value for name, value in viewer.raw_headers if name.lower() == b"vary")
                assert {b"Accept", b"Cookie"} <= set(vary.split(b", "))

    @pytest.mark.parametrize("style", ["annotated", "default"])
    @pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
    def test_those_that_yield_are_closed_before_the_first_event(self, style: str, sync: bool) -> None:
        app, tide = make()
        happened: list[str] = []

        async def database() -> AsyncIterator[str]:
            happened.append("open")
            yield "db"
            happened.append("closed")

        def sync_database() -> Iterator[str]:
            happened.append("open")
            yield "db"
            happened.append("closed")

        dependency: Any = sync_database if sync else database

        async def one(db: Annotated[str, Depends(dependency)]) -> AsyncIterator[str]:
            happened.append("event")
            yield db

        async def other(db: str = Depends(dependency)) -> AsyncIterator[str]:
            happened.append("event")
            yield db

        one.__annotations__["db"] = Annotated[str, Depends(dependency)]
        other.__annotations__["db"] = str
        app.get("/chat")(tide.stream(one if style == "annotated" else other))
        with serve(app) as server:
            assert rebuild(server.watch("/chat").rest()) == "db"
        assert happened == ["open", "closed", "event"]

    def test_a_nested_one_that_stays_open_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        _, tide = make()

        def database() -> Iterator[str]:
            yield "db"

        def user(db: str = Depends(database)) -> str:
            return db

        def pool_user(db: str = Depends(database, scope="function")) -> str:
            return db

        async def quiet(user: str = Depends(pool_user)) -> AsyncIterator[str]:
            yield user

        async def loud(user: str = Depends(user)) -> AsyncIterator[str]:
            yield user

        tide.stream(quiet)
        assert caplog.text == ""
        tide.stream(loud)
        assert 'Depends(database, scope="function")' in caplog.text

    def test_one_that_refuses_starts_nothing(self) -> None:
        from fastapi import HTTPException

        app, tide = make()
        begun: list[int] = []

        def refuse() -> None:
            raise HTTPException(403, "No.")

        @app.get("/chat", dependencies=[Depends(refuse)])
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            begun.append(1)
            yield "x"

        with serve(app) as server:
            assert server.watch("/chat").status == 403
            assert server.client.get("/runs").json()["runs"] == []
        assert begun == []


class TestOrder:
    """Decorators in the wrong order: the route holds the generator function, and FastAPI would stream JSON lines."""

    WRONG = "below the route's decorator"

    @pytest.mark.parametrize("where", ["app", "router", "router in a router", "mount"])
    def test_the_wrong_one_is_warned_of_at_start_up(self, where: str, caplog: pytest.LogCaptureFixture) -> None:
        app, tide = make()
        router, outer, inner = APIRouter(), APIRouter(), FastAPI()
        place: Any = {"app": app, "mount": inner}.get(where, router)

        @tide.stream
        @place.get("/wrong")
        async def wrong() -> AsyncIterator[str]:
            yield "x"

        if where == "router":
            app.include_router(router, prefix="/r")
        elif where == "router in a router":
            outer.include_router(router)
            app.include_router(outer)
        elif where == "mount":
            app.mount("/sub", inner)
        assert wrong.__name__ in {getattr(route, "name", "") for route in all_routes(app)}
        with serve(app):
            pass
        assert "/wrong holds wrong itself" in caplog.text
        assert self.WRONG in caplog.text

    def test_the_right_one_is_not(self, caplog: pytest.LogCaptureFixture) -> None:
        app, tide = make()
        router = APIRouter()

        @app.get("/one")
        @tide.stream
        async def one() -> AsyncIterator[str]:
            yield "x"

        @router.get("/other")
        @tide.stream
        async def other() -> AsyncIterator[str]:
            yield "x"

        app.include_router(router)
        with serve(app):
            pass
        assert self.WRONG not in caplog.text


class TestGenerators:
    def test_a_sync_one_runs_in_one_thread(self) -> None:
        app, tide = make()
        threads: list[int] = []

        @app.get("/chat")
        @tide.stream
        def chat() -> Iterator[str]:
            try:
                for word in "abc":
                    threads.append(threading.get_ident())
                    yield word
            finally:
                threads.append(threading.get_ident())

        with serve(app) as server:
            assert rebuild(server.watch("/chat").rest()) == "abc"
        assert len(set(threads)) == 1
        assert threads[0] != threading.get_ident()

    def test_a_sync_one_that_waits_blocks_nobody(self) -> None:
        app, tide = make()
        gate = Gate()

        @app.get("/chat")
        @tide.stream
        def chat() -> Iterator[str]:
            yield "Hel"
            gate.block()
            yield "lo"

        with serve(app) as server:
            viewers = [server.watch("/chat") for _ in range(20)]
            gate.reached(20)
            assert server.client.get("/healthz").status_code == 200
            gate.open()
            assert {rebuild(viewer.rest()) for viewer in viewers} == {"Hello"}

    def test_a_context_is_the_same_from_the_first_step_to_the_last(self) -> None:
        from contextvars import ContextVar

        app, tide = make()
        place: ContextVar[str] = ContextVar("place")

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            token = place.set("run")
            try:
                yield place.get()
                yield place.get()
            finally:
                place.reset(token)

        @app.get("/sync")
        @tide.stream
        def sync() -> Iterator[str]:
            token = place.set("run")
            try:
                yield place.get()
                yield place.get()
            finally:
                place.reset(token)

        with serve(app) as server:
            for path in ("/chat", "/sync"):
                frames = server.watch(path).rest()
                assert (rebuild(frames), frames[-1].json["outcome"]) == ("runrun", "completed")

    def test_response_takes_every_kind_of_source(self) -> None:
        app, tide = make()

        async def agen() -> AsyncIterator[str]:
            yield "ab"

        def gen() -> Iterator[str]:
            yield "ab"

        async def factory() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            return agen()

        works: dict[str, Any] = {
            "agen": agen, "agen_object": agen, "gen": gen, "gen_object": gen,
            "list": lambda: ["a", "b"], "coroutine": factory,
        }  # fmt: skip

        @app.get("/{name}")
        async def answer(name: str) -> Response:
            work = works[name]
            return tide.response(work() if name.endswith("_object") or name == "list" else work)

        with serve(app) as server:
            for name in works:
                assert rebuild(server.watch(f"/{name}").rest()) == "ab", name

    def test_response_refuses_what_is_no_source_or_has_begun(self) -> None:
        _, tide = make()

        def gen() -> Iterator[str]:
            yield "a"
            yield "b"

        begun = gen()
        next(begun)
        for work in (begun, 3, None):
            with pytest.raises(InvalidRequest):
                tide.response(work)


class TestRuns:
    def test_start_outside_a_request(self) -> None:
        app, tide = make()
        gate = Gate()

        async def work() -> AsyncIterator[str]:
            yield "Hel"
            await gate.wait()
            yield "lo"

        with serve(app) as server:
            run = server.call(lambda: tide.start(work, thread="t", gap_timeout=5.0))
            assert len(run.id) == 26
            gate.open()
            assert server.call(run.wait) == "completed"
            assert rebuild(server.watch(f"/runs/{run.id}/events").rest()) == "Hello"
            assert [one["run"] for one in server.client.get("/threads/t").json()["runs"]] == [run.id]

    def test_start_at_start_up(self) -> None:
        """In the application's own lifespan, before its first request."""
        from contextlib import asynccontextmanager

        tide = make_tide()
        runs: list[str] = []

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            runs.append((await tide.start(["Hi"])).id)
            yield

        app = FastAPI(lifespan=lifespan)
        app.include_router(tide.router)
        with serve(app) as server:
            assert rebuild(server.watch(f"/runs/{runs[0]}/events").rest()) == "Hi"

    def test_emit_in_nested_code_and_in_threads(self) -> None:
        app, tide = make()

        def in_a_thread() -> None:
            tide.emit({"from": "thread"})
            assert current_run().head.route == "/chat"

        async def nested() -> None:
            tide.emit(ToolStarted(call="c", name="search"))
            await asyncio.to_thread(in_a_thread)
            await asyncio.gather(asyncio.create_task(task()))
            tide.emit(ToolEnded(call="c"))

        async def task() -> None:
            tide.emit({"from": "task"})

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            yield "a"
            await nested()
            yield "b"

        with serve(app) as server:
            frames = server.watch("/chat").rest()
        assert types(frames) == [
            "run.started", "text.delta", "tool.started", "data", "data", "tool.ended", "text.ended",
            "text.delta", "text.ended", "run.ended",
        ]  # fmt: skip
        assert [frame.json["data"]["from"] for frame in frames if frame.json["type"] == "data"] == ["thread", "task"]

    def test_emit_in_a_sync_generator(self) -> None:
        app, tide = make()

        @app.get("/chat")
        @tide.stream
        def chat() -> Iterator[str]:
            yield "a"
            tide.emit({"n": 1})
            yield "b"

        with serve(app) as server:
            assert types(server.watch("/chat", params={"merge": "0"}).rest())[1:4] == [
                "text.delta",
                "data",
                "text.delta",
            ]

    def test_emit_and_current_run_outside_a_run(self) -> None:
        _, tide = make()
        with pytest.raises(InvalidRequest):
            tide.emit("x")
        with pytest.raises(InvalidRequest):
            current_run()

    def test_emit_after_the_end_is_an_error_and_adds_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        app, tide = make()
        late = Gate()
        failed: list[Exception] = []

        async def straggler() -> None:
            await late.wait()
            try:
                tide.emit("too late")
            except InvalidEvent as error:
                failed.append(error)

        tasks: list[asyncio.Task[None]] = []

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            tasks.append(asyncio.create_task(straggler()))
            yield "a"

        with serve(app) as server:
            viewer = server.watch("/chat")
            viewer.rest()
            late.open()
            server.call(lambda: asyncio.wait(tasks))
            assert server.client.get(f"/runs/{viewer.run}").json()["last_seq"] == 4
        assert len(failed) == 1

    def test_current_run_knows_its_ids(self) -> None:
        app, tide = make()

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[dict[str, Any]]:
            run = current_run()
            yield {"run": run.id, "thread": run.thread, "mode": run.mode}

        with serve(app) as server:
            viewer = server.watch("/chat", params={"thread": "t"})
            [data] = [frame.json["data"] for frame in viewer.rest() if frame.json["type"] == "data"]
        assert data == {"run": viewer.run, "thread": "t", "mode": None}


def test_slow_sync_streams_do_not_wait_for_each_other() -> None:
    """Ten that take a moment each end together, not one after the other."""
    app, tide = make()
    pause = 1.0

    @app.get("/chat")
    @tide.stream
    def chat() -> Iterator[str]:
        time.sleep(pause)
        yield "done"

    with serve(app) as server:
        begun = time.monotonic()
        viewers = []
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(10) as pool:
            viewers = list(pool.map(lambda _: server.watch("/chat").text, range(10)))
        assert time.monotonic() - begun < 10 * pause
    assert len(viewers) == 10


def test_the_log_says_how_a_run_ended(caplog: pytest.LogCaptureFixture) -> None:
    app, tide = make()

    @app.get("/chat")
    @tide.stream
    async def chat() -> AsyncIterator[str]:
        yield "x"

    with caplog.at_level(logging.INFO, logger="tidelog"), serve(app) as server:
        viewer = server.watch("/chat")
        viewer.rest()
        server.client.get("/healthz")
    assert f"run {viewer.run} ended: completed" in caplog.text
    assert len([one for one in caplog.records if one.name == "tidelog"]) == 2, "never one line per token"
