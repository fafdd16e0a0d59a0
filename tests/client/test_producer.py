"""`tidelog.client`: a run written from outside, over a real connection that may break."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from tests.client.flaky import Flaky
from tests.conftest import count
from tests.server.chat import make_tide, who

from tidelog import Progress, SourceError, Sources, ToolEnded, ToolStarted
from tidelog.client import Stopped, connect
from tidelog.errors import InvalidEvent, InvalidRequest, TidelogError, Unavailable
from tidelog.testing import Server, serve


@pytest.fixture
def server() -> Iterator[Server]:
    with served(make_tide()) as found:
        yield found


def served(tide: Any) -> Any:
    app = FastAPI()
    app.include_router(tide.router)
    return serve(app)


def log_of(server: Server, run: str) -> list[dict[str, Any]]:
    return [frame.json for frame in server.watch(f"/runs/{run}/events", params={"merge": "0"}).rest()]


def text_of(log: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in log if event["type"] == "text.delta")


def test_everything_that_can_be_said(server: Server) -> None:
    with connect(server.url, "job", thread="t") as run:
        assert (run.run, run.url, run.stopped) == ("job", f"{server.url}/runs/job", False)
        run.text("Hello, ")
        run.text("world")
        run.data({"n": 1}, name="row")
        run.event(ToolStarted(call="c1", name="sum"))
        run.event(ToolEnded(call="c1", output=3))
        run.event(Sources([{"id": "s1", "title": "Guide"}]))
        for n in range(1, 1001):
            run.progress(n, 1000, "counting")
        assert run.flush(10)
    log = log_of(server, "job")
    assert text_of(log) == "Hello, world"
    kinds = [event["type"] for event in log]
    assert [kind for kind in kinds if kind not in ("text.delta", "progress")] == [
        "run.started", "data", "tool.started", "tool.ended", "sources", "text.ended", "run.ended",
    ]  # fmt: skip
    told = [event["done"] for event in log if event["type"] == "progress"]
    assert (told[0], told[-1]) == (1, 1000)
    assert len(told) < 20
    assert (log[0]["thread"], log[-1]["outcome"], run.outcome) == ("t", "completed", "completed")


def test_long_text_and_many_events_go_in_bounded_batches(server: Server) -> None:
    long = "你好 " * 50_000
    with connect(server.url) as run:
        run.text(long)
        for n in range(3000):
            run.data({"n": n})
    log = log_of(server, run.run)
    assert text_of(log) == long
    assert [event["data"]["n"] for event in log if event["type"] == "data"] == list(range(3000))


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (SourceError("The disk is full.", code="no_disk"), "no_disk", "The disk is full."),
        (ValueError("secret"), "internal", "Something went wrong on the server."),
    ],
)
def test_a_block_that_raises_fails_the_run(server: Server, raised: Exception, code: str, words: str) -> None:
    def work() -> None:
        with connect(server.url, "job") as run:
            run.text("so far")
            raise raised

    with pytest.raises(type(raised)):
        work()
    log = log_of(server, "job")
    assert text_of(log) == "so far"
    assert (log[-1]["outcome"], log[-1]["error"]["code"], log[-1]["error"]["message"]) == ("failed", code, words)
    assert "secret" not in str(log)


def test_ctrl_c_stops_the_run(server: Server) -> None:
    def work() -> None:
        with connect(server.url, "job"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert log_of(server, "job")[-1]["outcome"] == "stopped"


def test_stopping_ends_the_block(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidelog.client.producer.HEARTBEAT", 0.05)
    done = []
    with connect(server.url, "job") as run:
        run.text("a")
        assert server.client.post("/runs/job/stop").json() == {"result": "stopped"}
        assert run._over.wait(10), "a heartbeat brings it"
        assert run.stopped
        with pytest.raises(Stopped):
            run.progress(1)
        run.text("b")
        done.append("never")
    assert (done, run.outcome) == ([], "stopped")
    assert text_of(log_of(server, "job")) == "a"


def test_many_threads_write_one_run(server: Server) -> None:
    with connect(server.url) as run:

        def work(name: int) -> None:
            for n in range(100):
                run.data([name, n])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [event["data"] for event in log_of(server, run.run) if event["type"] == "data"]
    for name in range(8):
        assert [n for who, n in found if who == name] == list(range(100))
    assert len(found) == 800


@pytest.mark.parametrize("seed", range(count(3, 100)))
def test_connections_that_break(server: Server, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and answers are lost: each event is stored once, in order."""
    monkeypatch.setattr("tidelog.client.producer.BACKOFF", (0.001, 0.01))
    monkeypatch.setattr("tidelog.client.producer.LINGER", 0.001)
    with Flaky(server.url, seed) as proxy, connect(proxy.url) as run:
        for n in range(40):
            run.event(Progress(task=f"t{n}", done=n))
            assert run.flush(10)
    found = [event["done"] for event in log_of(server, run.run) if event["type"] == "progress"]
    assert found == list(range(40))
    assert {"lose request", "lose answer"} <= set(proxy.lost)
    assert log_of(server, run.run)[-1]["outcome"] == "completed"


