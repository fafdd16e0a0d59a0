"""Every process looks after what nobody owns: what is to be done about a run is done by one of them, or the next if it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest
from tests.lasting import LASTING, lasting
from tests.parts import PATIENCE, log_of, until
from tests.server.chat import make_tide
from tests.server.test_work import Queue

from tidelog import Answer, Tidelog, control, registry
from tidelog import events as e
from tidelog import head as heads
from tidelog.declared import name_of
from tidelog.elsewhere import work
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


@pytest.fixture
async def processes(url: str) -> AsyncIterator[list[Process]]:
    global asking
    made = [Process(url) for _ in range(MANY)]
    for process in made:
        await process.tide.ready()
    asking = made[0].tide
    yield made
    for process in made:
        await process.tide.aclose()


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


async def left(url: str, **more: Any) -> None:
    """By a process that has died: a run with such a head, of which it was the owner."""
    store: Store = registry.store(url)
    await store.start("dead")
    head = Head(run="r", thread="t", message="m", created=time.time(), **more)
    await store.open(run_log("r"), heads.encode(head), records=log_of(e.RunState(state=head.state), run="r"))
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
