"""`on_end`: called once for each run, when its ending is stored (docs/api.md)."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.parts import FaultyStore, launch, outcome, running, until
from tests.server.chat import Chat, make_tide, who

from tidelog import Ending, SourceError, Tidelog, Usage, endings
from tidelog import runner as runner_module
from tidelog.launch import Launch
from tidelog.limits import Limits
from tidelog.log import run_log
from tidelog.runner import Runner
from tidelog.sources.iterators import Iterators
from tidelog.stores.memory import MemoryStore
from tidelog.stores.sqlite import SqliteStore
from tidelog.testing import Gate, serve


class Heard:
    """What `on_end` heard, and where."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self.threads: list[str] = []

    def __call__(self, ending: Ending) -> None:
        self.endings.append(ending)
        self.threads.append(threading.current_thread().name)

    async def later(self, ending: Ending) -> None:
        """The same as a coroutine function."""
        await asyncio.sleep(0)
        self(ending)

    @property
    def only(self) -> Ending:
        """The one ending that was heard."""
        [found] = self.endings
        return found


def test_it_tells_what_happened() -> None:
    heard, tide = Heard(), make_tide(principal=who)
    chat = Chat("Hi", Usage(input=2, output=3), tide=tide, on_end=heard)
    with serve(chat.app) as server:
        viewer = server.watch("/chat", params={"thread": "t"}, headers={"X-User": "ann"})
        frames = viewer.rest()
    found = heard.only
    assert (found.run, found.thread, found.principal, found.route) == (viewer.run, "t", "ann", "/chat")
    assert (found.outcome, found.error, found.of, found.mode) == ("completed", None, None, None)
    assert (found.usage.input, found.usage.output, found.usage.source) == (2, 3, "provider")
    assert found.records == frames[-1].json["seq"]
    assert 0 < found.created <= found.ended


def test_of_each_ending_once() -> None:
    heard = Heard()
    app, tide, gate = FastAPI(), make_tide(), Gate()
    app.include_router(tide.router)
    steps: dict[str, Any] = {
        "completed": ["x"],
        "failed": [SourceError("Down.")],
        "stopped": [gate],
        "timed_out": [gate],
    }

    @app.get("/chat/{how}")
    async def chat(how: str) -> Response:
        gap = 0.1 if how == "timed_out" else 60.0
        return tide.response(answer(how), on_end=heard.later, gap_timeout=gap)

    async def answer(how: str) -> AsyncIterator[str]:
        yield "x"
        for step in steps[how]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Gate):
                await step.wait()
            else:
                yield step

    runs: dict[str, str] = {}
    with serve(app) as server:
        for how in steps:
            viewer = server.watch(f"/chat/{how}")
            runs[viewer.run] = how
            if how == "stopped":
                viewer.read(2)
                server.client.post(f"/runs/{viewer.run}/stop")
            viewer.rest()
    assert {one.run: one.outcome for one in heard.endings} == runs
    assert len(heard.endings) == 4
    assert [one.error.code for one in heard.endings if one.error is not None] == ["provider_error", "timed_out"]


def test_of_a_run_that_is_deleted_while_it_lives() -> None:
    heard = Heard()
    with serve(Chat("Hel", Gate(), on_end=heard).app) as server:
        viewer = server.watch("/chat")
        viewer.read(2)
        assert server.client.delete(f"/runs/{viewer.run}").status_code == 204
    assert heard.only.outcome == "stopped"


def test_a_function_is_called_in_a_thread_and_may_block() -> None:
    heard, gate = Heard(), Gate()

    def slow(ending: Ending) -> None:
        gate.block()
        heard(ending)

    with serve(Chat("Hi", on_end=slow).app) as server:
        server.watch("/chat").rest()
        gate.reached()
        assert server.client.get("/healthz").status_code == 200
        gate.open()
    assert heard.only.outcome == "completed"


@pytest.mark.parametrize("kind", ["sync", "async", "partial", "object", "gives a coroutine"])
def test_every_kind_of_function(kind: str) -> None:
    heard = Heard()

    class Called:
        async def __call__(self, ending: Ending) -> None:
            await heard.later(ending)

    functions: dict[str, Callable[[Ending], Any]] = {
        "sync": heard, "async": heard.later, "partial": functools.partial(heard.later), "object": Called(),
        "gives a coroutine": lambda ending: heard.later(ending),
    }  # fmt: skip
    with serve(Chat("Hi", on_end=functions[kind]).app) as server:
        server.watch("/chat").rest()
    assert heard.only.outcome == "completed"
    assert (heard.threads[0] == "tidelog-test-server") == (kind != "sync")