def test_a_producer_that_begins_again_fences_the_one_before(server: Server) -> None:
    def work() -> None:
        with connect(server.url, "job", producer="sync") as first:
            first.text("one ")
            assert first.flush(10)
            with connect(server.url, "job", producer="sync", epoch=1) as second:
                second.text("two")
                assert second.flush(10)
                first.text("late")
                assert not first.flush(10)

    with pytest.raises(TidelogError) as caught:
        work()
    assert caught.value.code == "fenced"
    assert text_of(log_of(server, "job")) == "one two"


def test_a_producer_that_goes_on_knows_where_it_was(server: Server) -> None:
    with connect(server.url, "job", producer="sync") as first:
        first.data(1)
        first.data(2)
        assert first.flush(10)
        with connect(server.url, "job", producer="sync") as second:
            assert second.known == 2
            second.data(3)
        assert not first.stopped or first.outcome == "completed"
    assert [event["data"] for event in log_of(server, "job") if event["type"] == "data"] == [1, 2, 3]


class TestTrouble:
    def test_what_makes_no_sense(self, server: Server) -> None:
        with pytest.raises(InvalidRequest):
            connect(server.url, "a.b")
        with pytest.raises(InvalidRequest):
            connect("localhost:8000")
        with connect(server.url) as run, pytest.raises(InvalidEvent):
            run.data(object())
        assert run.outcome == "completed", "nothing of it was sent"

    def test_nobody_answers(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(Unavailable, match="nobody answers"), connect(url, patience=0.2):
                pass

    def test_a_server_that_is_no_tidelog(self) -> None:
        with serve(FastAPI()) as other, pytest.raises(TidelogError, match="router"), connect(other.url):
            pass

    def test_an_event_that_the_grammar_forbids(self, server: Server) -> None:
        def work() -> None:
            with connect(server.url, "job") as run:
                run.event(ToolEnded(call="nosuch"))
                run.flush(10)

        with pytest.raises(TidelogError) as caught:
            work()
        assert caught.value.code == "invalid_batch"
        ended = log_of(server, "job")[-1]
        assert (ended["outcome"], ended["error"]["code"]) == ("failed", "invalid_batch")

    def test_a_key_is_sent_and_never_told(self) -> None:
        def principal(request: Any) -> str | None:
            return "ann" if request.headers.get("authorization") == "Bearer k3y" else None

        with served(make_tide(principal=principal)) as server:
            with connect(server.url, "job", key="k3y") as run:
                run.text("x")
            assert server.client.get("/runs/job").status_code == 401
            assert (
                server.client.get("/runs/job", headers={"Authorization": "Bearer k3y"}).json()["outcome"] == "completed"
            )
        assert "k3y" not in repr(vars(run))

    def test_another_principals_run(self) -> None:
        with served(make_tide(principal=who)) as server:
            with connect(server.url, "job", headers={"X-User": "ann"}):
                pass
            with pytest.raises(TidelogError) as caught, connect(server.url, "job", headers={"X-User": "bob"}):
                pass
        assert caught.value.code == "not_found"
