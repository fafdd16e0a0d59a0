"""SIGTERM while viewers stream: they are told to come back and closed, runs drain, the process exits (spec §10)."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import count

from tidelog.testing import Process, Viewer, freeze, rebuild, serve_process, transcript, watch

ROOT = Path(__file__).parents[2]
DRAIN = 1.0
NOISE = 4.0
"""Seconds that a busy machine may add to a promise."""
KINDS = pytest.mark.parametrize("kind", ["tidelog", "uvicorn", "granian"])


def start(kind: Any, **env: str) -> Process:
    return serve_process(
        "tests.integration.apps:app", kind=kind, cwd=ROOT, env={"APP_DRAIN_TIMEOUT": str(DRAIN), **env}
    )


def exits(process: Process, begun: float) -> None:
    process.wait(DRAIN + 2.0 + NOISE - (time.monotonic() - begun))
    assert "Traceback" not in process.output
    assert "Error" not in process.output


@pytest.fixture
def viewers() -> Iterator[list[Viewer]]:
    found: list[Viewer] = []
    yield found
    for viewer in found:
        viewer.close()


@KINDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_while_a_viewer_streams(kind: str, number: int) -> None:
    with start(kind) as process, watch(f"{process.url}/count") as viewer:
        viewer.read(5)
        begun = time.monotonic()
        process.signal(number)
        viewer.rest()
        assert time.monotonic() - begun < 1.0 + NOISE
        assert viewer.complete
        assert viewer.frames[-1].json["type"] == "reconnect"
        assert viewer.parser.last_id == viewer.frames[-2].id
        exits(process, begun)


@KINDS
def test_while_a_viewer_never_reads(kind: str) -> None:
    with start(kind) as process, freeze(f"{process.url}/flood", after=1), watch(f"{process.url}/count") as viewer:
        viewer.read(2)
        begun = time.monotonic()
        process.terminate()
        viewer.rest()
        assert time.monotonic() - begun < 1.0 + NOISE, "the others do not wait for it"
        exits(process, begun)


@KINDS
def test_while_viewers_wait(kind: str) -> None:
    """Who has waited for a while has no request any more under `tidelog serve`, and is told as well."""
    with start(kind) as process:
        first = watch(f"{process.url}/flood?kilobytes=1")
        viewers = [first, *(watch(f"{process.url}/runs/{first.run}/events") for _ in range(20))]
        for viewer in viewers:
            viewer.read(2)
        time.sleep(0.3)  # they rest now; if they do not yet, all that follows holds as well
        begun = time.monotonic()
        process.terminate()
        for viewer in viewers:
            assert viewer.rest()[-1].json["type"] == "reconnect"
            assert viewer.complete
            viewer.close()
        assert time.monotonic() - begun < 1.0 + NOISE
        exits(process, begun)


@KINDS
def test_without_viewers_it_is_gone_at_once(kind: str) -> None:
    with start(kind, APP_DRAIN_TIMEOUT="30") as process:
        begun = time.monotonic()
        process.terminate()
        exits(process, begun)


@KINDS
def test_runs_that_end_in_time_complete_and_the_rest_is_interrupted(kind: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/logs.db"
    with start(kind, APP_STORE=store) as process:
        short = watch(f"{process.url}/count", params={"to": "40"})
        long = watch(f"{process.url}/count")
        for viewer in (short, long):
            viewer.read(3)
        process.terminate()
        seen = {viewer.run: viewer.frames for viewer in (short, long) if viewer.rest()}
        exits(process, time.monotonic())
    with start(kind, APP_STORE=store) as process:
        frames = {run: watch(f"{process.url}/runs/{run}/events").rest() for run in seen}
    endings = [frames[viewer.run][-1].json["outcome"] for viewer in (short, long)]
    assert endings == ["completed", "interrupted"]
    for run, before in seen.items():
        assert rebuild(frames[run]).startswith(rebuild(before)), "what was seen is stored"
        assert transcript([*before, *frames[run]])


@pytest.mark.soak
def test_many_viewers_one_of_which_never_reads() -> None:
    """Under `tidelog serve`, all are told to come back and are closed within a second."""
    many = count(50, 500)
    with start("tidelog") as process:
        stalled = freeze(f"{process.url}/flood", after=1)
        run = watch(f"{process.url}/count", params={"pause": "0.05"})
        run.read(2)
        viewers = [watch(f"{process.url}/runs/{run.run}/events") for _ in range(many)]
        begun = time.monotonic()
        process.terminate()
        for viewer in viewers:
            viewer.rest()
        took = time.monotonic() - begun
        exits(process, begun)
        assert all(viewer.frames[-1].json["type"] == "reconnect" for viewer in viewers)
        assert all(viewer.complete for viewer in viewers)
        assert len({viewer.frames[-1].json["retry"] for viewer in viewers}) > many // 5, (
            "they do not come back together"
        )
        assert took < 1.0 + NOISE + many / 100  # reading them all takes this process its time, too
        run.close()
        stalled.close()
