"""A thread announces its runs: whoever watches it, on whatever device and through whatever process, hears of each as it comes."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from tests.server.chat import NDJSON, Chat, make_tide, who

from tidelog.testing import Gate, Server, serve

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
EVENTS = "/threads/t/events"


def start(server: Server, **request: object) -> str:
    """A run of the thread, to its end."""
    with server.watch("/chat", params={"thread": "t"}, **request) as viewer:
        viewer.rest()
    return str(viewer.run)


def test_each_run_is_told_as_it_comes() -> None:
    with serve(Chat("Hi").app) as server:
        first = start(server)
        with server.watch(EVENTS) as viewer:
            (told,) = viewer.read(1)
            assert told.json == {"seq": 1, "type": "thread.run", "run": first}
            assert told.id == "t.1.1"
            second = start(server)
            assert viewer.read(1)[0].json["run"] == second
            again = server.client.post(f"/runs/{second}/retry").json()["run"]
            assert viewer.read(1)[0].json == {
                "seq": 3, "type": "thread.run", "run": again, "of": second, "mode": "retry",
            }  # fmt: skip


def test_a_device_that_comes_back_hears_what_it_missed() -> None:
    with serve(Chat("Hi").app) as server:
        runs = [start(server) for _ in range(3)]
        with server.watch(EVENTS, headers={"Last-Event-ID": "t.1.1"}) as viewer:
            assert [frame.json["run"] for frame in viewer.read(2)] == runs[1:]
        with server.watch(EVENTS, params={"after": "2", "wait": "5"}, accept=NDJSON) as viewer:
            assert runs[2] in viewer.text
        assert server.watch(EVENTS, params={"after": "9"}).status == 410
        assert server.watch(EVENTS, headers={"Last-Event-ID": "other.1.1"}).status == 404
        assert server.watch("/threads/unknown/events").status == 404


def test_through_another_process_while_a_run_is_at_work(tmp_path: Path) -> None:
    store, gate = f"sqlite:///{tmp_path}/logs.db", Gate()
    chat, reader = Chat("Hel", gate, "lo", tide=make_tide(store), concurrent=True), FastAPI()
    reader.include_router(make_tide(store).router)
    with (
        serve(chat.app) as server,
        serve(reader) as elsewhere,
        server.watch("/chat", params={"thread": "t"}) as first,
        elsewhere.watch(EVENTS) as viewer,
    ):
        assert viewer.read(1)[0].json["run"] == first.run
        with server.watch("/chat", params={"thread": "t"}) as second:
            assert viewer.read(1)[0].json["run"] == second.run
        gate.open()


def test_it_is_its_owners() -> None:
    with serve(Chat("Hi", tide=make_tide(principal=who)).app) as server:
        start(server, headers=ANN)
        assert server.watch(EVENTS, headers=BOB).status == 404
        with server.watch(EVENTS, headers=ANN) as viewer:
            assert viewer.status == 200


def test_it_ends_with_the_server_and_with_the_thread() -> None:
    chat = Chat("Hi")
    with serve(chat.app) as server:
        start(server)
        viewer, other = server.watch(EVENTS), server.watch(EVENTS)
        viewer.read(1)
        server.client.delete("/threads/t")
        assert viewer.rest() == []
        other.read(1)
        server.call(chat.tide.runner.drain)
        other.rest()
