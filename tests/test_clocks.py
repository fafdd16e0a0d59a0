"""The clocks of a run, on a loop whose time the test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidelog.clocks import Clocks
from tidelog.limits import Limits

LIMITS = Limits(first_event_timeout=30.0, gap_timeout=10.0, total_timeout=100.0, close_timeout=1.0, pause_limit=600.0)
NEXT = "first_event_timeout or gap_timeout"


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A loop, a writer, and the clocks between them. `over` is what they told, with the time."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now, self.at = 1000.0, 0.0
        self.timers: list[Timer] = []
        self.over: list[tuple[str, float]] = []
        self.clocks = Clocks(self, limits, self, over=self.tell)  # type: ignore[arg-type]
        self.clocks.expect_first()

    def time(self) -> float:
        return self.now

    def age(self) -> float:
        return self.now - self.at

    def call_at(self, at: float, call: Callable[[], None], **_: Any) -> Timer:
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    def tell(self, limits: str) -> None:
        self.over.append((limits, self.now - 1000.0))

    def text(self) -> None:
        """Text came behind text: the writer alone knows."""
        self.at = self.now

    def pass_time(self, seconds: float) -> None:
        """Time passes, and timers are called."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= until and not timer.cancelled]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = until


@pytest.fixture
def world() -> World:
    return World()


def test_a_source_that_says_nothing_at_all(world: World) -> None:
    world.pass_time(200)
    assert world.over == [(NEXT, 30.0)]


@pytest.mark.parametrize("text", [False, True])
def test_a_source_that_falls_silent(world: World, text: bool) -> None:
    for n in range(5):
        world.pass_time(5)
        if text and n:
            world.text()
        else:
            world.clocks.heard = world.now
    world.pass_time(50)
    assert world.over == [(NEXT, 35.0)]


def test_the_whole_run(world: World) -> None:
    for _ in range(40):
        world.pass_time(5)
        world.text()
    assert world.over[0] == ("total_timeout", 100.0)


@pytest.mark.parametrize("pauses", [1, 3])
@pytest.mark.parametrize("heard", ["nothing", "text", "an event"])
def test_what_time_was_left_is_left_behind_a_pause(world: World, heard: str, pauses: int) -> None:
    world.pass_time(2)
    if heard != "nothing":
        world.clocks.heard = world.now
    world.pass_time(2)
    if heard == "text":
        world.text()
    left = {"nothing": 26.0, "an event": 8.0, "text": 10.0}[heard]
    for _ in range(pauses):
        world.pass_time(2)
        world.clocks.stop()
        world.at = world.now  # the state is told: no word of the source
        world.pass_time(500)
        assert not world.over
        world.at = world.now
        world.clocks.go_on()
    world.pass_time(50)
    assert world.over == [(NEXT, 4.0 + left + pauses * 500)]


def test_a_pause_does_not_count_while_it_waits_for_its_turn(world: World) -> None:
    """And the limits of the run do not either, paused or not."""
    gave_up = list[float]()
    world.clocks.expect_turn(150.0, lambda: gave_up.append(world.now - 1000.0))
    world.pass_time(50)
    for _ in range(2):
        world.clocks.stop()
        world.pass_time(500)
        world.clocks.go_on()
        world.pass_time(45)
    assert (gave_up, world.over) == ([], [])
    world.pass_time(20)
    assert (gave_up, world.over) == ([1150.0], [])


def test_who_has_its_turn_waits_for_it_no_more(world: World) -> None:
    """It may be paused then: its time begins behind that."""
    world.clocks.expect_turn(60.0, lambda: world.tell("queue_timeout"))
    world.pass_time(50)
    world.clocks.stop()
    world.clocks.begin()
    world.pass_time(500)
    world.clocks.go_on()
    world.clocks.expect_nothing()
    world.pass_time(99)
    assert not world.over
    world.pass_time(2)
    assert world.over == [("total_timeout", 650.0)]


def test_a_pause_while_it_waits_for_its_turn_has_its_limit(world: World) -> None:
    world.clocks.expect_turn(60.0, lambda: world.tell("queue_timeout"))
    world.clocks.stop()
    world.pass_time(700)
    assert world.over == [("pause_limit", 600.0)]


def test_the_whole_run_stands_still_too(world: World) -> None:
    world.clocks.stop()
    assert world.clocks.left == 100.0
    world.pass_time(300)
    assert world.clocks.left == 100.0
    world.clocks.go_on()
    for _ in range(40):
        world.pass_time(5)
        world.text()
    assert world.over[0] == ("total_timeout", 400.0)


@pytest.mark.parametrize("text", [False, True])
def test_a_source_that_was_heard_while_the_run_was_paused_has_its_whole_gap(world: World, text: bool) -> None:
    world.pass_time(29)
    world.clocks.stop()
    world.pass_time(20)
    if text:
        world.text()
    else:
        world.clocks.heard = world.now
    world.clocks.expect_nothing()  # it waits at the gate
    world.pass_time(100)
    world.clocks.go_on()
    world.clocks.expect_next()
    world.pass_time(50)
    assert world.over == [(NEXT, 29.0 + 120.0 + 10.0)]


def test_a_pause_has_its_own_limit(world: World) -> None:
    world.pass_time(5)
    world.clocks.stop()
    world.pass_time(1000)
    assert world.over == [("pause_limit", 605.0)]


def test_each_pause_has_the_whole_limit(world: World) -> None:
    for _ in range(3):
        world.clocks.stop()
        world.pass_time(599)
        world.clocks.go_on()
    assert not world.over
    world.clocks.stop()
    world.pass_time(601)
    assert world.over == [("pause_limit", 3 * 599.0 + 600.0)]


def test_a_source_that_is_tried_again_owes_nothing_until_then(world: World) -> None:
    world.pass_time(29)
    world.clocks.stop()
    world.clocks.expect_close()
    world.clocks.expect_nothing()  # the next attempt is waited for
    world.pass_time(10)
    world.clocks.go_on()
    world.pass_time(50)
    assert not world.over
    world.clocks.expect_first()
    world.pass_time(50)
    assert world.over == [("total_timeout", 110.0)]


def test_a_source_that_does_not_close_is_not_waited_for_while_the_run_is_paused(world: World) -> None:
    world.clocks.stop()
    world.pass_time(5)
    world.clocks.expect_close()
    world.pass_time(50)
    assert world.over == [("close_timeout", 6.0)]


def test_who_dropped_them_hears_nothing(world: World) -> None:
    world.clocks.drop()
    world.pass_time(1000)
    assert not world.over
