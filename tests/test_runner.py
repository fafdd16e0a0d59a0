"""The runs of a process: started, told what others ask, drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.parts import LateStore, bare_run, launch, legal, outcome, running, text_of, turns, until

from tidelog import asking, control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.admission import Bounds
from tidelog.asking import head_of
from tidelog.errors import Gone, Mismatch, Refused
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import control_log, run_log
from tidelog.runner import Launch, Runner
from tidelog.sources.iterators import Iterators
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def forever() -> AsyncIterator[str]:
    yield "text"
    await asyncio.Event().wait()


def opener(work: Any = ("x",)) -> Any:
    return Iterators().opener(work)


# Starting


async def test_a_run_starts_with_its_first_record_and_joins_its_thread() -> None:
    async with running() as runner:
        first = await launch(runner, ["a"], thread="t", principal="me", route="/chat")
        second = await launch(runner, ["b"], thread="t", principal="me", of=first.id, mode="retry")
        await asyncio.gather(outcome(first), outcome(second))
        await until(lambda: not len(runner))
        started = (await legal(runner.store, second.id))[0]
        assert isinstance(started, e.RunStarted)
        assert (started.run, started.thread, started.of, started.mode) == (second.id, "t", first.id, "retry")
        head = await head_of(runner.store, first.id)
        assert (head.principal, head.route, head.outcome) == ("me", "/chat", "completed")
        entries = await threads.entries(runner.store, "t", "me")
        assert entries == [threads.Entry(first.id), threads.Entry(second.id, first.id, "retry")]
        page = await runner.store.read(control_log(first.id), 0)
        assert [control.decode(record.data) for record in page.records] == [
            control.Succeeded(by=second.id, mode="retry")
        ]


async def test_a_key_finds_its_run() -> None:
    async with running() as runner:
        first = await runner.launch(Launch(opener(forever), key="k", fingerprint=b"1"))
        again = await runner.launch(Launch(opener(), key="k", fingerprint=b"1"))
        assert again == first._replace(repeated=True)
        with pytest.raises(Mismatch):
            await runner.launch(Launch(opener(), key="k", fingerprint=b"2"))
        assert await asking.stop(runner.store, first.id) == "stopped"
        await until(lambda: not len(runner))
        assert await runner.launch(Launch(opener(), key="k", fingerprint=b"1")) == first._replace(
            repeated=True, run=None
        )


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(max_runs=1)])
async def test_a_stop_that_comes_before_the_run_has_ears(bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches its thread hears of it a moment earlier."""
    add = threads.add

    async def heard(store: Any, thread: str, principal: str | None, entry: threads.Entry) -> int:
        place = await add(store, thread, principal, entry)
        if thread == "t":
            await store.post(control_log(entry.run), control.encode(control.Stop()))
        return place

    async with running(bounds=bounds) as runner:
        await launch(runner, forever)
        monkeypatch.setattr(threads, "add", heard)
        run = await launch(runner, forever, thread="t")
        assert await outcome(run) == "stopped"


