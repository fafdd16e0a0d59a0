"""What once went wrong between a cursor and a socket."""

from __future__ import annotations

import gzip
import threading
import time

import httpx2
import pytest
from starlette.middleware.gzip import GZipMiddleware
from tests.server.chat import JSON, NDJSON, Chat, types

from tidelog.testing import Gate, serve


def test_nothing_is_written_past_a_layer_that_encodes() -> None:
    """Even where as many bytes came out of it as went in."""
    first, second, third = Gate(), Gate(), Gate()
    chat = Chat("Hello", first, "ha" * 13, second, "after", third, "more ")
    chat.app.add_middleware(GZipMiddleware, minimum_size=0)
    with (
        serve(chat.app) as server,
        server.watch("/chat?merge=0", accept="text/plain", headers={"Accept-Encoding": "gzip"}) as viewer,
    ):
        for gate in (first, second, third):
            before = len(viewer.body)
            while len(viewer.body) == before:
                assert viewer.more()
            gate.open()
        viewer.rest()
        assert gzip.decompress(bytes(viewer.body)) == b"Hello" + b"ha" * 13 + b"aftermore "


def test_text_that_a_shutdown_cuts_does_not_look_complete() -> None:
    gate = Gate()
    chat = Chat("first ", gate)
    with serve(chat.app) as server, server.watch("/chat", accept="text/plain") as viewer:
        while b"first" not in viewer.body:
            assert viewer.more()
        server.call(chat.tide.runner.drain)
        viewer.rest()
        assert not viewer.complete
        gate.open()


def test_a_run_that_is_dropped_under_a_long_poll_is_404() -> None:
    gate = Gate()
    chat = Chat("x", gate)
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        while "text.delta" not in types(viewer.frames):
            assert viewer.more()
        seq = viewer.frames[-1].json["seq"]
        found: list[int] = []
        asking = threading.Thread(
            target=lambda: found.append(
                server.client.get(
                    f"/runs/{viewer.run}/events?after={seq}&wait=30", headers={"Accept": JSON}
                ).status_code
            )
        )
        asking.start()
        while server.call(lambda: len(chat.tide.runner.live(viewer.run).viewers)) < 2:  # type: ignore[union-attr]
            time.sleep(0.001)
        server.call(lambda: chat.tide.runner.store.drop(f"run/{viewer.run}"))
        asking.join(10.0)
        gate.open()
    assert found == [404]


@pytest.mark.parametrize("accept", [JSON, NDJSON])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_server_that_goes_answers_long_polls(accept: str, when: str) -> None:
    gate = Gate()
    chat = Chat("x", gate)
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        while "text.delta" not in types(viewer.frames):
            assert viewer.more()
        runner, seq = chat.tide.runner, viewer.frames[-1].json["seq"]
        found: list[httpx2.Response] = []

        def ask(after: int) -> None:
            url = f"/runs/{viewer.run}/events?after={after}&wait=60"
            found.append(server.client.get(url, headers={"Accept": accept}, timeout=10.0))

        if when == "before":
            server.call(runner.drain)
            ask(seq)
            ask(0)
        else:
            asking = threading.Thread(target=ask, args=(seq,))
            asking.start()
            while server.call(lambda: len(runner.live(viewer.run).viewers)) < 2:  # type: ignore[union-attr]
                time.sleep(0.001)
            server.call(runner.drain)
            asking.join(10.0)
        gate.open()
    assert found[0].status_code == 200
    assert found[0].content in (b"", b"[]")
    assert (found[0].headers["run-state"], found[0].headers["last-seq"]) == ("running", str(seq))
    assert all(b"run.started" in one.content for one in found[1:]), "what is there is told"
