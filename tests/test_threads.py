"""A thread is an ordered log of runs that belongs to a principal, and lets one run work at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.parts import launch, legal, outcome, running, until

from tidelog import events as e
from tidelog import patience, threads
from tidelog.errors import Mismatch, Unavailable
from tidelog.log import Tail
from tidelog.run import Run
from tidelog.runner import Runner
from tidelog.seams import BATCH_BYTES, Page
from tidelog.stores.memory import MemoryStore
from tidelog.stores.sqlite import SqliteStore
from tidelog.threads import Entry

pytestmark = pytest.mark.anyio


async def test_runs_stand_in_order_and_belong_to_one_principal() -> None:
    store = MemoryStore()
    await store.start("me")
    wanted = [Entry(f"run{n}", f"run{n - 1}" if n else None, "retry" if n else None) for n in range(3)]
    for entry in wanted:
        await threads.add(store, "t", "ann", entry)
    assert await threads.entries(store, "t", "ann") == wanted
    for principal in (None, "bob", "an"):
        assert await threads.entries(store, "t", principal) == []
    await threads.drop(store, "t", "bob")
    assert len(await threads.entries(store, "t", "ann")) == 3
    await threads.drop(store, "t", "ann")
    assert await threads.entries(store, "t", "ann") == []


async def test_a_long_thread_is_read_whole() -> None:
    """One page of the store holds about 1,500 entries."""
    store = MemoryStore()
    await store.start("me")
    await asyncio.gather(*(threads.add(store, "t", None, Entry(f"{n:026}")) for n in range(4000)))
    assert [entry.run for entry in await threads.entries(store, "t", None)] == [f"{n:026}" for n in range(4000)]


async def forever() -> AsyncIterator[str]:
    yield "text"
    await asyncio.Event().wait()


async def test_of_two_processes_that_start_at_once_one_wins(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    first, second = runners = [Runner(SqliteStore(url)) for _ in range(2)]
    for runner in runners:
        await runner.start()
    for number in range(5):
        starts = [launch(runner, forever, thread=f"t{number}", said="Hi") for runner in runners]
        found = await asyncio.gather(*starts, return_exceptions=True)
        [run] = [one for one in found if isinstance(one, Run)]
        [lost] = [one for one in found if isinstance(one, Mismatch)]
        assert lost.code == "thread_busy"
        heads = [head.run async for head, _ in threads.exchanges(second.store, f"t{number}", None)]
        assert heads == [run.id], "nothing is left of the one that lost"
        with pytest.raises(Mismatch) as refused:
            await launch(second if first.live(run.id) else first, forever, thread=f"t{number}")
        assert refused.value.run == run.id
    for runner in runners:
        await runner.aclose()


class Broken(MemoryStore):
    """A store that can post to no thread."""

    patience = 0.0

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        if log.startswith("thread/"):
            raise Unavailable
        return await super().post(log, data, once=once)


async def test_a_run_that_cannot_join_its_thread_ends() -> None:
    """Its log is open by then: a run that nobody works at would stand there for ever."""
    async with running(Broken()) as runner:
        run = await launch(runner, ["x"], thread="t")
        assert await outcome(run) == "failed"
        ended = (await legal(runner.store, run.id))[-1]
        assert isinstance(ended, e.RunEnded)
        assert ended.error == e.Error.of("store_unavailable")
        with pytest.raises(
            Unavailable
        ):  # a thread of its own is made in one step with the run: both are there, or neither
            await launch(runner, ["x"])
        assert len(await runner.store.list("run/", None, 10)) == 1


class Counting(MemoryStore):
    """Counts looks at runs."""

    looks = 0

    async def tail(self, log: str) -> Tail | None:
        self.looks += log.startswith("run/")
        return await super().tail(log)


async def ended(runner: Runner, **more: Any) -> Run:
    run = await launch(runner, ["x"], thread="t", **more)
    await outcome(run)
    await until(lambda: runner.live(run.id) is None)
    return run


async def test_a_look_at_a_long_thread_costs_no_more() -> None:
    """When the newest was let in, all before it had ended."""
    store = Counting()
    async with running(store) as runner:
        for _ in range(10):
            await ended(runner)
        store.looks = 0
        assert await threads.busy(store, "t", None) is None
        assert store.looks == 1


async def test_a_run_that_was_let_in_anyway_is_still_seen() -> None:
    async with running() as runner:
        first = await launch(runner, forever, thread="t")
        for _ in range(3):
            await ended(runner, concurrent=True)
        second = await launch(runner, forever, thread="t", concurrent=True)
        assert await threads.busy(runner.store, "t", None) == first.id
        first.stop()
        await outcome(first)
        assert await threads.busy(runner.store, "t", None) == second.id
        second.stop()
        await outcome(second)
        assert await threads.busy(runner.store, "t", None) is None


async def test_dropped_runs_are_passed_over() -> None:
    async with running() as runner:
        live = await launch(runner, forever, thread="t", said="Why?")
        gone = [await ended(runner, concurrent=True, said="gone") for _ in range(2)]
        for run in gone:
            await runner.drop(run.id)
        assert await threads.busy(runner.store, "t", None) == live.id
        await until(lambda: live.last > 1)
        found = await threads.messages(runner.store, "t", None)
        assert [(one.role, one.content, one.run) for one in found] == [
            ("user", "Why?", live.id), ("assistant", "text", live.id),
        ]  # fmt: skip


async def test_an_expired_run_is_passed_over() -> None:
    async with running() as runner:
        run = await ended(runner, said="Why?")
        assert isinstance(runner.store, MemoryStore)
        assert await runner.store.expire(run.head.created + 1e6)
        assert await threads.busy(runner.store, "t", None) is None
        assert await threads.messages(runner.store, "t", None) == []
        assert await threads.history(runner.store, "t", None) == []
        assert await threads.text_of(runner.store, run.id) == ""


async def test_a_text_of_many_pages_is_read_whole() -> None:
    async with running() as runner:
        run = await launch(runner, ["x" * 1000] * 1000, thread="t")
        await outcome(run)
        assert len(await threads.text_of(runner.store, run.id)) == 1_000_000


async def test_a_history_of_no_characters_is_refused() -> None:
    async with running() as runner:
        for chars in (0, -1):
            with pytest.raises(ValueError, match="chars"):
                await threads.history(runner.store, "t", None, chars=chars)


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_key_does_not_find_a_run_that_its_thread_does_not_let_in(tmp_path: Path, processes: int) -> None:
    """Several at once with one key, in a thread that is busy: each is told so, none is given a run that is dropped."""
    url = f"sqlite:///{tmp_path}/a.db"
    runners = [Runner(SqliteStore(url)) for _ in range(processes)]
    for runner in runners:
        await runner.start()
    busy = await launch(runners[0], forever, thread="t")
    for number in range(3):
        starts = [launch(runner, forever, thread="t", key=f"k{number}") for runner in runners * 3]
        found = await asyncio.gather(*starts, return_exceptions=True)
        for one in found:
            assert isinstance(one, Mismatch), one
            assert (one.code, one.run) == ("thread_busy", busy.id)
    assert [head.run async for head, _ in threads.exchanges(runners[0].store, "t", None)] == [busy.id]
    for runner in runners:
        await runner.aclose()


async def test_a_key_finds_the_run_that_is_at_work_in_its_thread() -> None:
    async with running() as runner:
        run = await launch(runner, forever, thread="t", key="k")
        assert (await launch(runner, forever, thread="t", key="k")) is run
        await launch(runner, forever, thread="t", key="other", concurrent=True)
        assert (await launch(runner, forever, thread="t", key="k")) is run


async def test_a_run_that_never_comes_into_its_thread_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "JOIN_TIMEOUT", 0.01)
    async with running() as runner:
        assert await threads.kept_out(runner.store, "t", None, "nowhere") is None


class Away(MemoryStore):
    """A store that gives no answer to the first look at a thread, and the first post to it; `does`: it has done that even so."""

    patience = 5.0

    def __init__(self, *, does: bool) -> None:
        super().__init__()
        self.does = does
        self.failing = {"read", "post"}
        self.tries = 0

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        self.tries += log.startswith("thread/")
        if log.startswith("thread/") and "post" in self.failing:
            self.failing.remove("post")
            if self.does:
                await super().post(log, data, once=once)
            raise Unavailable
        return await super().post(log, data, once=once)

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        if log.startswith("thread/") and "post" not in self.failing and "read" in self.failing:
            self.failing.remove("read")
            raise Unavailable
        return await super().read(log, after, limit)


@pytest.mark.parametrize("does", [False, True], ids=["did nothing", "did it"])
async def test_a_start_waits_for_a_store_that_is_away_for_a_moment(does: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever became of the tries, the run stands in its thread once, and is not in its own way."""
    monkeypatch.setattr(patience, "AGAIN", 0.0)
    store = Away(does=does)
    async with running(store) as runner:
        run = await launch(runner, ["x"], thread="t")
        assert await outcome(run) == "completed"
        assert (store.failing, store.tries) == (set(), 3)
        assert [entry.run for entry in await threads.entries(store, "t", None)] == [run.id]


async def test_a_start_does_not_wait_for_longer_than_the_patience_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the loop: it is tried for as long, and not once."""
    loop, now = asyncio.get_running_loop(), 0.0
    tries = list[float]()

    async def post() -> int:
        nonlocal now
        tries.append(now)
        now += 1.0
        raise Unavailable

    monkeypatch.setattr(patience, "AGAIN", 0.0)
    monkeypatch.setattr(loop, "time", lambda: now)
    with pytest.raises(Unavailable):
        await patience.patiently(Away(does=False), post, "a run")
    assert tries == [0.0, 1.0, 2.0, 3.0, 4.0]
