"""Work gives way to an upload, and is not held up by one that never ends."""

from __future__ import annotations

from tidelog.apps.documents.way import NEAR, PATIENCE, WORK, Way


class Time:
    """A clock that only sleeping and working move; `tick` is called after each sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = 0.0
        self.trickling: Way | None = None

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        if self.trickling is not None:
            self.trickling.needed()

    def work(self, way: Way, steps: int) -> None:
        for _ in way.politely(range(steps)):
            self.now += WORK * 1.5


def test_without_need_the_naps_are_short() -> None:
    time = Time()
    time.work(Way(time.clock, time.sleep), 100)
    assert time.slept < 0.1 * 100 * WORK


def test_work_waits_while_the_way_is_needed() -> None:
    time = Time()
    way = Way(time.clock, time.sleep)
    way.needed()
    time.work(way, 1)
    assert NEAR - 2 * WORK <= time.slept <= NEAR + 2 * WORK


def test_a_need_that_never_ends_leaves_half_of_the_time() -> None:
    time = Time()
    way = time.trickling = Way(time.clock, time.sleep)
    way.needed()
    time.work(way, 2000)
    worked = 2000 * WORK * 1.5
    assert time.slept > PATIENCE
    assert time.slept < 1.3 * worked
