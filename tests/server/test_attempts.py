"""`attempts`: a source that fails before its first event is tried again, and viewers are told (spec §4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.server.chat import JSON, Chat, make_tide, types

from tidelog import Progress, SourceError, Tidelog, attempts, current_run
from tidelog import events as e
from tidelog.attempts import LONGEST_WAIT, RETRY_AFTER_LIMIT, wait_before
from tidelog.errors import InvalidRequest
from tidelog.testing import Gate, rebuild, serve

BUSY = SourceError("Busy.", code="rate_limited", retry_after=0)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.001)


class Failing:
    """Fails with these errors, one for each attempt, and then answers. `seen` tells the attempts."""

    def __init__(self, *errors: Exception, before: Any = None) -> None:
        self.errors = iter(errors)
        self.before = before
        self.seen: list[int] = []

    async def __call__(self) -> AsyncIterator[Any]:
        self.seen.append(current_run().attempt)
        yield self.before
        if error := next(self.errors, None):
            raise error
        yield f"attempt {current_run().attempt}"


def chat(source: Any, **options: Any) -> FastAPI:
    tide, app = make_tide(), FastAPI()
    app.include_router(tide.router)

    @app.get("/chat")
    async def answer() -> Response:
        return tide.response(source, **options)

    return app


def test_it_is_tried_again_and_the_viewer_is_told() -> None:
    source = Failing(BUSY, SourceError("Down."))
    with serve(chat(source, attempts=3)) as server, server.watch("/chat") as viewer:
        frames = viewer.rest()
    assert rebuild(frames) == "attempt 3"
    assert source.seen == [1, 2, 3]
    told = [frame.json for frame in frames if frame.json["type"] == "progress"]
    assert [(one["task"], one["done"], one["total"], one["note"]) for one in told] == [
        ("attempt", 2, 3, "Busy."), ("attempt", 3, 3, "Down."),
    ]  # fmt: skip
    assert frames[-1].json["outcome"] == "completed"


@pytest.mark.parametrize("accept", [None, JSON])
def test_the_last_failure_is_still_a_real_status(accept: str | None) -> None:
    """The attempts that are told in the log are no event of the source's."""
    source = Failing(*[BUSY] * 3)
    with serve(chat(source, attempts=3)) as server, server.watch("/chat", accept=accept) as viewer:
        assert (viewer.status, viewer.json["code"], viewer.json["detail"]) == (429, "rate_limited", "Busy.")
    assert source.seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("source", "tried"),
    [
        (Failing(BUSY, before="a word"), 1),
        (Failing(BUSY, before=Progress(task="search")), 1),
        (Failing(ValueError("a mistake")), 1),
        (Failing(SourceError("No.", retryable=False)), 1),
        (Failing(SourceError("Wrong.", code="invalid_request")), 1),
        (Failing(SourceError("Later.", code="overloaded", retry_after=RETRY_AFTER_LIMIT + 1)), 1),
        (Failing(TimeoutError()), 2),
        (Failing(SourceError("Down."), BUSY, TimeoutError()), 2),
    ],
    ids=["after text", "after progress", "a mistake", "for good", "a request", "too late", "in time", "not for ever"],
)
def test_when_it_is_tried_again(source: Failing, tried: int) -> None:
    with serve(chat(source, attempts=2)) as server, server.watch("/chat") as viewer:
        viewer.rest()
    assert source.seen == list(range(1, tried + 1))


def test_by_default_it_is_not() -> None:
    source = Failing(BUSY)
    with serve(chat(source)) as server, server.watch("/chat") as viewer:
        assert viewer.status == 429
    assert source.seen == [1]


def test_stop_is_obeyed_while_it_waits() -> None:
    with serve(chat(Failing(SourceError("Later.", retry_after=30)), attempts=2, status_hold=0.01)) as server:
        viewer = server.watch("/chat")
        viewer.read(2)
        assert server.client.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
        viewer.rest()
        [run] = server.client.get("/runs").json()["runs"]
    assert types(viewer.frames) == ["run.started", "progress", "run.ended"]
    assert run["outcome"] == "stopped"


def test_the_limit_of_the_whole_run_holds() -> None:
    """What cannot begin in time is not waited for."""
    source = Failing(SourceError("Later.", code="overloaded", retry_after=30))
    with serve(chat(source, attempts=2, total_timeout=20)) as server, server.watch("/chat") as viewer:
        assert (viewer.status, viewer.json["retry_after"]) == (503, 30)


def test_each_attempt_has_its_own_time_for_the_first_event() -> None:
    gate = Gate()

    async def late() -> AsyncIterator[str]:
        if current_run().attempt == 1:
            raise BUSY
        await gate.wait()
        yield "never"

    with serve(chat(late, attempts=2, first_event_timeout=0.05)) as server, server.watch("/chat") as viewer:
        assert (viewer.status, viewer.json["code"]) == (504, "timed_out")
    assert gate.arrived == 1