class SlowOpening(MemoryStore):
    """A store whose `open` waits for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.opening = 0

    async def open(self, *args: Any, **more: Any) -> str:
        self.opening += 1
        await self.go.wait()
        return await super().open(*args, **more)


async def test_a_client_that_leaves_while_its_run_starts_leaves_no_orphan() -> None:
    store = SlowOpening()
    async with running(store) as runner:
        task = asyncio.create_task(launch(runner, ["a"]))
        await until(lambda: store.opening)
        task.cancel()
        await turns()
        assert task.cancelled()
        store.go.set()
        await turns()
        [(name, _)] = await store.list("run/", None, 10)
        await until(lambda: not len(runner))
        assert text_of(await legal(store, name.partition("/")[2])) == "a"


async def test_a_run_that_starts_while_the_process_goes_ends() -> None:
    store = SlowOpening()
    runner = Runner(store)
    await runner.start()
    starting = asyncio.create_task(launch(runner, forever))
    await until(lambda: store.opening)
    closing = asyncio.create_task(runner.aclose(0.0))
    await turns()
    store.go.set()
    await closing
    run = await starting
    assert run.outcome == "interrupted"
    await legal(store, run.id)


async def test_a_continued_text_that_is_too_large_ends_the_run() -> None:
    async with running() as runner:
        run = await launch(runner, ["b"], partial="a" * 100, limits=Limits(max_run_bytes=90))
        assert await outcome(run) == "failed"
        ended = (await legal(runner.store, run.id))[-1]
        assert isinstance(ended, e.RunEnded)
        assert ended.error is not None
        assert ended.error.code == "too_large"
        await until(lambda: not len(runner))


async def test_a_run_that_continues_opens_with_the_text_so_far() -> None:
    values = [e.Sources([]), "the end", " of the text. More.", e.ToolStarted(call="c", name="n"), "After"]
    async with running() as runner:
        run = await launch(
            runner, values, partial="It was the end of the text.", mode="continue", of="old", message="m1"
        )
        assert await outcome(run) == "completed"
        events = await legal(runner.store, run.id)
        assert isinstance(events[0], e.RunStarted)
        assert events[0].message == "m1"
        assert isinstance(events[1], e.TextSnapshot)
        assert text_of(events) == "It was the end of the text. More.After"
        assert [event.part for event in events if isinstance(event, e.TextDelta)] == ["p1", "p2"]


# Control


async def test_stop_is_truthful() -> None:
    async with running() as runner:
        with pytest.raises(Gone):
            await asking.stop(runner.store, "unknown")
        run = await launch(runner, forever)
        assert await asking.stop(runner.store, run.id) == "stopped"
        assert await asking.stop(runner.store, run.id) == "already_ended"
        done = await launch(runner, ["x"])
        await outcome(done)
        assert await asking.stop(runner.store, done.id) == "already_ended"


async def test_stop_does_not_wait_for_ever() -> None:
    store = MemoryStore()
    await bare_run(store)  # nobody works at it
    async with running(store) as runner:
        assert await asking.stop(runner.store, "r", patience=0.02) == "stopping"


# Shutting down


async def test_drain_waits_for_runs_and_refuses_starts() -> None:
    store, go = LateStore(), asyncio.Event()

    async def work() -> AsyncIterator[str]:
        yield "a"
        await go.wait()
        yield "b"

    runner = Runner(store)
    await runner.start()
    run = await launch(runner, work)
    closing = asyncio.create_task(runner.aclose(30.0))
    await turns()
    assert runner.draining.rung
    with pytest.raises(Refused):
        await launch(runner, ["x"])
    go.set()
    await asyncio.wait_for(closing, 10.0)
    assert run.outcome == "completed"
    assert text_of(await legal(store, run.id)) == "ab"


async def test_what_does_not_drain_is_interrupted(caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner(MemoryStore())
    await runner.start()
    runs = [await launch(runner, forever) for _ in range(20)]
    await turns()
    await asyncio.wait_for(runner.aclose(0.01), 10.0)
    for run in runs:
        ended = (await legal(runner.store, run.id))[-1]
        assert isinstance(ended, e.RunEnded)
        assert (ended.outcome, ended.error) == ("interrupted", e.Error.of("interrupted"))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_store_that_never_answers_does_not_keep_the_process() -> None:
    store = LateStore(held=True)
    runner = Runner(store)
    await runner.start()
    await launch(runner, forever)
    await turns()
    await asyncio.wait_for(runner.aclose(0.0), 5.0)
    store.release()


async def test_a_runner_that_never_started_closes_at_once() -> None:
    await asyncio.wait_for(Runner(MemoryStore()).aclose(0.0), 0.5)


async def test_drop_leaves_no_byte() -> None:
    async with running() as runner:
        run = await launch(runner, forever)
        await runner.drop(run.id)
        for name in (run_log(run.id), control_log(run.id)):
            assert await runner.store.tail(name) is None
        await runner.drop(run.id)
        assert await outcome(run) == "stopped"


def test_a_head_is_read_as_it_was_written() -> None:
    head = Head(run="r", thread="t", message="m", created=1.5, cancel_after=3.0)
    assert heads.decode(heads.encode(head)) == head