def test_what_it_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(ending: Ending) -> None:
        raise RuntimeError("no disk")

    with serve(Chat("Hi", on_end=broken).app) as server:
        viewer = server.watch("/chat")
        assert viewer.rest()[-1].json["outcome"] == "completed"
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert viewer.run in record.getMessage()
    assert "no disk" in str(record.exc_info)


@pytest.mark.anyio
async def test_a_process_that_goes_waits_for_it() -> None:
    heard, tide = Heard(), make_tide()

    async def slow(ending: Ending) -> None:
        await asyncio.sleep(0.1)
        heard(ending)

    run = await tide.start(_forever, on_end=slow)
    await tide.aclose()
    assert heard.only.run == run.id
    assert heard.only.outcome == "interrupted"


@pytest.mark.anyio
async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(endings, "ON_END_TIMEOUT", 0.02)
    told = asyncio.Event()

    async def stuck(ending: Ending) -> None:
        told.set()
        await asyncio.Event().wait()

    async with running() as runner:
        await outcome(await launch(runner, ["x"], on_end=stuck))
        await asyncio.wait_for(told.wait(), 10)
    assert "given up" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [MagicMock, AsyncMock])
@pytest.mark.parametrize("partial", [False, True])
async def test_a_mock_is_a_function_like_any_other(kind: type[MagicMock], partial: bool) -> None:
    """It has every attribute that it is asked for, such as the `func` of a partial."""
    mock = kind()
    async with running() as runner:
        run = await launch(runner, ["x"], on_end=functools.partial(mock) if partial else mock)
        await outcome(run)
        await until(lambda: mock.call_count)
    assert mock.call_args.args[0].run == run.id
    if kind is AsyncMock:
        assert mock.await_count == 1


@pytest.mark.anyio
async def test_it_comes_after_the_ending_is_stored() -> None:
    """A store that fails at the ending and comes back: told once, when it has it."""
    store, states = FaultyStore(at=2), list[bool]()

    async def look(ending: Ending) -> None:
        tail = await store.tail(run_log(ending.run))
        states.append(tail is not None and tail.ended)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "RETRY_ENDING", 0.01)
        async with running(store) as runner:
            run = await launch(runner, ["a", "b", "c"], on_end=look)
            await asyncio.wait_for(run.wait(), 10)
            assert not states
            store.down = False
            await until(lambda: states)
    assert states == [True]


@pytest.mark.anyio
async def test_a_repeated_key_tells_nobody_again() -> None:
    heard = Heard()
    async with running() as runner:
        run = await launch(runner, ["x"], on_end=heard, key="k")
        await outcome(run)
        await until(lambda: not len(runner))
        again = await runner.launch(Launch(Iterators().opener(["x"]), key="k", on_end=heard))
        assert again.repeated
    assert heard.only.run == run.id


@pytest.mark.anyio
async def test_the_reaper_tells_the_tidelog_that_ends_the_run(tmp_path: Path) -> None:
    """The dead process's own function is gone with it; that of the `Tidelog` hears of all runs."""
    url, mine, theirs = f"sqlite:///{tmp_path}/a.db?beat=0.05", Heard(), Heard()
    dead = Runner(SqliteStore(url))
    await dead.start()
    run = await launch(dead, _forever, on_end=theirs)
    await until(lambda: run.last > 1)
    living = Tidelog(url, lease_patience=0.5, drain_timeout=0.0, on_end=mine)
    await living.ready()
    await dead.store.aclose()  # as if it had died: its lease is given up, its run has no ending
    await until(lambda: mine.endings)
    assert (mine.only.run, mine.only.outcome) == (run.id, "interrupted")
    assert not theirs.endings
    own = await living.start(["x"])
    await own.wait()
    await until(lambda: len(mine.endings) == 2)
    await living.aclose()
    await dead.aclose()
    assert not theirs.endings


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_it_hears_of_a_run_whose_source_closes_late(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that goes cancels what still closes; the ending comes only then, and is told like any other."""
    monkeypatch.setattr(runner_module, "INTERRUPT_TIMEOUT", 0.01)
    heard = Heard()

    async def late() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    runner = Runner(MemoryStore() if kind == "memory" else SqliteStore(f"sqlite:///{tmp_path}/a.db"))
    await runner.start()
    run = await launch(runner, late, limits=Limits(close_timeout=60.0), on_end=heard.later)
    await until(lambda: run.last > 1)
    await runner.aclose()
    assert (heard.only.run, heard.only.outcome) == (run.id, "interrupted")


async def _forever() -> AsyncIterator[str]:
    yield "x"
    await asyncio.Event().wait()
