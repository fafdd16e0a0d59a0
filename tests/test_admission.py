"""Counting: no limit is ever broken, whoever can be in is in, order is kept, and at the end nobody holds anything."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count

from tidelog.admission import RETRY_AFTER, RETRY_BLINDLY, Admission, Bounds, Claim, Limit, Slots
from tidelog.errors import Overloaded


def process(most: int | None) -> tuple[Limit, ...]:
    return (Limit("max_runs", None, most),)


class TestOrder:
    def test_first_come_first_served(self) -> None:
        slots = Slots("too_many_runs", queue=9)
        claims = [slots.claim(process(2)) for _ in range(5)]
        assert [claim.state for claim in claims] == ["in", "in", "waiting", "waiting", "waiting"]
        order: list[int] = []
        for number, claim in enumerate(claims):
            claim.granted = lambda number=number: order.append(number)
        claims[1].release()
        claims[0].release()
        assert order == [2, 3]
        assert (len(slots), slots.places()) == (2, [(1, claims[4])])

    def test_a_full_share_does_not_block_others_behind_it(self) -> None:
        admission = Admission(Bounds(max_runs=3, max_runs_per_principal=2))
        ann = [admission.run("ann") for _ in range(5)]
        bob = admission.run("bob")
        assert [claim.state for claim in (*ann, bob)] == ["in", "in", "waiting", "waiting", "waiting", "in"]
        later = admission.run("bob")
        assert later.state == "waiting", "the process is full"
        bob.release()
        assert (later.state, ann[2].state) == ("in", "waiting"), "ann has all that she may have"
        ann[0].release()
        assert [claim.state for claim in ann] == ["gone", "in", "in", "waiting", "waiting"]

    def test_an_endpoint_has_a_limit_of_its_own(self) -> None:
        admission = Admission(Bounds(max_runs=3))
        one, two = (admission.run(None, endpoint="/slow", most=1) for _ in range(2))
        other = admission.run(None, endpoint="/fast")
        assert [claim.state for claim in (one, two, other)] == ["in", "waiting", "in"]
        one.release()
        assert two.state == "in"

    def test_nobody_can_fill_the_queue_for_all(self) -> None:
        admission = Admission(Bounds(max_runs=1, queue=4))
        claims = [admission.run("ann") for _ in range(3)]
        with pytest.raises(Overloaded):
            admission.run("ann")
        assert admission.run("bob").state == "waiting"
        claims[1].release()
        assert admission.run("ann").state == "waiting", "her place is free again"

    def test_who_has_no_name_shares_with_nobody(self) -> None:
        admission = Admission(Bounds(max_runs=9, max_runs_per_principal=1))
        assert [admission.run(None).state for _ in range(3)] == ["in"] * 3


class TestRefusals:
    def test_the_code_and_the_limit_that_is_reached(self) -> None:
        slots = Slots("too_many_viewers")
        kept = slots.claim(process(1))
        with pytest.raises(Overloaded) as raised:
            slots.claim(process(1))
        assert (raised.value.code, raised.value.reason, raised.value.retryable) == (
            "too_many_viewers",
            "max_runs",
            True,
        )
        kept.release()
        assert slots.claim(process(1)).state == "in"

    def test_one_that_may_be_no_start_is_told_later(self) -> None:
        admission = Admission(Bounds(max_runs=1, queue=0))
        admission.run(None)
        claim = admission.run(None, keyed=True)
        assert claim.refused is not None
        assert (claim.refused.code, claim.state) == ("too_many_runs", "gone")
        claim.release()
        assert len(admission.runs) == 1

    def test_short_of_memory(self) -> None:
        """Nobody comes in but one at a time: with none at work, no ending would make it better."""
        admission = Admission(Bounds(max_runs=2))
        claims = [admission.run(None) for _ in range(4)]
        admission.short_of_memory = True
        with pytest.raises(Overloaded) as raised:
            admission.run(None)
        assert (raised.value.code, raised.value.reason) == ("overloaded", "memory")
        for claim in claims[:2]:
            claim.release()
        assert [claim.state for claim in claims[2:]] == ["waiting", "waiting"]
        admission.short_of_memory = True
        assert [claim.state for claim in claims[2:]] == ["in", "waiting"]
        admission.short_of_memory = False
        assert [claim.state for claim in claims[2:]] == ["in", "in"]
        for claim in claims:
            claim.release()
        admission.short_of_memory = True
        assert admission.run(None).state == "in"

    def test_the_estimate_follows_how_slots_were_freed(self) -> None:
        now = 100.0
        slots = Slots("too_many_runs", queue=5, clock=lambda: now)
        assert slots.retry_after() == RETRY_BLINDLY
        claims = [slots.claim(process(4)) for _ in range(6)]
        for claim in claims[:4]:
            claim.release()
            now += 3.0
        assert slots.retry_after() == 3.0, "one every 3 s, and nobody waits"
        more = [slots.claim(process(4)) for _ in range(4)]
        assert slots.retry_after() == 9.0, "two wait"
        now += 10_000.0
        assert slots.retry_after() == RETRY_AFTER[1]
        assert more[-1].state == "waiting"

    def test_viewers_are_counted_while_they_stay(self) -> None:
        admission = Admission(Bounds(max_viewers=3, max_viewers_per_principal=1))
        with admission.viewer("ann"):
            with pytest.raises(Overloaded), admission.viewer("ann"):
                pass
            with admission.viewer("bob"):
                assert len(admission.viewers) == 2
        with pytest.raises(KeyError), admission.viewer("ann"):
            raise KeyError
        assert len(admission.viewers) == 0
        assert admission.refused == {"max_viewers_per_principal": 1}

    @pytest.mark.parametrize(
        "bounds", [{"max_runs": 0}, {"max_viewers_per_principal": -1}, {"queue": -1}, {"queue_timeout": 0.0}]
    )
    def test_bounds_under_which_nothing_could_run(self, bounds: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(bounds))):
            Bounds(**bounds).check()

    def test_no_limit_at_all(self) -> None:
        admission = Admission(Bounds(None, None, None, None).check())
        assert {admission.run("ann").state for _ in range(5000)} == {"in"}


@settings(max_examples=count(100, 2000), deadline=None)
@given(st.data())
def test_whatever_comes_and_goes(data: st.DataObject) -> None:
    bounds = Bounds(
        max_runs=data.draw(st.integers(1, 5)), max_runs_per_principal=data.draw(st.integers(1, 3)),
        queue=data.draw(st.integers(0, 6)),
    )  # fmt: skip
    admission, alive = Admission(bounds), list[Claim]()
    for _ in range(data.draw(st.integers(1, 40))):
        if alive and data.draw(st.booleans()):
            claim = alive.pop(data.draw(st.integers(0, len(alive) - 1)))
            for _ in range(data.draw(st.integers(1, 2))):
                claim.release()
        else:
            with suppress(Overloaded):
                alive.append(admission.run(data.draw(st.sampled_from([None, "ann", "bob"])), endpoint="e", most=2))
        _check(admission, alive)
    for claim in alive:
        claim.release()
    assert (len(admission.runs), admission.runs.waiting, *map(len, _counters(admission.runs))) == (0, 0, 0, 0)


def _check(admission: Admission, alive: list[Claim]) -> None:
    runs = admission.runs
    inside, waiting = ([one for one in alive if one.state == state] for state in ("in", "waiting"))
    assert (len(runs), [one for _, one in runs.places()]) == (len(inside), waiting)

    def held(limit: Limit) -> int:
        return sum(limit in one.limits for one in inside)

    for claim in alive:
        assert all(limit.most is None or held(limit) <= limit.most for limit in claim.limits)
    for claim in waiting:
        assert any(limit.most is not None and held(limit) >= limit.most for limit in claim.limits), "it could be in"


def _counters(slots: Slots) -> tuple[Any, Any]:
    return slots._held, slots._waiting_under
