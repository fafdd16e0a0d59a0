"""Openers: every kind of source, in one task or one thread, in one context, and nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.parts import PATIENCE, launch, legal, outcome, running, text_of, turns, until

from tidelog import events as e
from tidelog.errors import InvalidEvent, InvalidRequest
from tidelog.limits import Limits
from tidelog.run import current
from tidelog.runner import Launch
from tidelog.sources.iterators import AHEAD, Iterators, Threaded, emit_from_thread
from tidelog.sources.pool import Pool

pytestmark = pytest.mark.anyio

VAR = contextvars.ContextVar("var", default="unset")


async def agen(*words: str) -> AsyncIterator[str]:
    for word in words or ("a", "b"):
        yield word


def gen(*words: str) -> Iterator[str]:
    yield from words or ("a", "b")


async def coroutine() -> list[str]:
    return ["a", "b"]


async def coroutine_of_a_source() -> AsyncIterator[str]:
    return agen()


class AsyncOnly:
    def __aiter__(self) -> AsyncIterator[str]:
        return agen()


class Call:
    def __call__(self) -> Iterator[str]:
        return gen()


KINDS: dict[str, Any] = {
    "async generator": agen, "generator": gen,
    "partial": functools.partial(agen, "a", "b"), "partial of a generator": functools.partial(gen, "a", "b"),
    "function that makes one": lambda: agen(), "function that makes a generator": lambda: gen(), "coroutine function": coroutine,
    "coroutine function that makes one": coroutine_of_a_source, "object to call": Call(),
    "function that makes a text": lambda: "ab",
}  # fmt: skip
MADE: dict[str, Any] = {
    "async generator": agen, "generator": gen, "list": lambda: ["a", "b"], "tuple": lambda: ("a", "b"), "text": lambda: "ab",
    "iterable": AsyncOnly, "map": lambda: map(str.lower, "AB"), "bytes": lambda: b"ab", "nothing": lambda: ["ab"],
}  # fmt: skip


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("name", sorted({*KINDS, *MADE}))
async def test_every_kind_of_source(name: str, made: bool) -> None:
    if name not in (MADE if made else KINDS):
        return
    work = MADE[name]() if made else KINDS[name]
    async with running() as runner:
        run = await launch(runner, work)
        assert await outcome(run) == "completed"
        assert text_of(await legal(runner.store, run.id)) == "ab"


async def test_what_is_no_source_is_refused() -> None:
    for work in (None, 5, object()):
        with pytest.raises(InvalidRequest):
            Iterators().opener(work)
    async with running() as runner:
        run = await launch(runner, lambda: 5)
        assert await outcome(run) == "failed"


async def test_a_generator_that_has_begun_is_refused() -> None:
    begun, ended, sync = agen(), agen(), gen()
    await anext(begun)
    async for _ in ended:
        pass
    next(sync)
    for work in (begun, ended, sync):
        with pytest.raises(InvalidRequest, match="has begun"):
            Iterators().opener(work)
    await begun.aclose()  # type: ignore[attr-defined]


async def test_a_generator_with_many_free_variables_has_not_begun() -> None:
    """Its first instructions make cells, so that it waits further in."""
    a = b = c = d = "x"

    async def work(p: str, q: str, r: str, s: str) -> AsyncIterator[str]:
        def inner() -> str:
            return a + b + c + d + p + q + r + s

        yield inner()

    async with running() as runner:
        run = await launch(runner, work("y", "y", "y", "y"))
        await outcome(run)
        assert text_of(await legal(runner.store, run.id)) == "xxxxyyyy"


# In threads


async def test_a_sync_source_has_one_thread_and_one_context() -> None:
    seen: list[object] = []

    def work() -> Iterator[str]:
        found = VAR.set("mine")
        try:
            for word in "abc":
                seen.append((threading.get_ident(), VAR.get(), current.get().id))
                yield word
        finally:
            seen.append((threading.get_ident(), VAR.get(), current.get().id))
            VAR.reset(found)

    async with running() as runner:
        run = await launch(runner, work)
        await outcome(run)
        await legal(runner.store, run.id)
    assert seen == [(seen[0][0], "mine", run.id)] * 4  # type: ignore[index]
    assert seen[0][0] != threading.get_ident()  # type: ignore[index]
    assert VAR.get() == "unset"


async def test_a_sync_source_is_closed_in_its_thread_when_stopped() -> None:
    closed: list[int] = []
    began = threading.Event()

    def work() -> Iterator[str]:
        try:
            while True:
                began.set()
                yield "x"
        finally:
            closed.append(threading.get_ident())

    async with running() as runner:
        run = await launch(runner, work, limits=Limits(lockstep=0))
        await until(began.is_set)
        run.stop()
        assert await outcome(run) == "stopped"
        assert len(closed) == 1
        assert closed[0] != threading.get_ident()


async def test_a_sync_source_runs_at_most_so_far_ahead() -> None:
    made = 0

    def work() -> Iterator[str]:
        nonlocal made
        while made < 10_000:
            made += 1
            yield "x"

    source = Threaded(work(), Pool(1))
    await anext(source)
    before = -1
    while made != before:
        before = made
        await asyncio.sleep(0.02)
    assert made <= AHEAD + 2
    await source.aclose()
    await source.aclose()


async def test_a_step_that_blocks_does_not_hold_the_end_of_its_run() -> None:
    go, closed = threading.Event(), threading.Event()

    def work() -> Iterator[str]:
        try:
            yield "a"
            go.wait(PATIENCE)
            yield "b"
        finally:
            closed.set()

    async with running() as runner:
        run = await launch(runner, work, limits=Limits(close_timeout=0.05))
        await until(lambda: run.last == 2)
        run.stop()
        assert await outcome(run) == "stopped"
        assert not closed.is_set()
        assert text_of(await legal(runner.store, run.id)) == "a"
        go.set()
        await until(closed.is_set)


@pytest.mark.parametrize("where", ["step", "close", "iter"])
async def test_errors_of_a_sync_source_arrive(where: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __iter__(self) -> Iterator[str]:
            raise ZeroDivisionError

    def work() -> Iterator[str]:
        try:
            yield "a"
            if where == "step":
                raise ZeroDivisionError
            yield "b"
        finally:
            if where == "close":
                raise ZeroDivisionError

    async with running() as runner:
        run = await launch(runner, Broken() if where == "iter" else work, limits=Limits(lockstep=0))
        if where == "close":
            await until(lambda: run.last == 2)
            run.stop()
            assert await outcome(run) == "stopped"
            assert "raised while it was ending" in caplog.text
        else:
            run.viewers.add("v", 99)
            assert await outcome(run) == "failed"
            assert isinstance(run.failure, ZeroDivisionError)
        await legal(runner.store, run.id)


async def test_more_sources_than_threads_wait_their_turn() -> None:
    sources, most, now = Iterators(threads=3), 0, 0
    lock = threading.Lock()

    def work(n: int) -> Iterator[str]:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        yield str(n)
        with lock:
            now -= 1

    async with running() as runner:
        launched = [await runner.launch(Launch(sources.opener(functools.partial(work, n)))) for n in range(40)]
        for n, one in enumerate(launched):
            assert one.run is not None
            assert await outcome(one.run) == "completed"
            assert text_of(await legal(runner.store, one.id)) == str(n)
    assert most <= 3


async def test_a_source_that_waits_for_a_thread_can_be_stopped() -> None:
    sources, go, begun = Iterators(threads=1), threading.Event(), []

    def blocks() -> Iterator[str]:
        go.wait(PATIENCE)
        yield "a"

    def waits() -> Iterator[str]:
        begun.append(1)
        yield "b"

    async with running() as runner:
        first = (await runner.launch(Launch(sources.opener(blocks)))).run
        second = (await runner.launch(Launch(sources.opener(waits)))).run
        assert first is not None
        assert second is not None
        await turns()
        second.stop()
        assert await outcome(second) == "stopped"
        go.set()
        assert await outcome(first) == "completed"
    assert not begun


async def test_many_waiting_sync_sources_leave_the_loop_free() -> None:
    """500 of them, on 128 threads: another coroutine goes on all the while."""
    go, sources, beats = threading.Event(), Iterators(), 0

    def work() -> Iterator[str]:
        yield "a"
        go.wait(PATIENCE)
        yield "b"

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    async with running() as runner:
        launched = [await runner.launch(Launch(sources.opener(work))) for _ in range(500)]
        await until(lambda: sum(one.run is not None and one.run.last > 1 for one in launched) == 128)
        beating, begun = asyncio.create_task(beat()), time.monotonic()
        await until(lambda: beats >= 100)
        assert time.monotonic() - begun < 2.0
        beating.cancel()
        go.set()
        for one in launched:
            assert one.run is not None
            assert await outcome(one.run) == "completed"


async def test_ten_slow_sync_sources_take_the_time_of_one() -> None:
    """They wait for each other, so that they end only if all ten are at work together."""
    barrier = threading.Barrier(10)

    def work() -> Iterator[str]:
        for word in "abc":
            barrier.wait(PATIENCE)
            yield word

    async with running() as runner:
        sources = Iterators()
        for one in [await runner.launch(Launch(sources.opener(work))) for _ in range(10)]:
            assert one.run is not None
            assert await outcome(one.run) == "completed"
            assert text_of(await legal(runner.store, one.id)) == "abc"


@pytest.mark.parametrize("helped", [False, True])
async def test_emit_from_a_thread_keeps_its_place(helped: bool) -> None:
    """Though the source is ahead of its run; from its own thread, and from one that it has lent its context and waits for."""

    def emit(value: Any) -> None:
        if not helped:
            emit_from_thread(current.get(), value)
            return
        thread = threading.Thread(target=contextvars.copy_context().run, args=(emit_from_thread, current.get(), value))
        thread.start()
        thread.join(PATIENCE)

    def work() -> Iterator[Any]:
        for n in range(100):
            if n % 20 == 19:
                emit({"n": n})
            else:
                yield {"n": n}
        emit({"n": 100})

    async with running() as runner:
        run = await launch(runner, work)
        assert await outcome(run) == "completed"
        events = await legal(runner.store, run.id)
        assert [event.data["n"] for event in events if isinstance(event, e.Data)] == list(range(101))


async def test_emit_from_a_thread_raises_what_the_run_raises() -> None:
    refused: list[InvalidEvent] = []

    def work() -> Iterator[Any]:
        yield "a"
        try:
            emit_from_thread(current.get(), e.TextEnded(part="p9"))
        except InvalidEvent as error:
            refused.append(error)
        yield "b"

    async with running() as runner:
        run = await launch(runner, work)
        assert await outcome(run) == "completed"
        assert text_of(await legal(runner.store, run.id)) == "ab"
    assert len(refused) == 1


@pytest.mark.parametrize("where", ["turn", "close"])
async def test_emit_from_a_thread_is_refused_once_the_run_ends(where: str) -> None:
    """Where it waits for its turn behind a source that is held, and where the source emits when it is closed."""
    refused: list[InvalidEvent] = []
    began, done = threading.Event(), threading.Event()

    def work() -> Iterator[str]:
        try:
            yield "a"
            began.set()
            if where == "turn":
                emit()
            while True:
                yield "b"
        finally:
            if where == "close":
                emit()

    def emit() -> None:
        try:
            emit_from_thread(current.get(), "c")
        except InvalidEvent as error:
            refused.append(error)
        done.set()

    async with running() as runner:
        run = await launch(runner, work, limits=Limits(lockstep=0))
        await until(began.is_set)
        await turns()
        assert not done.is_set()
        run.stop()
        assert await outcome(run) == "stopped"
        assert text_of(await legal(runner.store, run.id)) == "a"
        await until(done.is_set)
    assert len(refused) == 1


@pytest.mark.parametrize("how", ["read", "closed", "failed"])
async def test_a_sync_source_that_has_ended_is_kept_by_nothing(how: str) -> None:
    """Neither by itself, nor by the idle thread, nor by its error: it goes without the garbage collector."""

    def work() -> Iterator[str]:
        yield "a"
        if how == "failed":
            raise ZeroDivisionError
        yield "b"

    async def used() -> weakref.ref[Threaded]:
        source = Threaded(work(), pool)
        assert await anext(source) == "a"
        if how == "read":
            assert [chunk async for chunk in source] == ["b"]
        if how == "failed":
            with pytest.raises(ZeroDivisionError):
                await anext(source)
        await source.aclose()
        return weakref.ref(source)

    pool = Pool(1)
    gc.disable()
    try:
        left = await used()
        await until(lambda: left() is None)
    finally:
        gc.enable()
    pool.close()
