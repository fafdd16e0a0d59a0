"""Every limit ends what it limits, with the code that spec §11 names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from tests.server.chat import Chat, make_tide, types

from tidelog import Limits, Progress
from tidelog.testing import Gate, Viewer, freeze, rebuild, serve


def ending(viewer: Viewer) -> tuple[str, str]:
    last = viewer.rest()[-1].json
    return last["outcome"], last["error"]["code"]


class TestTimes:
    def test_the_first_event(self) -> None:
        chat = Chat(Gate(), first_event_timeout=0.05, status_hold=0.0)
        with serve(chat.app) as server:
            assert ending(server.watch("/chat")) == ("timed_out", "timed_out")
            assert chat.script.closed == 1

    def test_a_gap(self) -> None:
        chat = Chat("Hel", Gate(), gap_timeout=0.05)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert ending(viewer) == ("timed_out", "timed_out")
            assert rebuild(viewer.frames) == "Hel"

    def test_all_of_it(self) -> None:
        tide = make_tide()
        app = FastAPI()
        app.include_router(tide.router)

        async def busy() -> Any:
            while True:
                yield Progress(task="spin")
                await pause()

        @app.get("/chat")
        async def chat() -> Response:
            return tide.response(busy, total_timeout=0.1, gap_timeout=60.0)

        with serve(app) as server:
            assert ending(server.watch("/chat")) == ("timed_out", "timed_out")

    def test_heartbeats_do_not_keep_a_silent_source_alive(self) -> None:
        chat = Chat("Hel", Gate(), gap_timeout=0.2, tide=make_tide(heartbeat=0.02))
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert ending(viewer) == ("timed_out", "timed_out")
        assert viewer.parser.comments

    def test_limits_of_the_application_and_of_an_endpoint(self) -> None:
        tide = make_tide(limits=Limits(gap_timeout=0.05))
        for options, outcome in (({}, "timed_out"), ({"gap_timeout": 60.0}, "stopped")):
            chat = Chat("Hel", Gate(), tide=tide, **options)
            with serve(chat.app) as server:
                viewer = server.watch("/chat")
                viewer.read(2)
                if outcome == "stopped":
                    server.client.post(f"/runs/{viewer.run}/stop")
                assert viewer.rest()[-1].json["outcome"] == outcome
            tide = make_tide(limits=Limits(gap_timeout=0.05))

    def test_unknown_options_are_errors_at_once(self) -> None:
        with pytest.raises(TypeError, match="gap_timout"):
            make_tide().response(Gate, gap_timout=1.0)  # type: ignore[call-arg]


async def pause() -> None:
    import asyncio

    await asyncio.sleep(0.005)


class TestSizes:
    def test_of_an_event(self) -> None:
        chat = Chat("Hel", "x" * 2000, "lo", max_event_bytes=1000)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert ending(viewer) == ("failed", "too_large")
            assert types(viewer.frames) == ["run.started", "text.delta", "text.ended", "run.ended"]

    def test_of_the_first_event_is_a_status(self) -> None:
        chat = Chat("x" * 2000, max_event_bytes=1000)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert (viewer.status, viewer.json["code"]) == (413, "too_large")

    def test_of_a_run(self) -> None:
        chat = Chat(*["x" * 100] * 50, max_run_bytes=2000)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert ending(viewer) == ("failed", "too_large")
            assert 0 < len(rebuild(viewer.frames)) <= 2000

    def test_of_records(self) -> None:
        chat = Chat(*["x"] * 50, max_run_records=20)
        with serve(chat.app) as server:
            viewer = server.watch("/chat")
            assert ending(viewer) == ("failed", "too_large")
            assert rebuild(viewer.frames) == "x" * 19

    def test_of_a_body(self) -> None:
        chat = Chat("Hi", max_body_bytes=1000)
        with serve(chat.app) as server:
            viewer = server.watch("/chat", json={"q": "x" * 2000})
            assert (viewer.status, viewer.json["code"]) == (413, "too_large")
            assert server.watch("/chat", json={"q": "x" * 500}).status == 200
        assert chat.script.started == 1

    def test_of_a_body_with_the_decorator(self) -> None:
        tide, app = make_tide(), FastAPI()
        app.include_router(tide.router)

        @app.post("/chat")
        @tide.stream(max_body_bytes=1000)
        async def chat(body: dict[str, str]) -> Any:
            yield "Hi"

        with serve(app) as server:
            assert server.watch("/chat", json={"q": "x" * 2000}).status == 413
            assert server.watch("/chat", json={"q": "x" * 500}).status == 200


class TestViewers:
    @pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
    def test_one_that_takes_nothing_is_closed(self, bare: bool) -> None:
        """It is let go, and it hears that its stream is not complete; the run and the other viewers go on."""
        gate = Gate()
        chat = Chat(*["x" * 50_000] * 100, gate, "end", tide=make_tide(send_timeout=0.2))
        with serve(chat.app, bare=bare) as server:
            stalled = freeze(f"{server.url}/chat", after=1)
            gate.reached()
            run = server.call(lambda: chat.tide.runner.live(stalled.run))
            assert run is not None
            until_gone(server, run)
            assert server.client.get(f"/runs/{stalled.run}").json()["state"] == "running"
            gate.open()
            assert len(rebuild(server.watch(f"/runs/{stalled.run}/events").rest())) == 100 * 50_000 + 3
            if not bare:
                assert stalled.cut()
            stalled.close()

    def test_one_that_is_slow_is_not(self) -> None:
        """`send_timeout` is about a viewer that takes nothing at all, not about one that takes little."""
        chat = Chat(*["x" * 50_000] * 40, tide=make_tide(send_timeout=0.5))
        with serve(chat.app) as server:
            viewer = freeze(f"{server.url}/chat")
            viewer.rest()
            assert viewer.complete
            assert len(rebuild(viewer.frames)) == 40 * 50_000

    def test_lockstep_holds_the_source_to_its_slowest_viewer(self) -> None:
        told: list[int] = []
        gate = Gate()
        tide, app = make_tide(), FastAPI()
        app.include_router(tide.router)

        async def rows() -> Any:
            for number in range(200):
                told.append(number)
                yield "x" * 10_000

        @app.get("/rows")
        async def endpoint(request: Request) -> Response:
            return tide.response(rows, lockstep=100_000)

        with serve(app) as server:
            slow = freeze(f"{server.url}/rows", after=1)
            quick = server.watch(f"/runs/{slow.run}/events")
            quick.read(3)
            wait_until_still(server, told)
            held = len(told)
            assert held < 150, "the source ran away from its slowest viewer"
            slow.drop()
            assert len(rebuild(quick.rest() and quick.frames)) == 2_000_000
        assert not gate.is_open

    def test_lockstep_without_viewers_waits_for_one(self) -> None:
        told: list[int] = []
        tide, app = make_tide(), FastAPI()
        app.include_router(tide.router)

        async def rows() -> Any:
            for number in range(100):
                told.append(number)
                yield "x" * 10_000

        @app.get("/rows")
        async def endpoint() -> Response:
            return tide.response(rows, lockstep=100_000)

        with serve(app) as server:
            found = server.watch("/rows", headers={"Prefer": "respond-async"}).json
            wait_until_still(server, told)
            assert len(told) < 30
            assert len(rebuild(server.watch(found["events"]).rest())) == 1_000_000

    def test_lockstep_does_not_wait_for_a_viewer_in_another_process(self, tmp_path: Path) -> None:
        """How far that is, only its own process knows."""
        told: list[int] = []
        apps = []
        for _ in range(2):
            tide, app = make_tide(f"sqlite:///{tmp_path}/t.db"), FastAPI()
            app.include_router(tide.router)
            apps.append((tide, app))

        async def rows() -> Any:
            for number in range(100):
                told.append(number)
                yield "x" * 10_000

        @apps[0][1].get("/rows")
        async def endpoint() -> Response:
            return apps[0][0].response(rows, lockstep=100_000)

        with serve(apps[0][1]) as owner, serve(apps[1][1]) as other:
            found = owner.watch("/rows", headers={"Prefer": "respond-async"}).json
            wait_until_still(owner, told)
            assert len(told) < 30
            assert len(rebuild(other.watch(found["events"]).rest())) == 1_000_000


def until_gone(server: Any, run: Any) -> None:
    """Until the run has no viewer any more."""
    import time

    until = time.monotonic() + 10
    while server.call(lambda: len(run.viewers)):
        assert time.monotonic() < until
        time.sleep(0.01)


def wait_until_still(server: Any, told: list[int]) -> None:
    """Until the source has not moved over many turns of the loop."""
    import asyncio

    async def still() -> None:
        before = -1
        while before != len(told):
            before = len(told)
            await asyncio.sleep(0.15)

    server.call(still)
