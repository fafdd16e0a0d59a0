"""A parked run holds no slot of its endpoint; one that goes on holds one, in whatever process, and waits for none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from tests.server.chat import make_tide
from tests.server.test_admission import idle
from tests.test_cli import until

from tidelog import Answer
from tidelog.testing import Server, serve

ASYNC = {"Prefer": "respond-async"}


class App:
    """`POST /mounted/ask/{name}` asks and goes on at the gate; one at a time. `GET` of the same path is another endpoint."""

    def __init__(self, store: str) -> None:
        self.tide = tide = make_tide(store)
        self.gate = asyncio.Event()
        inner, router = FastAPI(), APIRouter()

        @router.get("/ask/{name}")
        @tide.stream(max_runs=1)
        async def other(name: str) -> AsyncIterator[str]:
            yield name

        @router.post("/ask/{name}")
        @tide.stream(resume=self.goes_on, max_runs=1)
        async def ask(name: str) -> AsyncIterator[Any]:
            yield await tide.ask(f"{name}?", state=name, park_after=0.0)

        inner.include_router(router)
        self.app = FastAPI()
        self.app.include_router(tide.router)
        self.app.mount("/mounted", inner)

    async def goes_on(self, state: Any, answer: Answer) -> AsyncIterator[str]:
        """Until the gate opens."""
        yield f"{state} {answer.value}"
        await self.gate.wait()


def state(server: Server, run: str) -> Any:
    return server.client.get(f"/runs/{run}").json()["state"]


def start(server: Server, name: str) -> str:
    return str(server.client.post(f"/mounted/ask/{name}", headers=ASYNC).json()["run"])


def parked(server: Server, name: str) -> str:
    """A run that was parked."""
    run = start(server, name)
    until(lambda: server.client.get(f"/runs/{run}").json()["owner_age"] is None)
    assert state(server, run) == "waiting"
    return run


@pytest.mark.parametrize("elsewhere", [False, True], ids=["where it was parked", "in another process"])
def test_an_endpoint_counts_the_runs_that_go_on(tmp_path: Path, elsewhere: bool) -> None:
    app = App(f"sqlite:///{tmp_path}/logs.db?beat=0.05")
    if elsewhere:  # where they were parked nobody is left
        with serve(App(f"sqlite:///{tmp_path}/logs.db?beat=0.05").app) as before:
            runs = [parked(before, name) for name in "ab"]
    with serve(app.app) as server:
        if not elsewhere:
            runs = [parked(server, name) for name in "ab"]
        for run in runs:  # both at once: they were let in long ago
            assert server.client.post(f"/runs/{run}/answer", json={"question": "q1", "value": "yes"}).is_success
            assert state(server, run) == "running"
        new = start(server, "c")
        until(lambda: state(server, new) == "queued")  # as soon as that is stored
        assert server.client.get("/mounted/ask/d").text, "another endpoint"
        server.call(app.gate.set)
        until(lambda: state(server, new) == "waiting")
        assert [state(server, run) for run in runs] == ["ended"] * 2
        assert server.client.post(f"/runs/{new}/stop").is_success
        idle(server, app.tide)
        assert not server.call(lambda: app.tide.runner.admission.runs._held)