def test_a_source_is_closed_before_the_next_attempt() -> None:
    order: list[str] = []

    async def source() -> AsyncIterator[str]:
        order.append("begun")
        try:
            if current_run().attempt == 1:
                raise BUSY
            yield "Hi"
        finally:
            order.append("closed")

    with serve(chat(source, attempts=2)) as server:
        assert rebuild(server.watch("/chat").rest()) == "Hi"
    assert order == ["begun", "closed"] * 2


def test_a_sync_function_and_the_decorator() -> None:
    tide, app, seen = make_tide(), FastAPI(), list[int]()
    app.include_router(tide.router)

    @app.get("/sync")
    @tide.stream(attempts=2)
    def sync() -> Iterator[str]:
        seen.append(current_run().attempt)
        if current_run().attempt == 1:
            raise BUSY
        yield "Hi"

    with serve(app) as server:
        assert rebuild(server.watch("/sync").rest()) == "Hi"
    assert seen == [1, 2]


def _generator() -> AsyncIterator[str]:
    return Failing()()


@pytest.mark.parametrize("make", [_generator, lambda: (word for word in "ab"), lambda: ["a"], lambda: iter("ab")])
def test_what_cannot_be_begun_again_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidRequest, match="needs a function that makes the generator"):
        make_tide().response(make(), attempts=2)
    make_tide().response(make())


def test_tide_start_has_attempts_too() -> None:
    tide, source = make_tide(), Failing(BUSY)
    with serve(Chat("", tide=tide).app) as server:
        run = server.call(lambda: tide.start(source, attempts=2))
        assert server.call(run.wait) == "completed"
        with pytest.raises(InvalidRequest):
            server.call(lambda: tide.start(["a"], attempts=2))
    assert source.seen == [1, 2]


@pytest.mark.parametrize("value", [0, 11, -1])
def test_the_number_has_limits(value: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 10"):
        Tidelog("memory:").response(Failing(), attempts=value)


def test_a_run_that_continues_is_tried_again_with_its_text() -> None:
    """The snapshot is not the source's, and stands once."""
    tide, app, gate = make_tide(), FastAPI(), Gate()
    app.include_router(tide.router)

    @app.get("/chat")
    @tide.stream(attempts=2)
    async def answer() -> AsyncIterator[str]:
        run = current_run()
        if run.mode is None:
            yield "Once upon a time"
            await gate.wait()
        if run.attempt == 1:
            raise BUSY
        yield "upon a time there was"

    with serve(app) as server:
        old = server.watch("/chat")
        old.read(2)
        server.client.post(f"/runs/{old.run}/stop")
        new = server.client.post(f"/runs/{old.run}/continue").json()
        frames = server.watch(new["events"]).rest()
    assert rebuild(frames) == "Once upon a time there was"
    assert types(frames).count("text.snapshot") == 1
    assert types(frames)[1:3] == ["text.snapshot", "progress"]


def test_what_is_emitted_while_it_waits_counts() -> None:
    """A part of the source that lives on: what it says must not be said twice."""
    said = Gate()

    async def source() -> AsyncIterator[str]:
        run = current_run()
        run.loop.call_later(0.01, lambda: (run.emit("late"), said.open()))
        raise SourceError("Down.", retry_after=0.3)
        yield ""

    with serve(chat(source, attempts=2, status_hold=0.01)) as server:
        frames = server.watch("/chat").rest()
    assert said.is_open
    assert (rebuild(frames), frames[-1].json["error"]["message"]) == ("late", "Down.")


class TestWaits:
    def test_as_long_as_the_provider_wants(self) -> None:
        for seconds in (0.0, 3.0, RETRY_AFTER_LIMIT):
            wait = wait_before(2, e.Error.of("rate_limited", retry_after=seconds))
            assert wait is not None
            assert seconds <= wait <= seconds + 1
        assert wait_before(2, e.Error.of("rate_limited", retry_after=RETRY_AFTER_LIMIT + 1)) is None

    def test_longer_each_time_up_to_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attempts, "FIRST_WAIT", 0.5)
        error = e.Error.of("overloaded")
        for attempt, longest in ((2, 0.5), (3, 1.0), (4, 2.0), (10, LONGEST_WAIT), (10**6, LONGEST_WAIT)):
            waits = [wait_before(attempt, error) or 0.0 for _ in range(50)]
            assert all(longest / 2 <= wait <= longest for wait in waits)
            assert len(set(waits)) > 1, "many runs must not come back at once"

    def test_not_for_our_own_errors(self) -> None:
        for code in ("internal", "invalid_event", "store_unavailable", "interrupted", "invalid_request", "too_large"):
            assert wait_before(2, e.Error.of(code)) is None


def test_the_status_waits_for_the_source() -> None:
    """An attempt that is told is no reason to answer 200."""
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        if current_run().attempt == 1:
            raise BUSY
        current_run().loop.call_later(0.05, gate.open)
        await gate.wait()
        raise SourceError("Down.", code="overloaded")
        yield ""

    with serve(chat(source, attempts=2)) as server:
        assert server.watch("/chat").status == 503
