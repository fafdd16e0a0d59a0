"""The writing loop: whatever happens to a source, a run or its store, the log is legal, ends once, and clean-up has run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
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

from tidelog import attempts
from tidelog import events as e
from tidelog import run as run_module
from tidelog import runner as runner_module
from tidelog import writer as writer_module
from tidelog.asking import head_of
from tidelog.errors import Conflict, InvalidEvent, SourceError, TooLarge, Unavailable
from tidelog.limits import Limits
from tidelog.parts import Chunk
from tidelog.run import current
from tidelog.sources.iterators import Iterators
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOLD = Limits(lockstep=0)
"""With these limits a run stops at each yield until its viewer has seen it."""


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as a warning or worse, and no garbage collection helps."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
    assert not [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]


# Clean-up, wherever the source stands

VAR: ContextVar[str] = ContextVar("var", default="")


class Trace:
    """What a source tells of its clean-up."""

    def __init__(self) -> None:
        self.reached = False
        self.opened: object = None
        self.closed: object = None
        self.seconds = 0.0

    def where(self) -> object:
        return asyncio.current_task(), VAR.get(), current.get()


@asynccontextmanager
async def anyio_group() -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield


@asynccontextmanager
async def asyncio_group() -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(anyio.sleep_forever())
        yield


@asynccontextmanager
async def token() -> AsyncIterator[None]:
    found = VAR.set("mine")
    try:
        yield
    finally:
        VAR.reset(found)


@asynccontextmanager
async def stack() -> AsyncIterator[None]:
    async with AsyncExitStack() as found:
        await found.enter_async_context(token())
        await found.enter_async_context(anyio_group())
        found.push_async_callback(asyncio.sleep, 0)
        yield


HOLDERS: dict[str, Callable[[], Any]] = {
    "task group of anyio": anyio_group,
    "task group of asyncio": asyncio_group,
    "token": token,
    "timeout of asyncio": lambda: asyncio.timeout(60),
    "timeout of anyio": lambda: anyio.fail_after(60),
    "stack": stack,
}
POINTS = 3


async def holding(holder: Callable[[], Any], trace: Trace, wait_at: int | None = None) -> AsyncIterator[str]:
    """Yields POINTS words, holding something; its clean-up waits."""
    made = holder()
    async with made if hasattr(made, "__aenter__") else _entered(made):
        trace.opened = trace.where()
        try:
            for n in range(POINTS):
                if n == wait_at:
                    trace.reached = True
                    await asyncio.Event().wait()
                yield f"{n} "
        finally:
            await asyncio.sleep(0)
            await asyncio.to_thread(int)
            trace.closed = trace.where()


@asynccontextmanager
async def _entered(made: Any) -> AsyncIterator[None]:
    with made:
        yield


ENDINGS: dict[str, e.Outcome] = {"stop": "stopped", "interrupt": "interrupted"}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("point", range(POINTS))
@pytest.mark.parametrize("name", HOLDERS)
async def test_stop_while_the_source_waits(name: str, point: int, how: str) -> None:
    trace = Trace()
    async with running() as runner:
        run = await launch(runner, holding(HOLDERS[name], trace, point))
        await until(lambda: trace.reached)
        await ends(run, how, trace)
        assert text_of(await legal(runner.store, run.id)) == "".join(f"{n} " for n in range(point))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("point", range(POINTS))
@pytest.mark.parametrize("name", HOLDERS)
async def test_stop_while_the_source_is_suspended_at_a_yield(name: str, point: int, how: str) -> None:
    trace = Trace()
    async with running() as runner:
        run = await launch(runner, holding(HOLDERS[name], trace), limits=HOLD)
        run.viewers.add("viewer", 1 + point)
        await until(lambda: run.last == 2 + point)
        await turns()
        await ends(run, how, trace)
        assert text_of(await legal(runner.store, run.id)) == "".join(f"{n} " for n in range(point + 1))


async def ends(run: run_module.Run, how: str, trace: Trace) -> None:
    """End the run: its source's `finally` has run soon, where it was opened."""
    begun = time.monotonic()
    getattr(run, how)()
    run.stop()  # the second changes nothing
    assert await outcome(run) == ENDINGS[how]
    assert time.monotonic() - begun < 5.0, "the promise is 1 s; a machine that is busy with other tests gets more"
    assert trace.opened is not None
    assert trace.closed == trace.opened


