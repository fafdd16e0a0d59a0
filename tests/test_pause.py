"""Pausing the run: its source is not pulled, nothing is lost, and everybody sees it; whatever it is doing just then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.parts import (
    FaultyStore,
    LateStore,
    bare_run,
    launch,
    legal,
    outcome,
    records_of,
    running,
    text_of,
    turns,
    until,
)

from tidelog import asking, attempts, control
from tidelog import events as e
from tidelog.asking import head_of
from tidelog.breath import BREATH, BREATH_BYTES
from tidelog.errors import Gone, SourceError
from tidelog.limits import Limits
from tidelog.log import control_log
from tidelog.run import Run, current
from tidelog.runner import Runner
from tidelog.sources.iterators import AHEAD, Iterators
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


class Source:
    """Numbers, as far as it is let; it knows how many were pulled."""

    def __init__(self, count: int = 1_000_000, *, wait: bool = True) -> None:
        self.count = count
        self.pulled = 0
        self.closed = False
        self.allowed = 0
        self._wait = wait
        self._more = asyncio.Event()

    def allow(self, more: int = 1) -> None:
        self.allowed += more
        self._more.set()

    async def __call__(self) -> AsyncIterator[str]:
        try:
            for number in range(self.count):
                self.pulled += 1
                while self._wait and number >= self.allowed:
                    self._more.clear()
                    await self._more.wait()
                yield f"{number} "
        finally:
            await asyncio.sleep(0)
            self.closed = True

    def text(self, count: int) -> str:
        return "".join(f"{number} " for number in range(count))


def states(events: list[e.AnyEvent]) -> list[str]:
    return [event.state for event in events if isinstance(event, e.RunState)]


async def ended(runner: Runner, run: Run) -> list[e.AnyEvent]:
    await outcome(run)
    return await legal(runner.store, run.id)


# What is pulled


@pytest.mark.parametrize("late", [False, True])
async def test_a_chunk_on_its_way_is_kept_and_no_other_is_pulled(late: bool) -> None:
    source = Source(5)
    async with running(LateStore() if late else MemoryStore()) as runner:
        run = await launch(runner, source)
        source.allow(2)
        await until(lambda: source.pulled == 3)
        run.pause()
        run.pause()
        assert run.paused
        source.allow(3)
        await turns(200)
        assert source.pulled == 3, "the third was on its way"
        assert (await head_of(runner.store, run.id)).state == "paused"
        run.resume()
        run.resume()
        events = await ended(runner, run)
        assert text_of(events) == source.text(5)
        assert states(events) == ["paused", "running"]
        assert events[3:5] == [e.RunState(state="paused"), e.TextDelta(part="p1", text="2 ")]
        assert run.outcome == "completed"
        assert source.closed


@pytest.mark.parametrize("how", ["async", "plain", "sync"])
async def test_a_source_that_never_waits(how: str) -> None:
    async def words() -> AsyncIterator[str]:
        for n in range(20_000):
            yield f"{n} "

    whole = [f"{n} " for n in range(20_000)]
    async with running() as runner:
        run = await launch(runner, {"async": words, "plain": whole, "sync": lambda: iter(whole)}[how])
        await until(lambda: run.last > 10)
        run.pause()
        await turns(200)
        before = run.last
        assert before < 20_000, "it was too quick for this test"
        await turns(2000)
        assert run.last <= before + 1, "one may come from its thread late"
        run.resume()
        assert text_of(await ended(runner, run)) == "".join(whole)


async def test_a_sync_source_goes_on_in_its_thread_until_it_is_far_enough_ahead() -> None:
    yielded = 0

    def words() -> Iterator[str]:
        nonlocal yielded
        for n in range(1000):
            yielded += 1
            yield f"{n} "

    store = MemoryStore()
    run = await bare_run(store)
    task = asyncio.create_task(run.work(Iterators().opener(words)))
    run.pause()
    await turns()
    assert not yielded
    run.resume()
    await until(lambda: run.last > 3)
    run.pause()
    taken = run.last
    await until(lambda: yielded >= min(1000, taken + AHEAD - 4))
    await turns(2000)
    assert run.last <= taken + 1
    assert yielded <= taken + AHEAD + 1
    run.resume()
    assert await outcome(run) == "completed"
    assert text_of(await legal(store, "r")) == "".join(f"{n} " for n in range(1000))
    await task


async def test_under_lockstep() -> None:
    source = Source(4, wait=False)
    async with running() as runner:
        run = await launch(runner, source, limits=Limits(lockstep=0))
        run.viewers.add("viewer", 1)
        await until(lambda: run.last == 2)
        run.pause()
        run.viewers.moved("viewer", 100)
        await turns(50)
        assert source.pulled == 1
        run.resume()
        assert text_of(await ended(runner, run)) == source.text(4)


async def test_before_the_first_pull_nothing_is_opened() -> None:
    opened = []

    async def words() -> AsyncIterator[str]:
        opened.append(1)
        yield "x"

    store = MemoryStore()
    run = await bare_run(store)
    run.pause()
    task = asyncio.create_task(run.work(Iterators().opener(words)))
    await turns(50)
    assert not opened
    run.resume()
    assert await outcome(run) == "completed"
    await task
    assert states(await legal(store, "r")) == ["paused", "running"]


async def test_a_source_that_pauses_its_own_run() -> None:
    said = []

    async def words() -> AsyncIterator[str]:
        yield "a"
        current.get().pause()
        yield "b"
        said.append("went on")
        yield "c"

    async with running() as runner:
        run = await launch(runner, words)
        await until(lambda: run.last == 4)
        await turns(50)
        assert not said
        run.resume()
        assert text_of(await ended(runner, run)) == "abc"


async def test_a_sync_source_that_pauses_its_own_run() -> None:
    def words() -> Iterator[str]:
        for n in range(1000):
            if n == 10:
                run = current.get()
                run.loop.call_soon_threadsafe(run.pause)
            yield f"{n} "

    async with running() as runner:
        run = await launch(runner, words)
        await until(lambda: run.paused)
        run.resume()
        events = await ended(runner, run)
        assert text_of(events) == "".join(f"{n} " for n in range(1000))
        assert states(events) == ["paused", "running"]


async def test_what_others_emit_meanwhile_is_kept() -> None:
    source = Source(2)
    async with running() as runner:
        run = await launch(runner, source)
        source.allow(1)
        await until(lambda: source.pulled == 2)
        run.pause()
        run.emit({"note": 1})
        source.allow(1)
        run.resume()
        events = await ended(runner, run)
        assert [type(event) for event in events[2:6]] == [e.RunState, e.Data, e.RunState, e.TextDelta]


# The end of a run that is paused


@pytest.mark.parametrize("held", [False, True], ids=["waiting for its source", "held before its source"])
@pytest.mark.parametrize(("how", "expected"), [("stop", "stopped"), ("interrupt", "interrupted")])
async def test_it_ends_at_once(how: str, expected: str, held: bool) -> None:
    source = Source()
    async with running() as runner:
        run = await launch(runner, source)
        source.allow(1)
        await until(lambda: source.pulled == 2)
        run.pause()
        if held:
            source.allow(1)
            await turns(50)
        getattr(run, how)()
        run.resume()
        events = await ended(runner, run)
        assert run.outcome == expected
        assert source.closed
        assert states(events) == ["paused"]
        assert text_of(events) == source.text(1 + held)
        run.pause()
        assert (await head_of(runner.store, run.id)).state == "ended"


async def test_stopped_before_the_first_pull() -> None:
    source = Source()
    store = MemoryStore()
    run = await bare_run(store)
    run.pause()
    task = asyncio.create_task(run.work(Iterators().opener(source)))
    await turns()
    run.stop()
    assert await outcome(run) == "stopped"
    await task
    assert not source.pulled


@pytest.mark.parametrize("fails", [False, True])
async def test_a_source_that_ends_with_what_was_on_its_way_ends_the_run(fails: bool) -> None:
    free = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        yield "all"
        await free.wait()
        if fails:
            raise SourceError("Sorry.")

    async with running() as runner:
        run = await launch(runner, words)
        await until(lambda: run.last == 2)
        run.pause()
        free.set()
        assert await outcome(run) == ("failed" if fails else "completed")
        assert states(await legal(runner.store, run.id)) == ["paused"]


async def test_a_pause_is_limited() -> None:
    source = Source()
    async with running() as runner:
        run = await launch(runner, source, limits=Limits(pause_limit=0.02))
        await until(lambda: source.pulled)
        run.pause()
        assert await outcome(run) == "timed_out"
        assert run.error == e.Error("timed_out", "The run was paused for too long.", True)
        await legal(runner.store, run.id)
        assert source.closed


@pytest.mark.parametrize("held", [False, True])
async def test_the_clocks_stand_still(held: bool) -> None:
    """The other limits are shorter than that of the pause, and do not pass before it."""
    limits = Limits(first_event_timeout=0.01, gap_timeout=0.01, total_timeout=0.01, pause_limit=0.03)
    store = MemoryStore()
    run = await bare_run(store, limits)
    source = Source()
    task = asyncio.create_task(run.work(Iterators().opener(source)))
    await asyncio.sleep(0)  # it is opened
    if held:
        source.allow(1)
    run.pause()
    assert await outcome(run) == "timed_out"
    assert run.error is not None
    assert "paused" in run.error.message
    await task


async def test_the_clocks_go_on() -> None:
    async with running() as runner:
        run = await launch(runner, Source(), limits=Limits(first_event_timeout=0.02))
        run.pause()
        run.resume()
        assert await outcome(run) == "timed_out"
        assert run.error == e.Error.of("timed_out")


async def test_a_log_that_is_full_ends_the_run() -> None:
    """Who pauses and resumes for ever must not fill the store."""
    async with running() as runner:
        run = await launch(runner, Source(), limits=Limits(max_run_records=20))
        for _ in range(50):
            run.pause()
            run.resume()
        events = await ended(runner, run)
        assert run.error == e.Error("too_large", "The run is over its limit of bytes or records.")
        assert len(events) == 21


@pytest.mark.parametrize("late", [False, True])
async def test_a_log_that_is_lost_ends_the_run(late: bool) -> None:
    async with running(FaultyStore(1, late=late, lasts=False)) as runner:
        source = Source()
        run = await launch(runner, source)
        source.allow(1)
        await until(lambda: source.pulled == 2)
        run.pause()
        assert await outcome(run) == "failed"
        await until(lambda: not len(runner))
        await legal(runner.store, run.id)


async def test_a_process_that_goes_does_not_wait_for_it() -> None:
    source = Source()
    async with running() as runner:
        paused = await launch(runner, source)
        other = await launch(runner, Source(3, wait=False))
        await until(lambda: source.pulled)
        paused.pause()
        runner.drain()
        assert await outcome(paused) == "interrupted"
        assert await outcome(other) == "completed"
        await asyncio.wait_for(runner.aclose(drain_timeout=60.0), 5.0)


# Attempts


class Failing:
    """Fails `times` times before it says anything, when it is let."""

    def __init__(self, times: int = 1) -> None:
        self.tried = 0
        self.times = times
        self.free = asyncio.Event()

    async def __call__(self) -> AsyncIterator[str]:
        self.tried += 1
        await self.free.wait()
        if self.tried <= self.times:
            raise SourceError("busy", code="overloaded")
        yield "at last"


async def test_a_pause_is_no_word_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails behind it, before its first event, is tried again; but not before the run is resumed."""
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.001)
    source = Failing()
    async with running() as runner:
        run = await launch(runner, source, attempts=2)
        await until(lambda: source.tried)
        run.pause()
        source.free.set()
        await until(lambda: run.attempt == 2 and not run._pulling)
        await turns(50)
        assert source.tried == 1
        run.resume()
        events = await ended(runner, run)
        assert text_of(events) == "at last"
        assert [type(event) for event in events[1:5]] == [e.RunState, e.Progress, e.RunState, e.TextDelta]


