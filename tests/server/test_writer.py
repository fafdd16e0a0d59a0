"""`tide.writer()`: a run that a plain thread of the process writes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from tests.server.chat import make_tide

from tidelog import Data, SourceError, Tidelog
from tidelog.client import Stopped
from tidelog.errors import InvalidEvent, InvalidRequest
from tidelog.server.beside import Beside
from tidelog.testing import Server, serve


def written(tide: Tidelog, work: Callable[[Beside], Any]) -> tuple[list[dict[str, Any]], BaseException | None]:
    """What a thread's run holds in the end, and what its block raised."""
    app, raised, runs = FastAPI(), list[BaseException](), list[str]()
    app.include_router(tide.router)

    def thread() -> None:
        try:
            with tide.writer() as run:
                runs.append(run.run.id)
                work(run)
        except BaseException as error:
            raised.append(error)

    with serve(app) as server:
        working = threading.Thread(target=thread)
        working.start()
        working.join(20)
        return log_of(server, runs[0]), raised[0] if raised else None


def log_of(server: Server, run: str) -> list[dict[str, Any]]:
    return [frame.json for frame in server.watch(f"/runs/{run}/events", params={"merge": "0"}).rest()]


def test_what_a_thread_writes() -> None:
    def work(run: Beside) -> None:
        run.text("Hello, ")
        run.text("world")
        run.event(Data(data=1))
        for n in range(1, 1001):
            run.progress(n, 1000)

    log, raised = written(make_tide(), work)
    assert raised is None
    assert [event["text"] for event in log if event["type"] == "text.delta"] == ["Hello, ", "world"]
    told = [event["done"] for event in log if event["type"] == "progress"]
    assert (told[0], told[-1], log[-1]["outcome"]) == (1, 1000, "completed")
    assert len(told) < 20


def test_a_block_that_raises() -> None:
    def work(run: Beside) -> None:
        run.text("so far")
        raise SourceError("The disk is full.", code="no_disk")

    log, raised = written(make_tide(), work)
    assert isinstance(raised, SourceError)
    assert (log[-1]["outcome"], log[-1]["error"]["message"]) == ("failed", "The disk is full.")


def test_stopping_ends_the_block() -> None:
    tide, after = make_tide(), []

    def work(run: Beside) -> None:
        run.run.loop.call_soon_threadsafe(run.run.stop)
        with pytest.raises(Stopped):
            list(map(run.data, range(1_000_000)))
        assert run._over.wait(10)
        run.progress(1)
        after.append("never")

    log, raised = written(tide, work)
    assert (log[-1]["outcome"], raised, after) == ("stopped", None, [])


def test_an_event_that_the_grammar_forbids() -> None:
    def work(run: Beside) -> None:
        with pytest.raises(InvalidEvent):
            run.data(object())
        run.text("on")

    log, raised = written(make_tide(), work)
    assert (raised, log[-1]["outcome"]) == (None, "completed")


def test_ctrl_c_stops_the_run() -> None:
    def work(run: Beside) -> None:
        raise KeyboardInterrupt

    log, raised = written(make_tide(), work)
    assert isinstance(raised, KeyboardInterrupt)
    assert log[-1]["outcome"] == "stopped"


def test_where_it_cannot_be() -> None:
    tide, app = make_tide(), FastAPI()
    app.include_router(tide.router)
    with pytest.raises(InvalidRequest, match="run"):
        tide.writer()

    @app.get("/")
    async def here() -> str:
        with pytest.raises(InvalidRequest, match="threads"), tide.writer():
            pass
        return "refused"

    with serve(app) as server:
        assert server.client.get("/").json() == "refused"
