"""Every process looks after what nobody owns: what is to be done about a run is done by one of them, or the next if it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from tests.lasting import LASTING, lasting
from tests.parts import PATIENCE, log_of, until
from tests.server.chat import make_tide
from tests.server.test_work import Queue

from tidelog import Answer, Tidelog, control, registry, threads
from tidelog import elsewhere as elsewhere_of_all
from tidelog import events as e
from tidelog import head as heads
from tidelog.asking import stop
from tidelog.declared import name_of
from tidelog.elsewhere import work
from tidelog.errors import Unavailable
from tidelog.head import Head
from tidelog.log import Tail, control_log, run_log
from tidelog.seams import Leasing, Store

pytestmark = pytest.mark.anyio

MANY = 5
LATER = 1e12
"""A time at which everything is due that is due at all."""

asking: Tidelog
"""The process that does the work, as the function that asks must know."""


async def then(state: Any, answer: Answer) -> AsyncIterator[str]:
    """Goes on."""
    yield f"then {answer.value}"


async def asks() -> AsyncIterator[str]:
    """Is parked at once."""
    yield await asking.ask("Well?", state={}, park_after=0.0)


@pytest.fixture(params=LASTING)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with lasting(request.param, tmp_path, beat=0.05) as found:
        yield found


class Process:
    """One of several with one store, that looks around only when it is told to."""

    def __init__(self, url: str) -> None:
        self.queue = Queue(holds=True)
        self.tide = make_tide(url, worker=self.queue, lease_patience=3600.0)
        self.tide.on_worker(resume=then)(asks)
        self.keeper = self.tide.runner._keeper

    @property
    def store(self) -> Leasing:
        store = self.tide.runner.store
        assert isinstance(store, Leasing)
        return store


@asynccontextmanager
async def started(url: str, count: int) -> AsyncIterator[list[Process]]:
    """So many, which are closed whatever happens: one that goes on asking would be heard in other tests."""
    made = [Process(url) for _ in range(count)]
    try:
        for process in made:
            await process.tide.ready()
        yield made
    finally:
        for process in made:
            await process.tide.aclose()


@pytest.fixture
async def processes(url: str) -> AsyncIterator[list[Process]]:
    global asking
    async with started(url, MANY) as made:
        asking = made[0].tide
        yield made


def sent(processes: list[Process]) -> int:
    return sum(len(process.queue.sent) for process in processes)


async def all_look(processes: list[Process], patch: pytest.MonkeyPatch, name: str, at: float) -> None:
    """Each has found the same before the first of them does anything about it."""
    barrier = asyncio.Barrier(len(processes))

    def together(find: Any) -> Any:
        async def found(at: float) -> Any:
            names = await find(at)
            await barrier.wait()
            return names

        return found

    with patch.context() as patched:
        for process in processes:
            patched.setattr(process.store, name, together(getattr(process.store, name)))
        await asyncio.gather(*(p.keeper.look(at) if name == "parked" else p.keeper.reap() for p in processes))


async def tail_of(process: Process, run: str) -> Tail:
    tail = await process.store.tail(run_log(run))
    assert tail is not None
    return tail


async def test_a_run_that_no_worker_takes_is_sent_again_by_one(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await processes[0].tide.start(asks, on="worker")
    assert sent(processes) == 1
    await all_look(processes, monkeypatch, "parked", inf)
    assert sent(processes) == 1, "its time has not come"
    for round_ in range(2, 5):
        await all_look(processes, monkeypatch, "parked", LATER)
        assert sent(processes) == round_
    for process in processes:
        process.queue.away = True
    await all_look(processes, monkeypatch, "parked", LATER)  # whoever was to send it could not, or has died over it
    for process in processes:
        process.queue.away = False
    await all_look(processes, monkeypatch, "parked", LATER)
    assert sent(processes) == 5
    assert (await tail_of(processes[1], run.id)).epoch == 1


async def test_an_answer_is_sent_to_a_worker_by_one(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """By who has given it; if that one dies at once, by one of the others. Then again in time, should nobody have taken it."""
    run = await processes[0].tide.start(asks, on="worker")
    await asyncio.wait_for(processes[0].tide.work(run.id), PATIENCE)
    await until(lambda: not len(processes[0].tide.runner))
    assert sent(processes) == 1
    said = control.encode(control.Answer(question="q1", value="yes"))
    await processes[1].store.post(control_log(run.id), said)  # and dies
    for _ in range(2):
        await all_look(processes, monkeypatch, "parked", inf)
        assert sent(processes) == 2
    for round_ in (3, 4):
        await all_look(processes, monkeypatch, "parked", LATER)
        assert sent(processes) == round_
    await asyncio.wait_for(processes[2].tide.work(run.id), PATIENCE)
    assert await asyncio.wait_for(run.wait(), PATIENCE) == "completed"
    await all_look(processes, monkeypatch, "parked", LATER)
    assert sent(processes) == 4


async def test_who_answers_sends_it_at_once(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    run = await processes[0].tide.start(asks, on="worker")
    await asyncio.wait_for(processes[0].tide.work(run.id), PATIENCE)
    await until(lambda: not len(processes[0].tide.runner))
    answering = asyncio.create_task(processes[1].tide.runner.answer(run.id, "q1", "yes"))
    await until(lambda: sent(processes) == 2)  # or, were it looked at in that moment, another one does
    await all_look(processes, monkeypatch, "parked", inf)
    assert sent(processes) == 2
    await asyncio.wait_for(processes[2].tide.work(run.id), PATIENCE)
    assert (await asyncio.wait_for(answering, PATIENCE)).result == "answered"


async def left(url: str, *said: e.Event, **more: Any) -> None:
    """By a process that has died: a run with such a head, of which it was the owner, and which stands in its thread."""
    store: Store = registry.store(url)
    await store.start("dead")
    head = Head(run="r", thread="t", message="m", created=time.time(), **more)
    entry = threads.posted("t", None, threads.entry_of(head))
    records = log_of(e.RunState(state=head.state), *said, run="r")
    await store.open(run_log("r"), heads.encode(head), records=records, entry=entry)
    await store.aclose()


async def test_what_a_dead_process_has_opened_for_a_worker_is_sent_by_one(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had not parked it yet."""
    await left(url, state="queued", work=work(name_of(asks), {}))
    await all_look(processes, monkeypatch, "orphans", 0.0)
    assert sent(processes) == 1
    tail = await tail_of(processes[0], "r")
    assert (tail.owner, tail.epoch) == ("", 2)


