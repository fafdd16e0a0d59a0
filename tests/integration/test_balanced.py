"""Behind nginx every request reaches some process: whatever is asked of a run is obeyed at once, wherever the run lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.conftest import count
from tests.integration.crowd import TIMEOUT, check_kept, launch, noted, quantiles, state, until
from tests.integration.fleet import SIZE, WORKERS, Fleet, fleet
from tests.redis_server import redis_server

from tidelog.testing import rebuild, watch

NOISE = 2.0
"""Seconds that a busy machine may add to a promise, in a sample that runs beside others."""
OBEYED = 1.0
CALLERS = 4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with redis_server() as redis, fleet(tmp_path_factory.mktemp("fleet"), redis) as made:
        yield made


def ask(url: str, run: str, verb: str, **body: Any) -> Any:
    return watch(f"{url}/runs/{run}/{verb}", "POST", json=body or None, accept=None, timeout=TIMEOUT).json["result"]


def where(number: int) -> str:
    """Two of five runs are a worker's; of three, nginx would always give that one to the same process."""
    return "/worker" if number % 5 < 2 else ""


def begun(found: Fleet, place: str) -> str:
    """A run that counts until it is stopped, once it does."""
    run = launch(found.url, f"{place}/numbers", pause=0.2)
    notes = found.folder / "notes" / run
    until(lambda: notes.exists() and bool(notes.read_text(encoding="utf-8")))
    return run


def timed(what: Callable[[str], Any], runs: list[str], expected: str) -> str:
    """Do this to all runs, by several at once; how long each took."""

    def once(run: str) -> float:
        begun = time.monotonic()
        assert what(run) == expected
        return time.monotonic() - begun

    with ThreadPoolExecutor(CALLERS) as pool:
        times = list(pool.map(once, runs))
    told = f"{len(runs)} {expected} after {quantiles(times)}"
    assert max(times) < OBEYED + count(NOISE, 0), told
    return told


@pytest.mark.soak
def test_pauses_stops_and_answers(found: Fleet) -> None:
    """Answered means obeyed: the owner has stored it."""
    many = count(10, 200)
    with ThreadPoolExecutor(CALLERS) as pool:
        runs = list(pool.map(lambda n: begun(found, where(n)), range(many)))
        asking = list(pool.map(lambda n: launch(found.url, f"{where(n)}/asks"), range(many)))
    while len({noted(found.folder, run)[0] for run in runs}) < SIZE + WORKERS and len(runs) < 10 * many:
        runs.append(begun(found, "/worker"))  # which worker has it is for taskiq to say
    assert len({noted(found.folder, run)[0] for run in runs}) == SIZE + WORKERS, "they live in all processes"
    for run in asking:
        until(lambda run=run: bool(state(found.url, run)["questions"]))  # type: ignore[misc]
    print(timed(lambda run: ask(found.url, run, "pause"), runs, "paused"))
    assert {state(found.url, run)["state"] for run in runs} == {"paused"}
    print(timed(lambda run: ask(found.url, run, "resume"), runs, "resumed"))
    print(timed(lambda run: ask(found.url, run, "answer", question="q1", value="yes"), asking, "answered"))
    print(timed(lambda run: ask(found.url, run, "stop"), runs, "stopped"))
    assert {check_kept(found.folder, found.url, run) for run in runs} == {"stopped"}
    for run in asking:
        said = watch(f"{found.url}/runs/{run}/events", timeout=TIMEOUT).rest()
        assert (rebuild(said), said[-1].json["outcome"]) == ("Shall I? You said yes.", "completed")


def test_one_key_is_one_run(found: Fleet) -> None:
    """50 identical starts at once: one run, and the provider is asked once."""
    headers = {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(50) as pool:
        viewers = list(
            pool.map(
                lambda _: watch(f"{found.url}/paid", json={"question": "price"}, headers=headers, timeout=TIMEOUT),
                range(50),
            )
        )
    assert {viewer.status for viewer in viewers} == {200}
    assert len({viewer.run for viewer in viewers}) == 1
    assert {rebuild(viewer.rest()) for viewer in viewers} == {"It costs money."}
    assert (found.folder / "notes" / "calls").read_text(encoding="utf-8").split() == ["price"]
