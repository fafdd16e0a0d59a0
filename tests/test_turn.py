"""Calls that deliveries make together, and windows that widen under load."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from tests.parts import until

from tidelog import turn as turns
from tidelog.turn import MOST, WIDEST, Turn

pytestmark = pytest.mark.anyio


async def test_a_turn_makes_its_calls_together_and_an_error_stops_none(caplog: pytest.LogCaptureFixture) -> None:
    turn, calls = Turn(), list[str]()
    turn.enter()

    def again() -> None:
        calls.append("a")
        turn.soon(lambda: calls.append("c"))

    turn.soon(again)
    turn.soon(lambda: [][0])
    turn.soon(lambda: calls.append("b"))
    assert not calls
    await asyncio.sleep(0)
    assert calls == ["a", "b"]
    await asyncio.sleep(0)
    assert calls == ["a", "b", "c"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    turn.leave()


async def test_later_is_not_earlier_and_all_of_a_tick_go_in_one_callback() -> None:
    turn, loop, calls = Turn(), asyncio.get_running_loop(), list[tuple[int, float]]()
    turn.enter()
    began = loop.time()
    for number in range(200):
        turn.later(number / 10_000, lambda number=number: calls.append((number, loop.time() - began)))
    asked = loop.time() - began  # each is due so long after it was asked for
    assert len(turn._ticks) <= (0.02 + asked) / turns.TICK + 2
    await until(lambda: len(calls) == 200)
    assert not turn._ticks
    assert [number for number, _ in calls] == list(range(200))
    assert all(after >= number / 10_000 - 0.001 for number, after in calls)
    turn.leave()


def test_a_window_is_as_wide_as_the_load_calls_for() -> None:
    widths = [turns._width(busy / 100) for busy in range(101)]
    assert widths == sorted(widths)
    assert widths[0] == widths[10] == 1.0
    assert widths[30] == widths[100] == WIDEST


def work(seconds: float) -> None:
    """Keep the loop for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def look(turn: Turn) -> None:
    """At the load, at once, and not again before long."""
    assert turn._timer is not None
    turn._timer.cancel()
    turn._look(turn._loop)


async def test_who_is_gone_at_once_pays_for_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = list[float]()
    monkeypatch.setattr(turns, "FIRST", 0.0)
    monkeypatch.setattr(turns, "_wanted", lambda: looks.append(0.0) or 0.0)
    turn = Turn()
    turn.enter()
    turn.leave()
    turn.enter()
    assert not looks
    await until(lambda: len(looks) == 1)
    turn.leave()


@pytest.mark.parametrize(("share", "gathers"), [(0.9, False), (1.2, True)])
async def test_text_gathers_where_there_is_much_of_it(
    share: float, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the records of a few runs that the loop works for; those who write to many at once gather in any case."""
    monkeypatch.setattr(turns, "GATHER", 0.017)
    monkeypatch.setattr(turns, "_width", lambda busy: WIDEST)
    turn, loop = Turn(), asyncio.get_running_loop()
    for each in (turn, turn.steady):
        each.enter()
        each._at = loop.time() - 1000.0
        each.texts = int(share * turns.MANY * 1000.0)
        look(each)
    assert turn.texts == 0
    assert turn.gather == (0.017 * turn.width if gathers else 0.0)
    assert turn.steady.gather == 0.017 * turn.steady.width
    for each in (turn, turn.steady):
        each.leave()


async def test_windows_are_wider_while_the_loop_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "SAMPLE", 0.02)
    monkeypatch.setattr(turns, "GATHER", 0.017)
    turn = Turn()
    turn.enter()
    assert turn.width == 1.0
    assert turn.gather == 0.0

    async def busy() -> None:
        while turn.width < MOST:  # they grow for as long as that does not help
            work(0.03)
            turn.texts += turns.MANY
            await asyncio.sleep(0)

    await asyncio.wait_for(busy(), 20)
    assert turn.gather == 0.017 * turn.width
    await until(lambda: turn.width == 1.0)
    assert turn.gather == 0.0
    turn.leave()
    assert turn._timer is None


async def test_a_loop_that_is_full_and_keeps_its_times_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late ticks tell that there is too much to do, not how much of its time the loop works."""
    monkeypatch.setattr(turns, "SAMPLE", 0.02)
    monkeypatch.setattr(turns, "LATE", 5.0)
    turn = Turn()
    turn.enter()
    began = time.monotonic()
    while turn._busy <= turns.FULL or time.monotonic() < began + 0.5:
        work(0.03)
        await asyncio.sleep(0)
    assert turn.width == WIDEST
    turn.leave()


async def test_ticks_that_come_late_are_told_from_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FIRST", 60.0)  # nobody looks but we
    turn, calls = Turn(), list[int]()
    turn.enter()
    turn.later(0.001, lambda: calls.append(1))
    work(0.03)
    await until(lambda: bool(calls))
    assert turn._made == 1
    assert turn._late >= 0.03 - 0.001 - turns.TICK - 0.001
    look(turn)
    assert turn._made == 0
    assert turn._late == 0.0
    turn.leave()


async def test_windows_grow_while_there_is_too_much_to_do_but_for_those_whom_writing_holds_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "SAMPLE", 0.02)
    turn = Turn()
    assert turn.steady is turn.steady
    turn.enter()
    turn.steady.enter()
    until_ = time.monotonic() + 20
    while turn.width <= 2 * WIDEST and time.monotonic() < until_:
        work(0.03)
        await asyncio.sleep(0)
    assert turn.width > 2 * WIDEST
    assert turn.steady.width <= WIDEST
    turn.leave()
    turn.steady.leave()
    assert turn.width == 1.0


def test_the_share_is_that_of_who_waits_for_the_core_too() -> None:
    """Where the kernel tells it: a process that is kept from its core has as much too much to do as one that works."""
    before, worked = turns._wanted(), time.thread_time()
    sum(range(5_000_000))  # the kernel counts by ticks of some milliseconds
    assert turns._wanted() - before >= (time.thread_time() - worked) * 0.5
    assert turns._wanted() >= 0.0


async def test_a_loop_that_stood_for_minutes_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, loop = Turn(), asyncio.get_running_loop()
    turn.enter()
    turn._at, turn._busy = loop.time() - 1000.0, 1.0
    monkeypatch.setattr(turns, "_wanted", lambda: turn._spent + 1000.0)
    look(turn)
    assert turn.width == MOST * WIDEST
    turn.leave()
