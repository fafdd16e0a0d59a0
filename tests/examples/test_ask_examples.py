"""The examples of docs/asking-a-human.md do what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.examples.test_plain_examples import folder as folder
from tests.examples.test_plain_examples import running, until

from tidelog.testing import Server


def started(server: Server, path: str, **params: str) -> str:
    return str(server.client.post(path, params=params, headers={"Prefer": "respond-async"}).json()["run"])


def waits(server: Server, run: str) -> Any:
    until(lambda: bool(server.client.get(f"/runs/{run}").json()["questions"]))
    return server.client.get(f"/runs/{run}").json()["questions"][0]


def told(server: Server, run: str, value: Any) -> str:
    answer = server.client.post(f"/runs/{run}/answer", json={"question": "q1", "value": value})
    assert answer.status_code == 200, answer.text
    until(lambda: server.client.get(f"/runs/{run}").json()["outcome"] == "completed")
    text: str = server.client.get(f"/runs/{run}/transcript").json()["text"]
    return text


@pytest.mark.parametrize("parked", [True, False])
def test_a_letter_is_sent_once_somebody_agrees(folder: Path, parked: bool) -> None:
    with running("ask") as (server, module):
        run = started(server, "/letter", to="Ann")
        assert waits(server, run)["data"]["to"] == "Ann"
        if parked:
            server.call(lambda: module.tide.runner.live(run).park())
            until(lambda: server.client.get(f"/runs/{run}").json()["owner_age"] is None)
        assert told(server, run, "yes") == "I have written a letter. Done: the letter is on its way."


def test_a_typed_answer(folder: Path) -> None:
    with running("ask") as (server, _):
        run = started(server, "/trip")
        assert waits(server, run)["schema"] == {"type": "integer"}
        assert told(server, run, 5) == "5 days by the sea, then."


def test_a_graph_asks(folder: Path) -> None:
    with running("ask_graph") as (server, _):
        run = started(server, "/order", item="Tea")
        assert waits(server, run)["options"] == ["yes", "no"]
        assert told(server, run, "no") == "Tea is not ordered."
