"""Pausing runs of other processes: several of them on one SQLite file, and whoever is asked asks the owner (spec §8, §10)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SOAK, count

from tidelog.testing import Process, Viewer, rebuild, serve_process, transcript, watch

ROOT = Path(__file__).parents[2]
PROCESSES = 4
PATIENCE = 1.0
"""Seconds after which a process that gives no sign is dead."""
OBEYED = 1.0 if SOAK else 5.0
"""Seconds within which a request is obeyed, 0.25 of them for hearing it. A machine that is busy with other tests gets more."""


def start(folder: Path) -> Process:
    env = {"APP_STORE": f"sqlite:///{folder}/logs.db?beat=0.2", "APP_LEASE_PATIENCE": str(PATIENCE)}
    return serve_process("tests.integration.apps:app", cwd=ROOT, env=env)


def ask(process: Process, run: str, verb: str) -> Any:
    with watch(f"{process.url}/runs/{run}/{verb}", "POST", accept=None) as answer:
        assert answer.status == 200
        return answer.json["result"]


def look(process: Process, run: str) -> Any:
    with watch(f"{process.url}/runs/{run}", accept=None) as answer:
        return answer.json


def told(viewer: Viewer) -> list[dict[str, Any]]:
    """All events but text, which each viewer gets in pieces of its own."""
    return [event for event in transcript(viewer.frames) if event["type"] != "text.delta"]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[Process]]:
    with ExitStack() as stack, ThreadPoolExecutor(PROCESSES) as pool:
        yield [stack.enter_context(one) for one in pool.map(start, [tmp_path] * PROCESSES)]


@pytest.mark.soak
def test_through_random_processes_nothing_is_lost_or_doubled(workers: list[Process]) -> None:
    """Each run is read through every process from its start to its end, and holds what its source said, once."""
    dice = random.Random(11)
    slowest = 0.0
    starts = [watch(f"{owner.url}/count", params={"pause": "0.002"}) for owner in workers]
    runs = [start.run for start in starts]
    viewers = [[first, *(watch(f"{one.url}/runs/{first.run}/events") for one in workers)] for first in starts]
    for _ in range(count(12, 200)):
        run = dice.choice(runs)
        begun = time.monotonic()
        assert ask(dice.choice(workers), run, "pause") == "paused"
        slowest = max(slowest, time.monotonic() - begun)
        before = look(dice.choice(workers), run)
        assert before["state"] == "paused"
        assert ask(dice.choice(workers), run, "pause") == "already_paused"
        after = look(dice.choice(workers), run)
        assert after["last_seq"] <= before["last_seq"] + 1, "only what was on its way"
        begun = time.monotonic()
        assert ask(dice.choice(workers), run, "resume") == "resumed"
        slowest = max(slowest, time.monotonic() - begun)
    print(f"slowest: {slowest * 1000:.0f} ms")
    assert slowest < OBEYED
    for run, watching in zip(runs, viewers, strict=True):
        assert ask(dice.choice(workers), run, "stop") == "stopped"
        for viewer in watching:
            viewer.rest()
            assert (rebuild(viewer.frames), told(viewer)) == (rebuild(watching[0].frames), told(watching[0]))
        numbers = rebuild(watching[0].frames).split()
        assert numbers == [str(n) for n in range(len(numbers))]
        states = [event["state"] for event in told(watching[0]) if event["type"] == "run.state"]
        assert states == ["paused", "running"] * (len(states) // 2)
    for viewer in chain(*viewers):
        viewer.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Process, Process]]:
    with start(tmp_path) as owner, start(tmp_path) as other:
        yield owner, other


def test_a_paused_run_is_not_taken_for_dead(pair: tuple[Process, Process]) -> None:
    """Its lease is renewed, for longer than others would wait."""
    owner, other = pair
    with watch(f"{owner.url}/count") as mine:
        mine.read(3)
        assert ask(other, mine.run, "pause") == "paused"
        until = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < until:
            found = look(other, mine.run)
            assert (found["state"], found["epoch"]) == ("paused", 1)
        assert ask(other, mine.run, "stop") == "stopped"
        mine.rest()


def last_words(pair: tuple[Process, Process], goes: Callable[[Process], object]) -> tuple[str, dict[str, Any]]:
    """A run that is paused when its owner goes, and the last event that a viewer elsewhere gets of it."""
    owner, other = pair
    with watch(f"{owner.url}/count") as mine:
        mine.read(3)
        assert ask(other, mine.run, "pause") == "paused"
        with watch(f"{other.url}/runs/{mine.run}/events", timeout=15.0) as far:
            goes(owner)
            return mine.run, far.rest()[-1].json


def test_an_owner_that_dies_while_its_run_is_paused(pair: tuple[Process, Process]) -> None:
    run, ended = last_words(pair, Process.kill)
    assert (ended["outcome"], ended["error"]["code"]) == ("interrupted", "interrupted")
    assert look(pair[1], run)["state"] == "ended"
    assert [ask(pair[1], run, verb) for verb in ("pause", "resume")] == ["already_ended"] * 2


def test_a_process_that_goes_ends_what_is_paused_at_once(pair: tuple[Process, Process]) -> None:
    _, ended = last_words(pair, Process.terminate)
    assert ended["outcome"] == "interrupted"
    pair[0].wait()
    assert "Traceback" not in pair[0].output
