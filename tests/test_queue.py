"""Runs that wait for a slot: their logs tell, they can be ended, and each slot is freed once, whatever ends its run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.parts import FaultyStore, launch, legal, outcome, running, turns, until

from tidelog import asking
from tidelog import events as e
from tidelog import head as heads
from tidelog import queue as queue_module
from tidelog.admission import Bounds
from tidelog.asking import head_of
from tidelog.errors import Conflict, Mismatch, Overloaded, SourceError, StoreError, Unavailable
from tidelog.launch import Launch
from tidelog.limits import Limits
from tidelog.log import run_log
from tidelog.memory import MemoryWatch
from tidelog.run import Run
from tidelog.runner import Runner
from tidelog.sources.iterators import Iterators
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

ONE = Bounds(max_runs=1)


class Work:
    """A source that says one thing and waits for `go`; `begun` counts its first steps."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0

    async def __call__(self) -> AsyncIterator[str]:
        self.begun += 1
        yield "text"
        await self.go.wait()


async def stuck() -> AsyncIterator[str]:
    yield "text"
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(3600)


def states(events: list[e.AnyEvent]) -> list[tuple[str, int | None]]:
    return [(event.state, event.position) for event in events if isinstance(event, e.RunState)]


async def at_rest(runner: Runner) -> None:
    """Every run has ended, and nobody holds a slot or a place."""
    await until(lambda: not len(runner))
    assert (len(runner.admission.runs), runner.admission.runs.waiting) == (0, 0)
    await until(lambda: not runner._queue._places)


async def full(runner: Runner, **more: Any) -> tuple[Work, Run]:
    """A run that has the only slot."""
    work = Work()
    run = await launch(runner, work, **more)
    await until(lambda: run.last >= 2)
    return work, run


# Waiting


async def test_a_run_waits_with_its_log_open_and_begins_when_a_slot_is_free() -> None:
    async with running(bounds=ONE) as runner:
        first, held = await full(runner)
        second = Work()
        run = await launch(runner, second)
        await turns()
        head = await head_of(runner.store, run.id)
        assert (head.state, head.position, second.begun) == ("queued", 1, 0)
        first.go.set()
        assert await outcome(held) == "completed"
        await until(lambda: second.begun)
        head = await head_of(runner.store, run.id)
        assert (head.state, head.position) == ("running", None)
        second.go.set()
        assert await outcome(run) == "completed"
        events = await legal(runner.store, run.id)
        assert states(events) == [("queued", 1), ("running", None)]
        await at_rest(runner)


async def test_who_comes_nearer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "TELL_EVERY", 0.001)
    async with running(bounds=ONE) as runner:
        first, _ = await full(runner)
        works = [Work() for _ in range(3)]
        runs = [await launch(runner, work) for work in works]
        first.go.set()
        await until(lambda: works[0].begun and runs[2].head.position == 2)
        for work in works:
            work.go.set()
        await asyncio.gather(*map(outcome, runs))
        told = states(await legal(runner.store, runs[2].id))
        assert told[:2] == [("queued", 3), ("queued", 2)]
        assert told[-1] == ("running", None)
        await at_rest(runner)


async def test_a_long_queue_costs_few_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "TELL_EVERY", 0.0)
    async with running(bounds=ONE) as runner:
        work, _ = await full(runner)
        ahead = [await launch(runner, Work()) for _ in range(200)]
        last = await launch(runner, ["x"])
        for run in ahead:
            run.stop()
            await outcome(run)
            await turns(10)
        work.go.set()
        assert await outcome(last) == "completed"
        told = [position for state, position in states(await legal(runner.store, last.id)) if state == "queued"]
        assert told == sorted(told, reverse=True)  # type: ignore[type-var]
        assert (told[0], told[-1]) == (201, 1)
        assert len(told) < 50
        await at_rest(runner)


async def test_its_clocks_do_not_run() -> None:
    limits = Limits(first_event_timeout=0.05, gap_timeout=0.05, total_timeout=0.2)
    async with running(bounds=ONE) as runner:
        work, _ = await full(runner)
        run = await launch(runner, ["x"], limits=limits)
        await asyncio.sleep(0.3)
        assert run.outcome is None
        work.go.set()
        assert await outcome(run) == "completed"
        await at_rest(runner)


async def test_its_time_counts_from_its_begin() -> None:
    async with running(bounds=ONE) as runner:
        work, _ = await full(runner)
        run = await launch(runner, Work(), limits=Limits(total_timeout=0.1, gap_timeout=9.0))
        work.go.set()
        assert await outcome(run) == "timed_out"
        await at_rest(runner)


async def test_an_attempt_that_fails_behind_the_queue_is_tried_again() -> None:
    """A place in the queue is nothing that the source has said."""
    tries = 0

    async def flaky() -> AsyncIterator[str]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise SourceError("Busy.", code="overloaded", retry_after=0)
        yield "there"

    async with running(bounds=ONE) as runner:
        work, _ = await full(runner)
        run = await launch(runner, flaky, attempts=2)
        work.go.set()
        assert (await outcome(run), tries) == ("completed", 2)
        await at_rest(runner)


