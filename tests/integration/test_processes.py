"""Several processes own the runs of one file: each stops every other's, the death of one ends its own runs alone (spec §10)."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import count
from tests.integration.crowd import TIMEOUT, check_kept, crowd, launch, noted, quantiles, start, state, stop, until

from tidelog.testing import Process, rebuild, watch

NOISE = 2.0
"""Seconds that a busy machine may add to a promise, in a sample that runs beside others."""
WORKERS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crowd")


@pytest.fixture(scope="module")
def processes(folder: Path) -> Iterator[list[Process]]:
    with crowd(folder, WORKERS) as found:
        yield found


@pytest.mark.soak
def test_stops_that_are_sent_to_any_process(folder: Path, processes: list[Process]) -> None:
    dice, many = random.Random(4), count(24, 200)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda number: launch(processes[number % WORKERS].url), range(many)))
        order = [(run, dice.choice(processes)) for run in dice.sample(runs, many)]

        def stopped(run: str, process: Process) -> tuple[float, float, bool]:
            asked = time.time()
            assert stop(process.url, run) == "stopped"
            told = time.time() - asked
            return state(process.url, run)["ended"] - asked, told, noted(folder, run)[0] != process.pid

        times = list(pool.map(lambda each: stopped(*each), order))
    print(
        f"{many} stops, from another process: ended after {quantiles([ended for ended, _, far in times if far])};",
        end=" ",
    )
    print(f"answered after {quantiles([told for _, told, far in times if far])}")
    assert max(ended for ended, _, _ in times) < 1.0 + count(NOISE, 0)
    for run, process in order:
        assert check_kept(folder, process.url, run) == "stopped"


def test_every_process_serves_what_another_one_owns_as_it_grows(processes: list[Process]) -> None:
    """Viewers of the others are not far behind: what the owner's has read, they have."""
    mine = watch(f"{processes[0].url}/numbers", params={"merge": "0"})
    others = [watch(f"{each.url}/runs/{mine.run}/events", params={"merge": "0"}) for each in processes[1:]]
    for upto in (5, 25, 45):
        for viewer in (mine, *others):
            while len(viewer.frames) < upto:
                assert viewer.more()
            assert viewer.frames[:upto] == mine.frames[:upto]
    assert stop(processes[1].url, mine.run) == "stopped"
    for viewer in (mine, *others):
        assert viewer.rest()[-1].json["outcome"] == "stopped"
        assert [frame.json["seq"] for frame in viewer.frames] == list(range(1, len(viewer.frames) + 1))


@pytest.mark.parametrize("number", range(count(1, 5)))
def test_identical_starts_are_one(folder: Path, processes: list[Process], number: int) -> None:
    """50 at once, over all processes, under one key: one call of the provider, one answer for all."""
    question, headers = {"question": f"price-{number}"}, {"Idempotency-Key": f"key-{number}"}
    with ThreadPoolExecutor(50) as pool:
        viewers = list(
            pool.map(
                lambda n: watch(f"{processes[n % WORKERS].url}/paid", json=question, headers=headers, timeout=TIMEOUT),
                range(50),
            )
        )
    assert {viewer.status for viewer in viewers} == {200}
    assert len({viewer.run for viewer in viewers}) == 1
    assert {rebuild(viewer.rest()) for viewer in viewers} == {"It costs money."}
    calls = (folder / "notes" / "calls").read_text(encoding="utf-8").split()
    assert calls.count(question["question"]) == 1
    other = watch(f"{processes[1].url}/paid", json={"question": "another"}, headers=headers, timeout=TIMEOUT)
    assert (other.status, other.json["code"]) == (409, "idempotency_mismatch")


@pytest.mark.soak
def test_killed_under_load(tmp_path: Path) -> None:
    """`kill -9` of one: its runs end as interrupted, nobody else's; nothing that was stored is lost or doubled."""
    dice, outcomes = random.Random(9), dict[str, str]()
    with crowd(tmp_path, WORKERS) as processes:
        for _ in range(count(2, 20)):
            short = [launch(dice.choice(processes).url, to=100, pause=0.005) for _ in range(8)]
            long = [launch(process.url) for process in processes for _ in range(3)]
            victim = processes.pop(dice.randrange(WORKERS))
            watched = watch(f"{victim.url}/numbers", params={"merge": "0"})
            far = watch(
                f"{dice.choice(processes).url}/runs/{watched.run}/events", params={"merge": "0"}, timeout=TIMEOUT
            )
            watched.read(dice.randrange(2, 20))
            begun = time.monotonic()
            victim.kill()
            watched.rest()
            assert far.rest()[-1].json["outcome"] == "interrupted"
            assert time.monotonic() - begun < 15.0, "its viewers elsewhere hear of it"
            assert rebuild(far.frames).startswith(rebuild(watched.frames)), "what was seen is stored"
            survivors = [run for run in long if noted(tmp_path, run)[0] != victim.pid]
            assert len(survivors) == 9
            for run in survivors:
                assert state(processes[0].url, run)["state"] == "running"
                assert stop(dice.choice(processes).url, run) == "stopped"
            for run in (*short, *long, watched.run):
                until(lambda run=run: state(processes[0].url, run)["state"] == "ended")
                outcome = outcomes[run] = check_kept(tmp_path, dice.choice(processes).url, run)
                lost = noted(tmp_path, run)[0] == victim.pid
                assert (
                    outcome in ("completed", "interrupted") if run in short else ("interrupted" if lost else "stopped")
                )
            victim.__exit__(None, None, None)
            processes.append(start(tmp_path))
        again = {run: check_kept(tmp_path, processes[-1].url, run) for run in outcomes}
    assert again == outcomes, "an ending is final"


def test_a_frozen_process_is_fenced(tmp_path: Path) -> None:
    """What it owned is ended for it, and stays as it was ended when it comes back; new runs it may own."""
    with crowd(tmp_path, 2) as (frozen, other):
        runs = [launch(frozen.url) for _ in range(5)]
        with watch(f"{other.url}/runs/{runs[0]}/events") as viewer:
            viewer.read(3)
            frozen.signal(signal.SIGSTOP)
            assert viewer.rest()[-1].json["outcome"] == "interrupted"
        for run in runs:
            until(lambda run=run: state(other.url, run)["state"] == "ended")
        before = [state(other.url, run) for run in runs]
        assert {(each["outcome"], each["epoch"]) for each in before} == {("interrupted", 2)}
        frozen.signal(signal.SIGCONT)
        new = launch(frozen.url)
        with watch(f"{other.url}/runs/{new}/events") as viewer:
            viewer.read(3)
            assert stop(other.url, new) == "stopped"
        for run, was in zip(runs, before, strict=True):
            assert state(frozen.url, run) == state(other.url, run) == was
            assert check_kept(tmp_path, frozen.url, run) == "interrupted"


@pytest.mark.soak
def test_with_the_default_patience(tmp_path: Path) -> None:
    """Within 15 s of `kill -9` everybody knows."""
    if count(0, 1) == 0:
        pytest.skip("takes 10 s: with SOAK=1")
    env = {"APP_STORE": f"sqlite:///{tmp_path}/logs.db", "APP_LEASE_PATIENCE": "8"}
    with crowd(tmp_path, 2, env=env) as (owner, other):
        far = watch(f"{other.url}/runs/{launch(owner.url)}/events", timeout=TIMEOUT)
        far.read(3)
        begun = time.monotonic()
        owner.kill()
        assert far.rest()[-1].json["outcome"] == "interrupted"
        print(f"interrupted after {time.monotonic() - begun:.1f} s")
        assert time.monotonic() - begun < 15.0
