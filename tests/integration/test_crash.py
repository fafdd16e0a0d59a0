"""`kill -9`: what was delivered is a prefix of what is stored, and a restart ends the orphans (spec §10)."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import count
from tests.integration.crowd import stopped_from_elsewhere

from tidelog import control
from tidelog.errors import Gone
from tidelog.log import control_log
from tidelog.stores.sqlite import SqliteStore
from tidelog.testing import Process, Viewer, rebuild, serve_process, transcript, watch

ROOT = Path(__file__).parents[2]
PATIENCE = 1.0
BEAT = 0.2


def start(folder: Path) -> Process:
    env = {"APP_STORE": f"sqlite:///{folder}/logs.db?beat={BEAT}", "APP_LEASE_PATIENCE": str(PATIENCE)}
    return serve_process("tests.integration.apps:app", cwd=ROOT, env=env)


def reaped(process: Process, run: str) -> Viewer:
    """A viewer that has waited for the end of an orphan: live viewers hear of it, too."""
    viewer = watch(f"{process.url}/runs/{run}/events", timeout=15.0)
    viewer.rest()
    return viewer


@pytest.mark.soak
def test_at_random_moments(tmp_path: Path) -> None:
    dice = random.Random(7)
    process = start(tmp_path)
    try:
        for _ in range(count(3, 50)):
            viewers = [watch(f"{process.url}/count", params={"pause": "0.001", "merge": "0"}) for _ in range(3)]
            for viewer in viewers:
                viewer.read(dice.randrange(1, 60))
            process.kill()
            for viewer in viewers:
                viewer.rest()
                assert not viewer.complete
            process.__exit__(None, None, None)
            begun, process = time.monotonic(), start(tmp_path)
            for viewer in viewers:
                after = reaped(process, viewer.run)
                assert time.monotonic() - begun < 15.0
                whole = transcript([*viewer.frames, *after.frames])
                assert rebuild(after.frames).startswith(rebuild(viewer.frames))
                assert [event["type"] for event in whole][-2:] == ["text.ended", "run.ended"]
                ended = whole[-1]
                assert (ended["outcome"], ended["error"]["code"]) == ("interrupted", "interrupted")
                assert ended["error"]["retryable"]
                assert after.frames[-1].id == f"{viewer.run}.2.{ended['seq']}", "a new owner, a new epoch"
    finally:
        process.__exit__(None, None, None)


def test_an_orphan_can_be_resumed_and_continued(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        viewer = watch(f"{process.url}/count", params={"merge": "0"})
        viewer.read(4)
        process.kill()
        viewer.rest()
    with start(tmp_path) as process:
        again = watch(f"{process.url}/count", params={"merge": "0"}, last_event_id=viewer.frames[3].id, timeout=15.0)
        rest = again.rest()
        assert again.status == 200
        assert transcript([*viewer.frames, *rest])[-1]["outcome"] == "interrupted"
        state = watch(f"{process.url}/runs/{viewer.run}", accept=None).json
        assert (state["state"], state["outcome"], state["epoch"]) == ("ended", "interrupted", 2)
        assert state["can"] == ["retry", "continue"]
        found = watch(f"{process.url}/runs/{viewer.run}/continue", "POST", accept=None).json
        with watch(process.url + found["events"]) as live:
            assert live.read(2)[1].json["text"].startswith("0 1 2 ")


def test_a_second_process_reads_what_the_first_writes(tmp_path: Path) -> None:
    """It tails, and it stops, a run that lives elsewhere."""
    with start(tmp_path) as owner, start(tmp_path) as other:
        stopped_from_elsewhere(owner, other)


def told_of_viewers(folder: Path, run: str) -> None:
    """Until another process has said that it has a viewer of this run: it does so a moment after its first frame."""

    async def look() -> None:
        store = SqliteStore(f"sqlite:///{folder}/logs.db")
        await store.start("test")
        until = time.monotonic() + 15.0
        try:
            while True:
                assert time.monotonic() < until
                with suppress(Gone):
                    page = await store.read(control_log(run), 0)
                    if any(isinstance(control.decode(one.data), control.Watched) for one in page.records):
                        return
                await asyncio.sleep(0.02)
        finally:
            await store.aclose()

    asyncio.run(look())


def test_leaving_counts_across_processes(tmp_path: Path) -> None:
    """`cancel_after(0)`: a viewer elsewhere keeps the run alive, and its leaving ends it."""
    with start(tmp_path) as owner, start(tmp_path) as other:
        mine = watch(f"{owner.url}/fragile")
        mine.read(2)
        far = watch(f"{other.url}/runs/{mine.run}/events")
        far.read(2)
        told_of_viewers(tmp_path, mine.run)
        mine.drop()
        assert watch(f"{owner.url}/runs/{mine.run}", accept=None).json["state"] == "running"
        far.drop()
        until = time.monotonic() + 10.0
        while (found := watch(f"{owner.url}/runs/{mine.run}", accept=None).json)["state"] == "running":
            assert time.monotonic() < until  # asking for the state is not watching
        assert found["outcome"] == "stopped"


def test_who_was_served_by_a_dead_process_watches_no_more(tmp_path: Path) -> None:
    """It cannot say that its viewers have left: else their run would go on, and cost, for as long as it can."""
    with start(tmp_path) as owner:
        mine = watch(f"{owner.url}/fragile")
        mine.read(2)
        with start(tmp_path) as other:
            far = watch(f"{other.url}/runs/{mine.run}/events")
            far.read(2)
            told_of_viewers(tmp_path, mine.run)
            mine.drop()
            assert watch(f"{owner.url}/runs/{mine.run}", accept=None).json["state"] == "running"
            other.kill()
            far.drop()
            until = time.monotonic() + 15.0
            while (found := watch(f"{owner.url}/runs/{mine.run}", accept=None).json)["state"] == "running":
                assert time.monotonic() < until
        assert found["outcome"] == "stopped"