@pytest.mark.parametrize("how", ["resumed", "stopped"])
async def test_a_pause_in_the_wait_for_the_next_attempt(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.02)
    source = Failing()
    source.free.set()
    async with running() as runner:
        run = await launch(runner, source, attempts=2)
        await until(lambda: run.attempt == 2)
        run.pause()
        if how == "stopped":
            run.stop()
            assert await outcome(run) == "stopped"
        else:
            await until(lambda: not run._pulling)
            await turns(50)
            assert source.tried == 1
            run.resume()
            assert text_of(await ended(runner, run)) == "at last"
        assert source.tried == 1 + (how == "resumed")


async def test_a_source_that_cannot_be_tried_again_fails_while_paused() -> None:
    source = Failing()
    async with running() as runner:
        run = await launch(runner, source)
        await until(lambda: source.tried)
        run.pause()
        source.free.set()
        assert await outcome(run) == "failed"


# Asked


async def test_the_answers_are_true() -> None:
    async with running() as runner:
        store = runner.store
        for verb in (asking.pause, asking.resume):
            with pytest.raises(Gone):
                await verb(store, "unknown")
        run = await launch(runner, Source())
        assert await asking.resume(store, run.id) == "not_paused"
        assert await asking.pause(store, run.id) == "paused"
        assert run.paused
        assert await asking.pause(store, run.id) == "already_paused"
        assert await asking.resume(store, run.id) == "resumed"
        assert not run.paused
        assert await asking.resume(store, run.id) == "not_paused"
        await asking.pause(store, run.id)
        assert await asking.stop(store, run.id) == "stopped"
        assert await asking.pause(store, run.id) == "already_ended"
        assert await asking.resume(store, run.id) == "already_ended"
        assert states(await legal(store, run.id)) == ["paused", "running", "paused"]