async def test_one_that_is_paused_keeps_its_place_and_begins_when_it_is_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_module, "TELL_EVERY", 0.001)
    async with running(bounds=ONE) as runner:
        first, _ = await full(runner)
        work = Work()
        run = await launch(runner, work)
        run.pause()
        run.resume()
        await until(lambda: run.head.position == 1)
        run.pause()
        first.go.set()
        await until(lambda: not runner.admission.runs.waiting)
        await turns()
        assert (run.head.state, work.begun) == ("paused", 0)
        run.resume()
        await until(lambda: work.begun)
        assert run.head.state == "running"
        work.go.set()
        assert await outcome(run) == "completed"
        await at_rest(runner)


async def test_a_pause_does_not_count_while_it_waits() -> None:
    """Not for how long it may wait, and no clock of the run's begins with it."""
    limits = Limits(first_event_timeout=0.05, gap_timeout=0.05, total_timeout=0.1)
    async with running(bounds=ONE._replace(queue_timeout=0.5)) as runner:
        first, held = await full(runner)
        run = await launch(runner, ["x"], limits=limits)
        run.pause()
        await asyncio.sleep(0.8)
        assert (run.outcome, run.head.state) == (None, "paused")
        run.resume()
        assert await outcome(run) == "failed", "and is not timed_out"
        assert run.error is not None and run.error.code == "overloaded"
        first.go.set()
        await outcome(held)
        await at_rest(runner)


# Ending while it waits


@pytest.mark.parametrize("way", ["control", "method"])
async def test_a_queued_run_is_stopped_at_once_and_its_source_never_opened(way: str) -> None:
    async with running(bounds=ONE) as runner:
        first, _ = await full(runner)
        work = Work()
        run = await launch(runner, work)
        if way == "control":
            assert await asking.stop(runner.store, run.id) == "stopped"
        else:
            run.stop()
            assert await outcome(run) == "stopped"
        first.go.set()
        await at_rest(runner)
        assert work.begun == 0
        assert states(await legal(runner.store, run.id)) == [("queued", 1)]


async def test_one_that_waits_too_long_ends_as_overloaded_and_says_when_to_come_back() -> None:
    async with running(bounds=Bounds(max_runs=1, queue_timeout=0.05)) as runner:
        first, _ = await full(runner)
        work = Work()
        run = await launch(runner, work)
        assert await outcome(run) == "failed"
        assert run.error is not None
        assert (run.error.code, run.error.retryable) == ("overloaded", True)
        assert run.error.retry_after is not None
        assert work.begun == 0
        first.go.set()
        await at_rest(runner)


async def test_a_process_that_goes_interrupts_who_waits_at_once() -> None:
    async with running(bounds=ONE) as runner:
        _, held = await full(runner)
        work = Work()
        run = await launch(runner, work)
        runner.drain()
        assert await outcome(run) == "interrupted"
        assert (held.outcome, work.begun) == (None, 0)
        with pytest.raises(Overloaded, match="overloaded"):
            await launch(runner, ["x"])
        assert runner.admission.refused == {"draining": 1}
        held.stop()
        await at_rest(runner)


async def test_one_that_leaves_its_viewers_waits_no_longer() -> None:
    async with running(bounds=ONE) as runner:
        first, _ = await full(runner)
        work = Work()
        run = await launch(runner, work, cancel_after=0.0)
        with runner.watch(run.head, object(), 0):
            pass
        assert (await outcome(run), work.begun) == ("stopped", 0)
        first.go.set()
        await at_rest(runner)


async def test_a_log_that_is_lost_while_it_waits() -> None:
    store = FaultyStore(3, Conflict)  # the record that says that it begins
    async with running(store, bounds=ONE) as runner:
        first, held = await full(runner)
        run = await launch(runner, Work())
        await turns()
        first.go.set()
        await outcome(held)
        await asyncio.wait_for(run.done, 5)
        await at_rest(runner)


# Slots, freed exactly once