async def test_what_a_dead_process_had_waiting_is_parked_by_one(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its question is open, and who goes on is known."""
    asked = e.QuestionAsked(question="q1", prompt="Well?")
    await left(url, state="waiting", questions=(asked,), resume=name_of(then), keeps={})
    await all_look(processes, monkeypatch, "orphans", 0.0)
    tail = await tail_of(processes[0], "r")
    assert (tail.owner, tail.epoch) == ("", 2)


SAID = e.TextDelta(part="p1", text="so far")


async def died_at_work(url: str) -> None:
    """A worker of a run that is to be begun again, when it had said something."""
    await left(url, SAID, state="running", resume=name_of(then), work=work(name_of(asks), {}, restart=True))


async def replaced(processes: list[Process], outcome: str = "interrupted") -> list[str]:
    """The runs that have taken the place of one that ended so."""
    head = heads.decode((await tail_of(processes[0], "r")).head)
    assert head.outcome == outcome
    entries = await threads.entries(processes[0].store, "t", None)
    assert entries[0].run == "r" and {one.of for one in entries[1:]} <= {"r"}
    return [one.run for one in entries[1:]]


async def test_one_run_takes_the_place_of_one_whose_worker_died(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_at_work(url)
    await all_look(processes, monkeypatch, "orphans", 0.0)
    [after] = await replaced(processes)
    assert sent(processes) == 1
    await asyncio.wait_for(processes[0].tide.work(after), PATIENCE)
    await until(lambda: not len(processes[0].tide.runner))
    assert heads.decode((await tail_of(processes[0], after)).head).state == "waiting"


@pytest.mark.parametrize("opened", [False, True], ids=["nothing was begun", "it was open"])
async def test_whoever_was_to_begin_the_new_run_dies(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch, opened: bool
) -> None:
    """What it was to do stands in the log, and is done once by one of the others."""
    await died_at_work(url)
    first, *others = processes
    elsewhere = first.tide.runner.elsewhere
    goes, stands = (elsewhere, "_park") if opened else (elsewhere, "hand_on")

    async def dies(*_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(goes, stands, dies)
    with pytest.raises(asyncio.CancelledError):
        await elsewhere.again(await taken_for_dead(first), heads.decode((await tail_of(first, "r")).head))
    assert heads.decode((await tail_of(first, "r")).head).ended is None
    await first.tide.aclose()
    await all_look(others, monkeypatch, "parked", inf)
    await all_look(others, monkeypatch, "orphans", 0.0)
    [after] = await replaced(others)
    assert sent(others) == 1
    tail = await tail_of(others[0], after)
    assert (tail.owner, heads.decode(tail.head).state) == ("", "queued")


async def taken_for_dead(process: Process) -> Tail:
    """Where the run stands, once its owner is known to be dead."""
    assert run_log("r") in await process.store.orphans(0.0)
    return await tail_of(process, "r")


@contextmanager
def nothing_opens(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The store fails whoever opens a log."""
    with monkeypatch.context() as patch:
        for process in processes:
            patch.setattr(process.store, "open", AsyncMock(side_effect=Unavailable))
        yield patch


async def test_a_store_that_fails_when_the_new_run_is_begun(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is begun when the old one is due again, by one of all."""
    await died_at_work(url)
    with nothing_opens(processes, monkeypatch):
        await all_look(processes, monkeypatch, "orphans", 0.0)
        await all_look(processes, monkeypatch, "parked", LATER)
    head = heads.decode((await tail_of(processes[0], "r")).head)
    assert head.ended is None and head.work is not None and head.work.replaced
    await all_look(processes, monkeypatch, "parked", LATER)
    assert len(await replaced(processes)) == 1
    assert sent(processes) == 1


async def test_a_run_that_was_to_be_replaced_is_stopped(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_at_work(url)
    with nothing_opens(processes, monkeypatch):
        await all_look(processes, monkeypatch, "orphans", 0.0)
    assert await stop(processes[0].store, "r", wake=processes[0].tide.runner.wake) == "stopped"
    await all_look(processes, monkeypatch, "parked", LATER)
    assert await replaced(processes, "stopped") == []
    assert sent(processes) == 0


async def test_nobody_begins_a_run_anew_for_ever(
    url: str, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be begun until a worker should have taken it ends without."""
    await died_at_work(url)
    with nothing_opens(processes, monkeypatch) as patch:
        await all_look(processes, monkeypatch, "orphans", 0.0)
        patch.setattr(elsewhere_of_all.time, "time", lambda: LATER)  # type: ignore[attr-defined]
        await processes[0].keeper.look(LATER)
    assert await replaced(processes) == []
