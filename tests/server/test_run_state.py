"""`Run-State` of an answer tells what `GET /runs/{id}` does: what the run is doing, and `ended` only with its end (spec §8)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.server.chat import JSON, NDJSON, Chat, make_tide

from tidelog.seams import BATCH_BYTES
from tidelog.testing import Gate, Server, serve

SSE = "text/event-stream"


def told(server: Server, run: str, accept: str = JSON, **params: Any) -> str:
    """What the header says, and the run itself."""
    with server.client.stream("GET", f"/runs/{run}/events", headers={"Accept": accept}, params=params) as answer:
        said = answer.headers["run-state"]
    assert said == server.client.get(f"/runs/{run}").json()["state"]
    return str(said)


def everywhere(server: Server, run: str) -> set[str]:
    """As a stream, as lines, as a document, and as polls that find something and nothing."""
    forms: list[tuple[str, dict[str, Any]]] = [
        (SSE, {}), (NDJSON, {}), (JSON, {}), (JSON, {"wait": 9}), (NDJSON, {"wait": 9}), (JSON, {"after": 2, "wait": 0.01}),
    ]  # fmt: skip
    return {told(server, run, accept, **params) for accept, params in forms}


@pytest.fixture(params=["memory", "elsewhere"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Chat, Gate, Server, Server]]:
    """A chat with one slot that says something at its gate, its server, and the one that is asked: the same, or another one."""
    url = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/logs.db?beat=0.05"
    gate = Gate()
    chat = Chat("Hi", gate, tide=make_tide(url, max_runs=1))
    with serve(chat.app) as server:
        if request.param == "memory":
            yield chat, gate, server, server
        else:
            with serve(Chat(tide=make_tide(url)).app) as other:
                yield chat, gate, server, other


def test_the_state_of_a_run_that_is_not_running(servers: tuple[Chat, Gate, Server, Server]) -> None:
    _, gate, server, other = servers
    run = server.watch("/chat").run
    gate.reached()
    queued = server.watch("/chat").run
    assert everywhere(other, queued) == {"queued"}
    assert everywhere(other, run) == {"running"}
    assert other.client.post(f"/runs/{run}/pause").json() == {"result": "paused"}
    assert everywhere(other, run) == {"paused"}
    assert other.client.post(f"/runs/{run}/resume").json() == {"result": "resumed"}
    assert everywhere(other, run) == {"running"}
    for each in (run, queued):
        assert other.client.post(f"/runs/{each}/stop").json() == {"result": "stopped"}
        assert everywhere(other, each) == {"ended"}


def test_the_state_of_a_run_that_waits_for_an_answer() -> None:
    async def asks() -> AsyncIterator[str]:
        yield await tide.ask("Well?")

    tide = make_tide()
    with serve(Chat(asks, tide=tide).app) as server:
        started = server.call(lambda: tide.start(asks))
        with server.client.stream("GET", f"/runs/{started.id}/events", headers={"Accept": NDJSON}) as lines:
            next(line for line in lines.iter_lines() if '"waiting"' in line)
        assert everywhere(server, started.id) == {"waiting"}


def test_a_poll_tells_what_came_while_it_waited(servers: tuple[Chat, Gate, Server, Server]) -> None:
    _, gate, server, other = servers
    run = server.watch("/chat").run
    gate.reached()
    path = f"/runs/{run}/events?wait=60&after=2"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(other.client.get, path, headers={"Accept": JSON})
        assert server.client.post(f"/runs/{run}/pause").json() == {"result": "paused"}
        assert [one["type"] for one in answer.result().json()] == ["run.state"]
        assert answer.result().headers["run-state"] == "paused"


def test_what_is_left_of_an_ended_run_is_no_end() -> None:
    """Who asks until it has ended must get all of it."""
    with serve(Chat(*["x" * (BATCH_BYTES // 4)] * 6).app) as server:
        run = server.watch("/chat", accept=JSON).headers["run-id"]
        states, after = list[str](), 0
        while "ended" not in states:
            answer = server.client.get(f"/runs/{run}/events", params={"after": after}, headers={"Accept": JSON})
            states.append(answer.headers["run-state"])
            after = int(answer.headers["last-seq"])
        assert states == ["running"] * (len(states) - 1) + ["ended"]
        assert len(states) > 1
        assert after == server.client.get(f"/runs/{run}").json()["last_seq"]
