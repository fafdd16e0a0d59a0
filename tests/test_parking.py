"""Runs that are parked, and what meets them on their way there and back: answers, and processes that go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import PATIENCE, legal, text_of, until
from tests.server.chat import make_tide

from tidelog import Answer, Tidelog, asking
from tidelog.log import run_log
from tidelog.run import Run

pytestmark = pytest.mark.anyio


async def later(state: Any, answer: Answer) -> AsyncIterator[str]:
    """Goes on."""
    yield f"then {answer.value}"


def process(store: str, **settings: Any) -> Tidelog:
    """One of several that know who goes on."""
    tide = make_tide(store, **settings)
    tide.resumes(later)
    return tide


async def waiting(tide: Tidelog) -> Run:
    """A run that waits for its answer with its source open."""

    async def ask() -> AsyncIterator[str]:
        yield await tide.ask("Well?", state={}, park_after=3600)

    run = await tide.start(ask, resume=later)
    await until(lambda: run.head.questions)
    return run


class Held:
    """Calls of a store's method wait until they are let go."""

    def __init__(self, store: Any, name: str, patch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._call = getattr(store, name)
        patch.setattr(store, name, self._wait)

    async def _wait(self, *args: Any, **more: Any) -> Any:
        self.reached.set()
        await self.go.wait()
        return await self._call(*args, **more)


async def test_an_answer_meets_the_run_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process goes, and is about to park it, when another process takes the answer: that one goes on, and says so."""
    url = f"sqlite:///{tmp_path}/logs.db?beat=0.05"
    owner, other = process(url), process(url)
    run = await waiting(owner)
    await other.ready()
    held = Held(owner.runner.store, "park", monkeypatch)
    owner.runner.drain()
    await asyncio.wait_for(held.reached.wait(), PATIENCE)
    bell = other.runner.store.changed(run_log(run.id))
    answering = asyncio.create_task(other.runner.answer(run.id, "q1", "yes"))
    await until(lambda: bell._waiting)  # it was posted, and its owner is waited for
    held.go.set()
    assert (await asyncio.wait_for(answering, PATIENCE)).result == "answered"
    await until(lambda: not len(other.runner))
    assert text_of(await legal(other.runner.store, run.id)) == "then yes"
    await owner.aclose()
    await other.aclose()


async def test_a_process_that_goes_waits_for_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has begun to take a parked run for its answer: whose log is taken and not written would end as interrupted."""
    tide = process("memory:", drain_timeout=PATIENCE)
    run = await waiting(tide)
    run.park()
    await until(lambda: not len(tide.runner))
    held = Held(tide.runner.store, "take", monkeypatch)
    answering = asyncio.create_task(tide.runner.answer(run.id, "q1", "yes"))
    await asyncio.wait_for(held.reached.wait(), PATIENCE)
    going = asyncio.create_task(tide.aclose())
    await until(lambda: tide.runner.draining.rung)
    held.go.set()
    await asyncio.wait_for(going, PATIENCE)
    assert (await answering).result == "answered"
    assert text_of(await legal(tide.runner.store, run.id)) == "then yes"


async def test_who_pauses_a_parked_run_waits_for_nobody() -> None:
    """Whoever goes on with it will obey: it is paused from its first step on."""
    tide = process("memory:")
    run = await waiting(tide)
    run.park()
    await until(lambda: not len(tide.runner))
    store = tide.runner.store
    assert await asyncio.wait_for(asking.pause(store, run.id, patience=3600.0), PATIENCE) == "pausing"
    await tide.runner.answer(run.id, "q1", "yes")
    await until(lambda: len(tide.runner) == 1)
    assert await asyncio.wait_for(asking.resume(store, run.id, patience=3600.0), PATIENCE) == "resumed"
    await until(lambda: not len(tide.runner))
    assert text_of(await legal(store, run.id)) == "then yes"
    await tide.aclose()


async def test_who_is_not_declared_here_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """The run is looked at every few seconds, until a process comes that knows who goes on."""
    tide = process("memory:")
    run = await waiting(tide)
    run.park()
    await until(lambda: not len(tide.runner))
    tide.runner.resumes._known.clear()
    answering = asyncio.create_task(tide.runner.answer(run.id, "q1", "yes"))
    await until(lambda: "is not declared here" in caplog.text)
    for _ in range(3):
        await tide.runner.wake(run.id)
    assert caplog.text.count("is not declared here") == 1
    tide.resumes(later)
    await tide.runner.wake(run.id)
    assert (await answering).result == "answered"
    await tide.aclose()
