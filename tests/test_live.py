"""A live run and its ears: what others ask of it is done, whatever becomes of the store, and who watches it counts."""

from __future__ import annotations

import asyncio

import pytest
from tests.parts import launch, outcome, running, turns, until
from tests.test_runner import forever

from tidelog import asking, control, patience
from tidelog import live as live_module
from tidelog.asking import head_of
from tidelog.errors import Unavailable
from tidelog.log import control_log
from tidelog.runner import Runner
from tidelog.seams import BATCH_BYTES, Page
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


class Shaky(MemoryStore):
    """A store whose control logs cannot be read `failures` times."""

    failures = 0

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        if log.startswith("control/") and self.failures:
            self.failures -= 1
            raise Unavailable
        return await super().read(log, after, limit)


async def test_a_stop_that_could_not_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "RETRY_CONTROL", 0.01)
    store = Shaky()
    async with running(store) as runner:
        run = await launch(runner, forever)
        store.failures = 3
        assert await asking.stop(runner.store, run.id) == "stopped"
        assert not store.failures


async def test_a_long_control_log_is_read_to_its_end() -> None:
    """One page of it is 256 KB; what nobody knows is passed over."""
    async with running() as runner:
        run = await launch(runner, forever)
        unknown = b'{"kind":"of a later version","x":"%b"}' % (b"x" * 1000)
        for _ in range(300):
            await runner.store.post(control_log(run.id), unknown)
        assert await asking.stop(runner.store, run.id) == "stopped"


async def test_an_ended_run_waits_at_no_bell() -> None:
    """Its control log's bell, which lives as long as that log, must not keep it."""
    async with running() as runner:
        run = await launch(runner, forever)
        bell = runner.store.changed(control_log(run.id))
        await turns()
        assert bell._waiting
        await asking.stop(runner.store, run.id)
        await until(lambda: not len(runner))
        assert not bell._waiting


# Leaving


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_cancel_after_counts_viewers_everywhere(where: str) -> None:
    async with running() as runner:
        run = await launch(runner, forever, cancel_after=0.05)
        head = await head_of(runner.store, run.id)
        other = Runner(runner.store)  # as another process would
        watcher = runner if where == "here" else other
        first, second = watcher.watch(head, "a", 0), runner.watch(head, "b", 0)
        first.__enter__()
        second.__enter__()
        await turns()
        second.__exit__(None, None, None)
        await asyncio.sleep(0.1)
        assert run.outcome is None
        first.__exit__(None, None, None)
        assert await outcome(run) == "stopped"


async def test_a_viewer_that_comes_back_in_time_keeps_the_run() -> None:
    async with running() as runner:
        run = await launch(runner, forever, cancel_after=0.2)
        head = await head_of(runner.store, run.id)
        for _ in range(3):
            with runner.watch(head, "a", 0):
                await turns()
        with runner.watch(head, "b", 0):
            await asyncio.sleep(0.3)
            assert run.outcome is None
            run.stop()
            await outcome(run)
            await until(lambda: not len(runner))
        timers = [timer for timer in asyncio.get_running_loop()._scheduled if "Run.stop" in repr(timer)]  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in timers)


async def test_a_run_that_nobody_ever_watched_goes_on() -> None:
    async with running() as runner:
        run = await launch(runner, forever, cancel_after=0.0)
        await turns(100)
        assert run.outcome is None


@pytest.mark.parametrize("watched", [True, False])
async def test_a_run_is_not_stopped_before_it_is_known_that_nobody_watches(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control log cannot be read when the last viewer here leaves: one elsewhere may be told of there."""
    monkeypatch.setattr(live_module, "RETRY_CONTROL", 0.01)
    store = Shaky()
    async with running(store) as runner:
        run = await launch(runner, forever, cancel_after=0.0)
        head = await head_of(store, run.id)
        with runner.watch(head, "a", 0):
            await turns()
            store.failures = 5
            if watched:
                said = control.Watched(by="another", viewers=1)
                await store.post(control_log(run.id), control.encode(said))
        await until(lambda: not store.failures)
        if watched:
            await until(lambda: runner._live[run.id].watched)
            await turns()
            assert run.outcome is None
            await store.post(control_log(run.id), control.encode(control.Watched(by="another", viewers=0)))
        assert await outcome(run) == "stopped"


async def test_the_control_log_of_a_run_that_is_done_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_module, "RETRY_CONTROL", 0.0)
    store = Shaky()
    async with running(store) as runner:
        run = await launch(runner, forever)
        live = runner._live[run.id]
        run.stop()
        await until(lambda: not len(runner))
        store.failures = 100
        live.hear()
        await turns(50)
        assert store.failures == 99
        assert not caplog.records


async def test_a_viewer_that_comes_while_the_store_is_away_is_told_of_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that leaves then: else the run would be stopped while it is watched, or never."""
    monkeypatch.setattr(patience, "AGAIN", 0.01)
    store, post, away = MemoryStore(), MemoryStore.post, 0

    async def shaky(self: MemoryStore, log: str, data: bytes, *, once: bool = False) -> int:
        nonlocal away
        if away:
            away -= 1
            raise Unavailable
        return await post(self, log, data, once=once)

    async with running(store) as runner:
        run = await launch(runner, forever, cancel_after=0.0)
        head = await head_of(store, run.id)
        other = Runner(store)  # as another process would
        monkeypatch.setattr(MemoryStore, "post", shaky)
        with runner.watch(head, "a", 0):
            away, elsewhere = 3, other.watch(head, "b", 0)
            elsewhere.__enter__()
            await until(lambda: runner._live[run.id]._elsewhere)
        await turns(50)
        assert run.outcome is None
        away = 3
        elsewhere.__exit__(None, None, None)
        assert await outcome(run) == "stopped"