@pytest.mark.usefixtures("quiet")
async def test_stop_by_the_source_itself_leaves_its_clean_up_alone() -> None:
    cleaned = []

    async def work() -> AsyncIterator[str]:
        try:
            current.get().stop()
            yield "kept or not"
        finally:
            await asyncio.sleep(0)
            task = asyncio.current_task()
            cleaned.append(task.cancelling() if task else None)

    async with running() as runner:
        run = await launch(runner, work())
        assert await outcome(run) == "stopped"
        await legal(runner.store, run.id)
    assert cleaned == [0]


@pytest.mark.usefixtures("quiet")
async def test_stop_before_the_source_was_opened() -> None:
    opened = []

    def work() -> list[str]:
        opened.append(1)
        return ["x"]

    async def coroutine() -> list[str]:
        return work()

    def sync() -> Iterator[str]:
        opened.append(2)
        yield "x"

    for made in (work, coroutine, sync, lambda: sync(), sync()):
        store = MemoryStore()
        run = await bare_run(store)
        run.stop()
        await run.work(Iterators().opener(made))
        assert await outcome(run) == "stopped"
        assert len(await legal(store, run.id)) == 2
    assert not opened


@pytest.mark.usefixtures("quiet")
async def test_a_run_leaves_nothing_behind() -> None:
    """The task ends uncancelled, and the runner forgets the run: also where appends take their time."""
    for store in (MemoryStore(), LateStore()):
        async with running(store) as runner:
            run = await launch(runner, ["a", "b"])
            assert await outcome(run) == "completed"
            await until(lambda: not len(runner))
            assert runner.live(run.id) is None
            await until(lambda: not [task for task in asyncio.all_tasks() if "Run.work" in repr(task)])


# Sources that do not obey


async def test_a_source_that_swallows_its_cancellation_and_goes_on_is_closed() -> None:
    trace = []

    async def work() -> AsyncIterator[str]:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            yield "never seen"
            trace.append("went on")
        finally:
            await asyncio.sleep(0)
            trace.append("closed")

    async with running() as runner:
        run = await launch(runner, work())
        await turns()
        run.stop()
        assert await outcome(run) == "stopped"
        assert text_of(await legal(runner.store, run.id)) == ""
    assert trace == ["closed"]


async def test_a_source_that_swallows_what_it_is_told_is_not_pulled_again() -> None:
    trace = []

    async def work() -> AsyncIterator[Any]:
        try:
            with contextlib.suppress(InvalidEvent):
                yield object()
            yield "never seen"
            trace.append("went on")
        finally:
            trace.append("closed")

    async with running() as runner:
        run = await launch(runner, work())
        assert await outcome(run) == "failed"
        await until(lambda: not len(runner))
    assert trace == ["closed"]


@pytest.mark.parametrize("how", ["swallows", "hangs in finally", "hangs in close", "hangs after an illegal value"])
async def test_a_source_that_does_not_end_is_left_behind(how: str) -> None:
    """The log ends within `close_timeout`; the runner forgets the run and can close."""
    free = asyncio.Event()

    async def forever() -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    async def work() -> AsyncIterator[Any]:
        yield "first"
        try:
            if how == "hangs in close":
                yield "second"
            elif how == "hangs after an illegal value":
                yield object()
            else:
                await (forever() if how == "swallows" else asyncio.Event().wait())
        finally:
            await forever()

    async with running() as runner:
        run = await launch(runner, work(), limits=Limits(close_timeout=0.05, lockstep=1 if "close" in how else None))
        await until(lambda: run.last >= 2)
        await turns()
        run.stop()
        assert await outcome(run) == ("failed" if "illegal" in how else "stopped")
        assert len(runner) == 0 or await until(lambda: not len(runner)) is None
        assert text_of(await legal(runner.store, run.id)).startswith("first")
        begun = time.monotonic()
        await runner.aclose(drain_timeout=5.0)
        assert time.monotonic() - begun < 4.0
        free.set()
        await turns()


async def test_what_a_task_group_wraps_is_told_as_itself() -> None:
    async def work() -> AsyncIterator[str]:
        async with anyio.create_task_group():
            yield "text"
            raise SourceError("Busy.", code="rate_limited", retry_after=3)

    async with running() as runner:
        run = await launch(runner, work())
        assert await outcome(run) == "failed"
        ended = (await legal(runner.store, run.id))[-1]
        assert isinstance(ended, e.RunEnded)
        assert ended.error == e.Error("rate_limited", "Busy.", True, 3)
        assert isinstance(run.failure, SourceError)