async def test_nobody_waits_for_ever() -> None:
    store = MemoryStore()
    run = await bare_run(store)  # nobody hears what is asked of it
    async with running(store):
        assert await asking.pause(store, "r", patience=0.02) == "pausing"
        run.pause()
        assert await asking.resume(store, "r", patience=0.02) == "resuming"


async def test_who_is_overtaken_is_told_that_it_was_obeyed() -> None:
    """A pause that somebody else undid at once is no pause that never came."""
    store = MemoryStore()
    run = await bare_run(store)
    asked = asyncio.create_task(asking.pause(store, "r", patience=60.0))
    await turns()
    run.pause(asked=1)
    run.resume(asked=2)
    assert await asyncio.wait_for(asked, 10.0) == "paused"


async def test_what_is_asked_late_is_obeyed_in_order() -> None:
    """A resume behind a pause that was not obeyed yet is not forgotten."""
    store = MemoryStore()
    run = await bare_run(store)
    assert await asking.pause(store, "r", patience=0.0) == "pausing"
    assert await asking.resume(store, "r", patience=0.0) == "not_paused"
    page = await store.read(control_log("r"), 0)
    assert [control.decode(record.data) for record in page.records] == [control.Pause(), control.Resume()]
    assert run.last == 1


async def test_many_at_once() -> None:
    source = Source(50)
    async with running() as runner:
        run = await launch(runner, source)
        found: list[str] = []
        for _ in range(50):
            source.allow()
            verbs = [asking.pause, asking.pause, asking.resume, asking.resume]
            found += await asyncio.gather(*(verb(runner.store, run.id) for verb in verbs))
        assert set(found) <= {"paused", "already_paused", "resumed", "not_paused", "already_ended"}
        await asking.resume(runner.store, run.id)
        events = await ended(runner, run)
        assert text_of(events) == source.text(50)
        told = states(events)
        assert told == ["paused", "running"] * (len(told) // 2)


async def test_a_run_goes_back_to_what_it_did() -> None:
    """Who waits in a queue waits there again."""
    store = MemoryStore()
    run = await bare_run(store)
    run.writer.enter("queued", 3)
    run.pause()
    run.resume()
    page = await records_of(store, "r")
    assert states([event for record in page if (event := e.decode(record.data))]) == ["queued", "paused", "queued"]


def test_the_breath_is_what_these_tests_think() -> None:
    """A source that never waits is looked at this often; a pause must not wait for longer."""
    assert (BREATH, BREATH_BYTES) == (32, 4096)
