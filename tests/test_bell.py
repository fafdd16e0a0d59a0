"""Bells, waiters and alarms: nobody waits for ever, nobody is woken for nothing, nothing is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.parts import PATIENCE, turns, until

from tidelog.alarm import Alarm
from tidelog.bell import Bell, Waiter

pytestmark = pytest.mark.anyio


async def test_a_bell_calls_all_that_wait_once_a_turn() -> None:
    bell, calls = Bell(), list[str]()
    wakes = [lambda name=name: calls.append(name) for name in "ab"]
    for wake in wakes:
        bell.add(wake)
        bell.add(wake)
    assert not bell.rung
    bell.ring()
    bell.ring()
    assert bell.rung and not calls
    await turns(1)
    assert calls == ["a", "b"]
    bell.ring()
    await turns(1)
    assert calls == ["a", "b", "a", "b"]


def test_who_waits_alone_is_called_at_every_ring() -> None:
    bell, calls = Bell(), list[str]()
    wakes = [lambda name=name: calls.append(name) for name in "ab"]
    for wake in wakes:
        bell.add(wake)
    bell.discard(wakes[0])
    bell.discard(wakes[0])
    bell.ring()
    bell.ring()
    assert calls == ["b", "b"]


async def test_who_leaves_before_the_crowd_is_called_is_not() -> None:
    bell, calls = Bell(), list[str]()
    wakes = [lambda name=name: calls.append(name) for name in "ab"]
    for wake in wakes:
        bell.add(wake)
    bell.ring()
    bell.discard(wakes[0])
    await turns(1)
    assert calls == ["b"]


def test_who_leaves_or_comes_during_a_ring_does_no_harm() -> None:
    bell, calls = Bell(), list[int]()

    def leaves() -> None:
        bell.discard(leaves)
        bell.add(comes)
        calls.append(1)

    def comes() -> None:
        calls.append(2)

    bell.add(leaves)
    bell.ring()
    bell.ring()
    assert calls == [1, 2]


async def test_one_may_wait_at_many() -> None:
    waiter, bells = Waiter(), [Bell() for _ in range(3)]
    for bell in bells:
        bell.add(waiter.wake)
    for bell in bells:
        waiter.woken = False
        asyncio.get_running_loop().call_soon(bell.ring)
        assert await asyncio.wait_for(waiter.wait(None), PATIENCE)


async def test_a_ring_before_the_wait_is_not_lost() -> None:
    waiter, bell = Waiter(), Bell()
    bell.add(waiter.wake)
    bell.ring()
    assert await asyncio.wait_for(waiter.wait(None), PATIENCE)


@pytest.mark.parametrize("timeout", [0, -1, 0.001])
async def test_a_wait_has_its_limit(timeout: float) -> None:
    waiter = Waiter()
    assert not await asyncio.wait_for(waiter.wait(timeout), PATIENCE)
    assert not await asyncio.wait_for(waiter.wait(timeout), PATIENCE)


async def test_the_limit_of_an_earlier_wait_does_not_end_a_later_one() -> None:
    for later in (None, 60.0):
        waiter = Waiter()
        asyncio.get_running_loop().call_soon(waiter.wake)
        assert await waiter.wait(0.01)
        waiter.woken = False
        waiting = asyncio.create_task(waiter.wait(later))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiter.wake()
        assert await waiting
        waiter.close()


async def test_a_cancelled_wait_leaves_the_waiter_as_it_was() -> None:
    waiter = Waiter()
    waiting = asyncio.create_task(waiter.wait(60))
    await turns()
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    waiter.wake()
    assert await waiter.wait(None)
    waiter.close()
    assert not waiter._alarm._timer


async def test_an_alarm_rings_once_at_the_limit_that_was_set_last() -> None:
    loop, calls = asyncio.get_running_loop(), list[float]()
    alarm = Alarm(loop, lambda: calls.append(loop.time()))
    begun = loop.time()
    for limit in (60.0, 0.03, 0.01, 0.05):
        alarm.set(begun + limit)
    await until(lambda: calls)
    assert calls[0] >= begun + 0.05
    await asyncio.sleep(0.02)
    assert len(calls) == 1


async def test_an_alarm_whose_timer_fires_a_little_early_rings_once() -> None:
    """A timer of uvloop counts milliseconds, so it may: to set it again until its time has come would turn the loop in vain."""
    timers, calls = list[Any](), list[int]()

    class Coarse:
        def time(self) -> float:
            return 9.9995

        def call_at(self, when: float, call: Any, **_: Any) -> None:
            timers.append(call)

    alarm = Alarm(Coarse(), lambda: calls.append(1))  # type: ignore[arg-type]
    alarm.set(10.0)
    timers[0]()
    assert (len(timers), calls) == (1, [1])


async def test_a_closed_alarm_never_rings() -> None:
    loop, calls = asyncio.get_running_loop(), list[int]()
    alarm = Alarm(loop, lambda: calls.append(1))
    alarm.set(loop.time() + 0.005)
    alarm.close()
    alarm.close()
    await asyncio.sleep(0.02)
    assert not calls
    alarm.set(loop.time())
    await until(lambda: calls)


async def test_moving_an_alarm_later_makes_no_new_timer() -> None:
    loop = asyncio.get_running_loop()
    alarm = Alarm(loop, lambda: None)
    alarm.set(loop.time() + 10)
    timer = alarm._timer
    for n in range(100):
        alarm.set(loop.time() + 20 + n)
    assert alarm._timer is timer
    alarm.close()
