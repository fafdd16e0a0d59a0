"""`tidelog.progress`: told often, stored seldom, the first and the last always."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.server.chat import make_tide

from tidelog import current_run
from tidelog.errors import InvalidEvent
from tidelog.events import Progress
from tidelog.progress import EVERY, TASKS, Steps, report
from tidelog.testing import Gate, serve

CALLS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.sampled_from("ab")), min_size=1, max_size=60)


@settings(max_examples=count(100, 5000), deadline=None)
@given(CALLS)
def test_what_is_stored(calls: list[tuple[float, int, str]]) -> None:
    """First and last of each task, in order, none invented, and no two nearer than EVERY unless the last one is final."""
    steps, now, stored = Steps(), 0.0, list[tuple[float, Progress]]()
    said: dict[str, list[Progress]] = {"a": [], "b": []}
    for wait, done, task in calls:
        now += wait * EVERY
        event = report(done, 20, None, task)
        said[task].append(event)
        if (told := steps.take(event, now)) is not None:
            stored.append((now, told))
        stored += [(now, each) for each in steps.flush(now)]
        assert steps.due is None or now < steps.due <= now + EVERY
    stored += [(now, each) for each in steps.flush()]
    for task, reports in said.items():
        mine = [(at, each) for at, each in stored if each.task == task]
        if reports:
            assert mine[0][1] == reports[0]
            assert mine[-1][1] == reports[-1]
        for (before, _), (at, event) in pairwise(mine[:-1]):
            assert at - before >= EVERY - 1e-9 or event.done == 20
        order = iter(reports)
        assert all(any(each == one for one in order) for _, each in mine), "in the order in which they were told"


def test_tasks_are_bounded() -> None:
    steps = Steps()
    for n in range(TASKS * 3):
        steps.take(report(n, None, None, f"t{n}"), 0.0)
    assert len(steps._tasks) == TASKS


@pytest.mark.parametrize("given", [(math.nan, None), (1, math.inf), ("1", None)])
def test_what_is_no_number(given: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidEvent):
        report(*given, None, "work")
    with pytest.raises(InvalidEvent):
        report(1, 2, None, "attempt")


def stored(work: Callable[[], Any], tide: Any) -> list[dict[str, Any]]:
    app = FastAPI()
    app.include_router(tide.router)
    app.get("/")(tide.stream(work))
    with serve(app) as server:
        viewer = server.watch("/")
        return [frame.json for frame in viewer.rest()]


def test_a_loop_of_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    tide, steps = make_tide(), count(100_000, 1_000_000)

    def nested(n: int) -> None:
        tide.progress(n, steps, "counting")

    async def work() -> AsyncIterator[str]:
        for n in range(1, steps + 1):
            nested(n)
        yield "done"

    frames = stored(work, tide)
    found = [frame["done"] for frame in frames if frame["type"] == "progress"]
    assert (found[0], found[-1]) == (1, steps)
    assert found == sorted(found)
    assert len(found) < 100


def test_what_is_held_is_stored_though_the_source_only_waits() -> None:
    tide, gate = make_tide(), Gate()

    async def work() -> AsyncIterator[str]:
        tide.progress(1, note="one")
        tide.progress(2, note="two")
        await gate.wait()
        yield "end"

    app = FastAPI()
    app.include_router(tide.router)
    app.get("/")(tide.stream(work))
    with serve(app) as server:
        viewer = server.watch("/")
        frames = viewer.read(3)
        gate.open()
        viewer.rest()
    assert [frame.json.get("note") for frame in frames] == [None, "one", "two"]


def test_what_is_held_is_stored_before_the_end() -> None:
    tide = make_tide()

    async def work() -> AsyncIterator[str]:
        for n in range(10):
            current_run().progress(n, task="unknown length")
        raise ValueError
        yield

    found = [(frame["type"], frame.get("done")) for frame in stored(work, tide)]
    assert found == [("run.started", None), ("progress", 0), ("progress", 9), ("run.ended", None)]


def test_from_a_sync_generator_and_from_plain_threads() -> None:
    tide = make_tide()

    def work() -> Iterator[str]:
        run = current_run()
        tide.progress(1, 3)
        threads = [threading.Thread(target=run.progress, args=(n, 9), kwargs={"task": f"t{n}"}) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tide.progress(3, 3)
        yield "end"

    frames = stored(work, tide)
    found = {(frame["task"], frame["done"]) for frame in frames if frame["type"] == "progress"}
    assert found == {("work", 1), ("work", 3), ("t0", 0), ("t1", 1), ("t2", 2), ("t3", 3)}
