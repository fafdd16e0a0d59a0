"""Any interleaving of pause, resume and stop gives a legal log, whose text is a prefix of what the source said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import LateStore, launch, legal, outcome, running, text_of, turns

from tidelog import events as e
from tidelog.limits import Limits
from tidelog.run import Run
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.soak

WORDS = [f"{n} " for n in range(400)]


async def quick() -> AsyncIterator[str]:
    for word in WORDS:
        yield word


async def slow() -> AsyncIterator[str]:
    for n, word in enumerate(WORDS):
        if n % 3 == 0:
            await asyncio.sleep(0)
        yield word


async def mixed() -> AsyncIterator[Any]:
    for n, word in enumerate(WORDS):
        if n % 7 == 0:
            yield {"n": n}
        yield word


SOURCES: dict[str, Callable[[], Any]] = {
    "quick": lambda: quick, "slow": lambda: slow, "mixed": lambda: mixed, "plain": lambda: list(WORDS),
    "sync": lambda: lambda: iter(WORDS),
}  # fmt: skip
ACTS = st.sampled_from(["pause", "resume", "pause", "resume", "stop", 1, 3, 20])
"""What happens to the run; a number lets the loop turn that often."""


async def played(source: str, acts: list[Any], *, late: bool, lockstep: int | None) -> None:
    """Play the acts, then let the run go to its end, unless it was stopped."""
    async with running(LateStore() if late else MemoryStore()) as runner:
        run = await launch(runner, SOURCES[source](), limits=Limits(lockstep=lockstep))
        run.viewers.add("viewer", 1)
        for act in acts:
            if isinstance(act, int):
                await turns(act)
                run.viewers.moved("viewer", run.last)
            else:
                getattr(run, act)()
        run.resume()
        run.viewers.remove("viewer")
        run.viewers.add("viewer", 1 << 60)
        how = await outcome(run)
        check(run, await legal(runner.store, run.id), whole="stop" not in acts)
        assert how == "completed" or "stop" in acts


def check(run: Run, events: list[e.AnyEvent], *, whole: bool) -> None:
    """The text is the source's, to its end or not; the states alternate, and tell whether it is paused."""
    text = text_of(events)
    assert "".join(WORDS) == text if whole else "".join(WORDS).startswith(text)
    states = [event.state for event in events if isinstance(event, e.RunState)]
    assert states == (["paused", "running"] * len(states))[: len(states)]
    assert run.paused == (len(states) % 2 == 1)


@settings(max_examples=count(60, 3000), deadline=None)
@given(
    st.sampled_from(sorted(SOURCES)), st.lists(ACTS, max_size=25), st.booleans(), st.sampled_from([None, None, 0, 200])
)
def test_any_interleaving(source: str, acts: list[Any], late: bool, lockstep: int | None) -> None:
    asyncio.run(played(source, acts, late=late, lockstep=lockstep))
