"""Several processes on one file, as tests start them, and what their sources have noted beside it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tidelog.testing import Process, Viewer, rebuild, serve_process, transcript, watch

ROOT: Final = Path(__file__).parents[2]
APP: Final = "tests.integration.shared:app"
PATIENCE: Final = 1.0
"""Seconds for which a lease must stand still, unless a test wants the default."""
BEAT: Final = 0.2
TIMEOUT: Final = 30.0


def environment(folder: Path, **more: str) -> dict[str, str]:
    """One file for all processes of a folder."""
    (folder / "notes").mkdir(exist_ok=True)
    store = f"sqlite:///{folder}/logs.db?beat={BEAT}"
    return {
        "APP_STORE": store, "APP_LEASE_PATIENCE": str(PATIENCE), "APP_FOLDER": str(folder / "notes"),
        "PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))), **more,
    }  # fmt: skip


def start(folder: Path, **more: Any) -> Process:
    """One process of the application."""
    env = environment(folder, **more.pop("env", {}))
    return serve_process(APP, cwd=ROOT, env=env, **more)


@contextlib.contextmanager
def crowd(folder: Path, count: int, *, env: Mapping[str, str] = {}) -> Iterator[list[Process]]:
    """Processes, each at a port of its own, so that a test chooses who is asked. The list may be changed."""
    with ThreadPoolExecutor(count) as pool:
        processes = list(pool.map(lambda _: start(folder, env=env), range(count)))
    try:
        yield processes
    finally:
        for process in processes:
            process.__exit__(None, None, None)


def launch(url: str, path: str = "/numbers", **params: Any) -> str:
    """Start a run that nobody watches; its id."""
    asked = {name: str(value) for name, value in params.items()}
    answer = watch(url + path, params=asked, headers={"Prefer": "respond-async"}, accept=None, timeout=TIMEOUT)
    assert answer.status == 202, answer.text
    return str(answer.json["run"])


def state(url: str, run: str) -> dict[str, Any]:
    """What this process says of the run."""
    found: dict[str, Any] = watch(f"{url}/runs/{run}", accept=None, timeout=TIMEOUT).json
    return found


def stop(url: str, run: str) -> str:
    """Ask this process to stop the run, whoever owns it; what came of it."""
    return str(watch(f"{url}/runs/{run}/stop", "POST", accept=None, timeout=TIMEOUT).json["result"])


def stopped_from_elsewhere(owner: Process, other: Process) -> None:
    """A run of the one process is tailed and stopped through the other; viewers of both have the same log."""
    mine, far = watched_from_both(owner, other)
    assert stop(other.url, mine.run) == "stopped"
    mine.rest()
    far.rest()
    assert transcript(mine.frames) == transcript(far.frames)
    assert mine.frames[-1].json["outcome"] == "stopped"


def watched_from_both(owner: Process, other: Process) -> tuple[Viewer, Viewer]:
    """Viewers of a run that counts: in its own process, and in the other."""
    mine = watch(f"{owner.url}/count", params={"merge": "0"})
    mine.read(5)
    far = watch(f"{other.url}/runs/{mine.run}/events", params={"merge": "0"}, timeout=TIMEOUT)
    far.read(20)
    return mine, far


def until(condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def noted(folder: Path, run: str) -> tuple[int, list[int]]:
    """Which process the run's source worked in, and what it produced."""
    return _read(folder / "notes" / run)


def produced(folder: Path, run: str) -> list[int]:
    """What its sources produced, which all begin with the same: the longest. Of none that began: nothing."""
    return max((_read(path)[1] for path in (folder / "notes").glob(f"{run}*")), key=len, default=[])


def _read(path: Path) -> tuple[int, list[int]]:
    pid, *numbers = path.read_text(encoding="utf-8").split() or ["0"]  # it was killed before it wrote who it was
    return int(pid), [int(number) for number in numbers]


def check_kept(folder: Path, url: str, run: str) -> str:
    """Nothing that is stored is missing, doubled, or was never produced; how the run ended."""
    frames = watch(f"{url}/runs/{run}/events", params={"merge": "0"}, timeout=TIMEOUT).rest()
    said = [frame.json for frame in frames]
    assert [event["seq"] for event in said] == list(range(1, len(said) + 1))
    assert [event["type"] for event in said].count("run.ended") == 1
    assert said[-1]["type"] == "run.ended"
    kept = [int(number) for number in rebuild(frames).split()]
    made = produced(folder, run)
    assert kept == made[: len(kept)]
    if said[-1]["outcome"] == "completed":
        assert kept == made
    return str(said[-1]["outcome"])


def quantiles(seconds: Sequence[float]) -> str:
    """p50, p99 and the longest, in milliseconds."""
    ranked = sorted(seconds)
    p50, p99 = ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)]
    return f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {ranked[-1] * 1000:.0f} ms"
