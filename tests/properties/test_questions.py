"""What holds for a run that asks, however it is answered, expires, is stopped, parked and taken over: its log is always legal."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import PATIENCE, legal_events, records_of
from tests.properties.logs import closed

from tidelog import Answer, Tidelog, ToolEnded, ToolStarted
from tidelog import events as e
from tidelog.asking import stop
from tidelog.errors import Decided, TidelogError
from tidelog.runner import Runner

pytestmark = pytest.mark.soak
STEPS = st.lists(
    st.sampled_from(["answer", "same", "park", "stop", "wait", "restart", "pause", "resume", "wrong"]), max_size=8
)


async def turns(runner: Runner, run: str, question: int) -> bool:
    """Until the run asks this question, or has ended; whether it asks."""
    async with asyncio.timeout(PATIENCE):
        while True:
            tail = await runner.store.tail(f"run/{run}")
            assert tail is not None
            if tail.ended:
                return False
            if f'"q{question}"'.encode() in tail.head:
                return True
            await asyncio.sleep(0.002)


class World:
    """One store, and the processes that come and go on it, one after the other."""

    def __init__(self, store: str) -> None:
        self._store = store
        self.tide: Tidelog

    @contextlib.asynccontextmanager
    async def process(self) -> AsyncIterator[Tidelog]:
        """A process: what is declared in it, and what it leaves."""
        tide = self.tide = Tidelog(self._store, drain_timeout=0.0, lease_patience=0.2)

        async def later(state: list[Any], answer: Answer) -> AsyncIterator[Any]:
            yield ToolEnded(call=f"c{len(state)}", output=answer.value)
            async for each in rest([*state, answer.value]):
                yield each

        async def rest(said: list[Any]) -> AsyncIterator[Any]:
            while len(said) < 3:
                yield f"{len(said)} "
                yield ToolStarted(call=f"c{len(said)}", name="ask")
                value = await tide.ask("?", options=["a", "b"], state=said, park_after=3600)
                yield ToolEnded(call=f"c{len(said)}", output=value)
                said = [*said, value]
            yield "".join(said)

        tide.resumes(later)
        self.later, self.rest = later, rest
        try:
            await tide.ready()
            yield tide
        finally:
            await tide.aclose()


async def live(steps: list[str], store: str) -> None:
    world, question, run = World(store), 1, ""
    left = [*steps, *["answer"] * 3]
    while left:
        async with world.process() as tide:
            runner = tide.runner
            if not run:
                run = (await tide.start(lambda: world.rest([]), resume=world.later)).id
            while await turns(runner, run, question) and (step := left.pop(0)) != "restart":
                question += await done(runner, run, question, step)
            if not await turns(runner, run, question):
                left.clear()
            await check(runner, run)
    async with world.process() as tide:
        assert not await turns(tide.runner, run, question)
        events = await check(tide.runner, run)
        asked = [one for one in events if isinstance(one, e.QuestionAsked)]
        said = [one for one in events if isinstance(one, e.QuestionAnswered)]
        assert [one.question for one in asked] == [one.question for one in said]
        assert isinstance(events[-1], e.RunEnded)
        if events[-1].outcome == "completed":
            assert [one.value for one in said] == ["a", "a", "a"]
        else:
            assert "stop" in steps and said[-1].outcome == "withdrawn"


async def done(runner: Runner, run: str, question: int, step: str) -> int:
    """Do this step; whether it answered the question."""
    name, current = f"q{question}", runner.live(run)
    verbs: dict[str, Callable[[], Awaitable[Any]]] = {
        "answer": lambda: runner.answer(run, name, "a"),
        "same": lambda: runner.answer(run, f"q{question - 1}", "a"),
        "wrong": lambda: runner.answer(run, name, "c"),
        "stop": lambda: stop(runner.store, run, wake=runner.wake),
        "wait": lambda: asyncio.sleep(0.001),
    }
    if step in verbs:
        with contextlib.suppress(TidelogError):
            found = await verbs[step]()
            assert step != "answer" or found.result == "answered"
        return step == "answer"
    if current is not None:
        {"park": current.park, "pause": current.pause, "resume": current.resume}[step]()
        await asyncio.sleep(0)
    if step == "pause" and current is not None:
        current.resume()
    return 0


async def check(runner: Runner, run: str) -> list[Any]:
    """The log is legal at every cut."""
    records = await records_of(runner.store, run)
    for cut in range(1, len(records)):
        legal_events(closed(records[:cut], "interrupted"))
    last = e.decode(records[-1].data)
    return legal_events(records) if isinstance(last, e.RunEnded) else []


@pytest.mark.timeout(900)
@settings(max_examples=count(12, 300), deadline=None)
@given(STEPS)
def test_in_any_order(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(steps, f"sqlite:///{folder}/logs.db"))


async def race(times: list[float]) -> None:
    """Somebody answers while the run is about to give up."""
    tide = Tidelog("memory:", drain_timeout=0.0)
    await tide.ready()
    for seconds in times:

        async def impatient(seconds: float = seconds) -> AsyncIterator[Any]:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await tide.ask("?")
            yield "on"
            await asyncio.sleep(0.01)

        run = (await tide.start(impatient)).id
        assert await turns(tide.runner, run, 1)
        await asyncio.sleep(seconds / 2)
        try:
            said = (await tide.runner.answer(run, "q1", "a")).result
        except Decided as decided:
            said = decided.code
        assert not await turns(tide.runner, run, 2)
        [closed] = [one for one in await check(tide.runner, run) if isinstance(one, e.QuestionAnswered)]
        assert (said, closed.outcome) in (("answered", "answered"), ("question_closed", "withdrawn"))
    await tide.aclose()


@settings(max_examples=count(4, 40), deadline=None)
@given(st.lists(st.floats(0.0, 0.004), min_size=8, max_size=8))
def test_what_is_told_is_what_the_log_holds(times: list[float]) -> None:
    asyncio.run(race(times))


def test_a_decision_names_the_winner() -> None:
    error = Decided(answer={"outcome": "answered", "value": 1, "by": None})
    assert error.code == "already_answered" and error.answer == {"outcome": "answered", "value": 1, "by": None}