@pytest.mark.parametrize("how", ["awaits a cancelled task", "raises it", "a time limit that passes at a yield"])
async def test_a_source_cancelled_from_inside_has_failed(how: str) -> None:
    """Not `interrupted`: this process is still there."""

    async def work() -> AsyncIterator[str]:
        yield "text"
        if how == "raises it":
            raise asyncio.CancelledError
        if how == "awaits a cancelled task":
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task
        async with asyncio.timeout(0.01):
            yield "more"

    async with running() as runner:
        run = await launch(runner, work(), limits=Limits(lockstep=20))
        run.viewers.add("viewer", 2)
        assert await outcome(run) == "failed"
        ended = (await legal(runner.store, run.id))[-1]
        assert isinstance(ended, e.RunEnded)
        assert ended.error == e.Error.of("internal")


async def test_who_cancels_the_task_interrupts_the_run() -> None:
    trace = Trace()
    async with running() as runner:
        run = await launch(runner, holding(token, trace, 1))
        await until(lambda: trace.reached)
        [task] = [task for task in asyncio.all_tasks() if "Run.work" in repr(task)]
        task.cancel()
        assert await outcome(run) == "interrupted"
        assert trace.closed == trace.opened
        await legal(runner.store, run.id)
        await until(task.done)
        assert task.cancelled()


async def test_a_cancelled_task_whose_source_hangs_ends_the_log() -> None:
    free = asyncio.Event()

    async def work() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            await free.wait()

    async with running() as runner:
        run = await launch(runner, work, limits=Limits(close_timeout=0.02, lockstep=0))
        await until(lambda: run.last == 2)
        await turns()
        [task] = [task for task in asyncio.all_tasks() if "Run.work" in repr(task)]
        task.cancel()
        assert await outcome(run) == "interrupted"
        await legal(runner.store, run.id)
        free.set()


# Failures