ENDINGS: dict[str, Any] = {
    "completes": (["x"], {}),
    "fails": (Mismatch, {}),
    "is stopped": (None, {}),
    "is interrupted": (None, {}),
    "is late": (None, {"limits": Limits(gap_timeout=0.02, first_event_timeout=0.02)}),
    "does not close": (stuck, {"limits": Limits(close_timeout=0.02)}),
    "is too large": (["x" * 100], {"limits": Limits(max_event_bytes=50)}),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_each_ending_frees_its_slot_once(how: str) -> None:
    work, options = ENDINGS[how]
    async with running(bounds=ONE) as runner:
        for _ in range(3):
            run = await launch(runner, _raising if work is Mismatch else work or Work(), **options)
            next_one = await launch(runner, ["y"])
            assert len(runner.admission.runs) <= 1
            if how in ("is stopped", "does not close"):
                await until(lambda run=run: run.last >= 2)
                run.stop()
            elif how == "is interrupted":
                run.interrupt()
            await asyncio.wait_for(run.wait(), 5)
            assert await outcome(next_one) == "completed"
            await at_rest(runner)


async def _raising() -> AsyncIterator[str]:
    raise SourceError("no")
    yield ""


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("error", [Conflict, Unavailable])
async def test_a_lost_log_frees_its_slot_once(at: int, error: type[StoreError]) -> None:
    store = FaultyStore(at, error, lasts=False)
    async with running(store, bounds=ONE) as runner:
        run = await launch(runner, ["a", {"b": 2}, "c"])
        await asyncio.wait_for(run.done, 5)
        await at_rest(runner)
        assert await outcome(await launch(runner, ["y"])) == "completed"
        await at_rest(runner)


class Failing(MemoryStore):
    """A store whose `open` fails while `down`."""

    down = True

    async def open(self, *args: Any, **more: Any) -> str:
        if self.down:
            raise Unavailable
        return await super().open(*args, **more)


async def test_a_launch_that_fails_half_way_holds_nothing() -> None:
    store = Failing()
    async with running(store, bounds=ONE) as runner:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await launch(runner, ["x"])
        assert len(runner.admission.runs) == 0
        store.down = False
        assert await outcome(await launch(runner, ["x"])) == "completed"
        await at_rest(runner)


async def test_a_busy_thread_holds_nothing() -> None:
    async with running(bounds=Bounds(max_runs=2)) as runner:
        work, _ = await full(runner, thread="t")
        for _ in range(3):
            with pytest.raises(Mismatch):
                await launch(runner, ["x"], thread="t")
        assert len(runner.admission.runs) == 1
        work.go.set()
        await at_rest(runner)


# Keys


async def test_a_repeat_takes_no_slot_and_is_not_refused() -> None:
    async with running(bounds=Bounds(max_runs=1, queue=0)) as runner:
        work, held = await full(runner, key="k")
        again = await runner.launch(Launch(Iterators().opener(["x"]), key="k"))
        assert (again.id, again.repeated, len(runner.admission.runs)) == (held.id, True, 1)
        assert not runner.admission.refused
        work.go.set()
        await at_rest(runner)


async def test_a_key_that_nobody_used_is_refused_and_free_again() -> None:
    async with running(bounds=Bounds(max_runs=1, queue=0)) as runner:
        work, _ = await full(runner)
        with pytest.raises(Overloaded) as raised:
            await launch(runner, ["x"], key="k", principal="me")
        assert raised.value.code == "too_many_runs"
        assert runner.admission.refused == {"max_runs": 1}
        store = runner.store
        assert isinstance(store, MemoryStore)
        assert not await store.list("run/", "me", 9)
        work.go.set()
        await at_rest(runner)
        assert await outcome(await launch(runner, ["x"], key="k", principal="me")) == "completed"
        await at_rest(runner)


# Memory


async def test_above_the_marks() -> None:
    """First no more runs, then the heaviest end, with what they had written; below, all is well."""
    held = 0
    async with running(memory=MemoryWatch(100, 200, lambda: held)) as runner:
        light, heavy = await launch(runner, Work()), await launch(runner, _heavy)
        await until(lambda: heavy.last >= 3 and light.last >= 2)
        held = 150
        await until(lambda: runner.admission.short_of_memory)
        with pytest.raises(Overloaded) as raised:
            await launch(runner, ["x"])
        assert (raised.value.code, raised.value.reason) == ("overloaded", "memory")
        held = 250
        assert await outcome(heavy) == "failed"
        assert heavy.error is not None
        assert heavy.error.code == "overloaded"
        events = await legal(runner.store, heavy.id)
        assert sum(len(event.text) for event in events if isinstance(event, e.TextDelta)) == 20_000
        assert light.outcome is None
        held = 50
        await until(lambda: not runner.admission.short_of_memory)
        assert await outcome(await launch(runner, ["x"])) == "completed"
        light.stop()
        await at_rest(runner)


async def _heavy() -> AsyncIterator[Any]:
    for _ in range(2):
        yield "x" * 10_000
    await asyncio.Event().wait()


async def test_a_process_without_runs_takes_one_however_short_memory_is() -> None:
    """Nobody's end would make it better."""
    async with running(memory=MemoryWatch(100, 200, lambda: 150)) as runner:
        assert await outcome(await launch(runner, ["x"])) == "completed"


async def test_the_head_is_that_of_a_queued_run_for_other_processes_too() -> None:
    async with running(bounds=ONE) as runner:
        work, _ = await full(runner)
        run = await launch(runner, ["x"])
        tail = await runner.store.tail(run_log(run.id))
        assert tail is not None
        assert heads.decode(tail.head).state == "queued"
        work.go.set()
        await at_rest(runner)