SCRIPT: tuple[Any, ...] = (
    "Hel", "lo ", e.Progress(task="t"), e.ReasoningDelta(text="hm"), e.ToolStarted(call="c", name="n"),
    e.ToolInputDelta(call="c", json="{}"), e.ToolStarted(call="d", name="n", parent="c"), e.ToolInput(call="c", input={}),
    e.ToolEnded(call="d"), "there", {"k": 1}, e.Usage(input=3, output=4), b"\xe4\xbd", b"\xa0", e.TextEnded(part="p2"), "bye",
)  # fmt: skip
RAISED: dict[str, tuple[Exception, str]] = {
    "words of the application": (SourceError("Sorry.", code="rate_limited"), "rate_limited"),
    "a bug": (ZeroDivisionError("secret"), "internal"),
    "a group": (ExceptionGroup("two", [ValueError("secret"), ValueError()]), "internal"),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", RAISED)
async def test_a_raise_at_every_index(name: str, late: bool) -> None:
    error, code = RAISED[name]
    cleaned = []

    async def work(stop_at: int) -> AsyncIterator[Any]:
        try:
            for value in SCRIPT[:stop_at]:
                yield value
            raise error
        finally:
            await asyncio.sleep(0)
            cleaned.append(stop_at)

    whole = "Hello there" + "你" + "bye"
    async with running(LateStore() if late else MemoryStore()) as runner:
        for index in range(len(SCRIPT) + 1):
            run = await launch(runner, work(index))
            assert await outcome(run) == "failed"
            events = await legal(runner.store, run.id)
            ended = events[-1]
            assert isinstance(ended, e.RunEnded)
            assert ended.error is not None
            assert ended.error.code == code
            assert "secret" not in ended.error.message
            assert ended.can == ()  # nobody's request started it
            assert ended.usage == (e.TokenUsage(3, 4, "provider") if index > 11 else e.TokenUsage())
            assert whole.startswith(text_of(events))
            assert run.failure is error
    assert cleaned == list(range(len(SCRIPT) + 1))


ILLEGAL: tuple[Any, ...] = (
    object(), 5, ["x"], e.TextEnded(part="p9"), e.ToolInput(call="x"),
    e.RunEnded(outcome="completed", usage=e.TokenUsage(), can=()),
    e.TextDelta(text=5), e.TextDelta(part=None, text=""), e.ToolEnded(call="c", outcome="fine"), e.Data(data=object()),  # type: ignore[arg-type]
    e.Data(data={"\ud800": float("nan")}), e.Event(),
)  # fmt: skip


@pytest.mark.parametrize("index", range(len(ILLEGAL)))
async def test_an_illegal_value_is_raised_where_it_was_yielded(index: int) -> None:
    caught: list[BaseException] = []

    async def work() -> AsyncIterator[Any]:
        yield "text"
        try:
            yield ILLEGAL[index]
        except InvalidEvent as error:
            caught.append(error)
        yield "not taken"

    async with running() as runner:
        run = await launch(runner, work())
        assert await outcome(run) == "failed"
        events = await legal(runner.store, run.id)
        assert text_of(events) == "text"
        assert isinstance(events[-1], e.RunEnded)
        assert events[-1].error == e.Error.of("invalid_event")
        assert caught == [run.failure]


# Limits


async def slow(first: float, then: float) -> AsyncIterator[str]:
    await asyncio.sleep(first)
    while True:
        yield "word "
        await asyncio.sleep(then)


async def endless() -> AsyncIterator[str]:
    while True:
        yield "x" * 50


LIMITED: dict[str, tuple[Limits, Callable[[], Any], e.Outcome, str]] = {
    "first event": (Limits(first_event_timeout=0.02), lambda: slow(60, 60), "timed_out", "timed_out"),
    "gap": (Limits(gap_timeout=0.02), lambda: slow(0, 60), "timed_out", "timed_out"),
    "total, while it waits": (Limits(total_timeout=0.05), lambda: slow(0, 0.005), "timed_out", "timed_out"),
    "total, while it never waits": (Limits(total_timeout=0.05), endless, "timed_out", "timed_out"),
    "total, while its viewer is behind": (Limits(total_timeout=0.05, lockstep=0), endless, "timed_out", "timed_out"),
    "bytes of an event": (Limits(max_event_bytes=60), endless, "failed", "too_large"),
    "bytes of a run": (Limits(max_run_bytes=1000), endless, "failed", "too_large"),
    "records of a run": (Limits(max_run_records=10), endless, "failed", "too_large"),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", LIMITED)
async def test_each_limit_has_its_code(name: str, late: bool) -> None:
    limits, source, how, code = LIMITED[name]
    async with running(LateStore() if late else MemoryStore()) as runner:
        run = await launch(runner, source, limits=limits)
        assert await outcome(run) == how
        events = await legal(runner.store, run.id)
        ended = events[-1]
        assert isinstance(ended, e.RunEnded)
        assert ended.error is not None
        assert ended.error.code == code
        if "records" in name:
            assert len([event for event in events if isinstance(event, e.TextDelta)]) == 9


# Order and room


@pytest.mark.parametrize("count", [1, 2, 1000])
async def test_order_is_kept_while_appends_are_late(count: int) -> None:
    store = LateStore()
    async with running(store) as runner:
        run = await launch(runner, (f"{n} " for n in range(count)))
        assert await outcome(run) == "completed"
        assert text_of(await legal(store, run.id)) == "".join(f"{n} " for n in range(count))


async def test_a_source_waits_while_much_is_pending() -> None:
    store, pulled = LateStore(held=True), 0

    async def work() -> AsyncIterator[str]:
        nonlocal pulled
        for _ in range(1000):
            pulled += 1
            yield "x" * 4000

    async with running(store) as runner:
        run = await launch(runner, work())
        before = -1
        while pulled != before:
            before = pulled
            await turns(500)
        assert writer_module.PENDING_BYTES // 4100 <= pulled <= writer_module.PENDING_BYTES // 4000 + 3
        run.stop()
        await turns()
        assert run.outcome == "stopped"
        assert not run.done.done()
        store.release()
        assert await outcome(run) == "stopped"
        assert len(text_of(await legal(store, run.id))) == 4000 * pulled


async def test_emit_is_bounded_and_keeps_its_place() -> None:
    store = LateStore(held=True)
    refused = []

    async def work() -> AsyncIterator[str]:
        yield "a"
        current.get().emit("b")
        yield "c"
        try:
            for _ in range(10_000):
                current.get().emit({"much": "x" * 4000})
        except TooLarge as error:
            refused.append(error)
        store.release()

    async with running(store) as runner:
        run = await launch(runner, work())
        assert await outcome(run) == "completed"
        events = await legal(store, run.id)
        assert text_of(events) == "abc"
        assert len(refused) == 1
        assert len(events) < 1200


async def test_emit_while_the_run_ends_is_refused() -> None:
    refused = []

    async def work() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            try:
                current.get().emit("late")
            except InvalidEvent as error:
                refused.append(error)

    async with running() as runner:
        run = await launch(runner, work())
        await until(lambda: run.last == 2)
        run.stop()
        await outcome(run)
        with pytest.raises(InvalidEvent):
            run.emit("later")
        assert text_of(await legal(runner.store, run.id)) == "a"
    assert len(refused) == 1


async def test_text_after_text_is_the_same_as_every_event_by_itself() -> None:
    """The short way for text must not change what is logged."""

    async def work(values: list[Any]) -> AsyncGenerator[Any, None]:
        for value in values:
            yield value

    values = [
        "a",
        "",
        "b",
        b"\xc3",
        "c",
        b"\xa9",
        e.ToolStarted(call="c", name="n"),
        "d",
        "e\ud800",
        e.TextEnded(part="p2"),
        "f",
    ]
    async with running() as runner:
        run = await launch(runner, work(values))
        assert await outcome(run) == "completed"
        found = [event for event in await legal(runner.store, run.id) if isinstance(event, e.TextDelta)]
    assert [(event.part, event.text) for event in found] == [
        ("p1", "a"), ("p1", "b"), ("p1", "c"), ("p1", "é"), ("p2", "d"), ("p2", "e\ud800"), ("p3", "f"),
    ]  # fmt: skip


# The store fails


async def many() -> AsyncIterator[Any]:
    for n in range(4):
        yield f"{n} "
        yield e.ToolStarted(call=f"c{n}", name="n")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(10))
async def test_who_lost_the_log_ends_quietly(at: int, late: bool, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyStore(at, Conflict, late=late)
    async with running(store) as runner:
        run = await launch(runner, many())
        assert await outcome(run) in ("failed", "completed")
        lost = store.appends > at
        assert (run.outcome == "failed") == lost
        await until(lambda: not len(runner))
        records = await records_of(store, run.id)
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        assert store.appends <= at + 1 or not lost or late  # what follows a late one is under way already
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(10))
async def test_an_ending_that_could_not_be_stored_is_stored_later(
    at: int, late: bool, lasts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "RETRY_ENDING", 0.001)
    store = FaultyStore(at, Unavailable, late=late, lasts=lasts)
    async with running(store) as runner:
        run = await launch(runner, many())
        await outcome(run)
        await turns()
        if store.down:
            assert run.outcome == "failed"
            assert len(runner) == 1
            store.down = False
        await until(lambda: not len(runner))
        events = await legal(store, run.id)
        assert isinstance(events[-1], e.RunEnded)
        assert events[-1].outcome == run.outcome
        if run.outcome == "failed":
            assert events[-1].error == e.Error.of("store_unavailable")
        assert "0 1 2 3 ".startswith(text_of(events))


@pytest.mark.parametrize(
    ("message", "retry_after"), [(ValueError("boom"), None), ("boom", "soon"), ("boom", float("nan"))]
)
async def test_an_error_of_odd_words_ends_the_run_all_the_same(message: Any, retry_after: Any) -> None:
    async def source() -> AsyncIterator[str]:
        yield "x"
        raise SourceError(message, retry_after=retry_after)

    async with running() as runner:
        run = await launch(runner, source)
        assert await asyncio.wait_for(run.wait(), 5.0) == "failed"
        head = await head_of(runner.store, run.id)
        assert head.error is not None
        assert (head.error.message, head.error.retry_after) == ("boom", None)


async def test_no_other_attempt_is_waited_for_once_the_log_is_lost() -> None:
    async def source() -> AsyncIterator[str]:
        raise SourceError("busy", code="overloaded", retry_after=60.0)
        yield ""

    async with running(FaultyStore(0, lasts=False)) as runner:
        run = await launch(runner, source, limits=Limits(total_timeout=1000.0), attempts=2)
        await until(lambda: run._task is not None and run._task.done())
        assert (run.outcome, run.attempt) == ("failed", 2)


async def test_a_continued_run_whose_first_attempt_fails_goes_on_in_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the attempt said was held, to be joined to the text before it."""
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.001)
    tried = 0

    async def source() -> AsyncIterator[Chunk]:
        nonlocal tried
        tried += 1
        yield Chunk("openai", said("lo the"))
        if tried == 1:
            raise SourceError("busy", code="overloaded")
        yield Chunk("openai", said(" world and more"))

    def said(text: str) -> Any:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
        return {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}

    async with running() as runner:
        run = await launch(runner, source, attempts=2, partial="hello the wor", mode="continue", of="x")
        assert await outcome(run) == "completed"
        events = await legal(runner.store, run.id)
        assert (tried, text_of(events)) == (2, "hello the world and more")
        assert {event.part for event in events if isinstance(event, e.TextDelta | e.TextEnded)} == {"p1"}
