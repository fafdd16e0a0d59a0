"""Figures become verdicts: ratios round by round, differences, the worst where one is too many."""

from __future__ import annotations

import pytest
from bench.gates import Gate
from bench.workload import Column, Results, Workload

from bench import gates


@pytest.mark.parametrize(
    ("sign", "bound", "measured", "met"),
    [
        ("≤", 1.0, 1.0, True),
        ("<", 1.0, 1.0, False),
        ("≥", 2.0, 2.0, True),
        (">", 2.0, 2.0, False),
        ("≤", 1.0, 1.01, False),
    ],
)
def test_a_bound(sign: str, bound: float, measured: float, met: bool) -> None:
    assert Gate("ours", "us", sign, bound).judged([measured], []).met is met


def test_a_ratio_is_made_round_by_round() -> None:
    """The machine was slow in the second round, for both."""
    verdict = Gate("ours", "us", "≤", 1.1, against="raw").judged([10.0, 40.0, 10.0], [10.0, 40.0, 5.0])
    assert verdict.measured == 1.0
    assert verdict.met


def test_a_ratio_of_unequal_rounds_is_that_of_the_medians() -> None:
    assert Gate("ours", "us", "≤", 1.1, against="raw").judged([10.0, 30.0, 20.0], [10.0]).measured == 2.0


def test_a_difference() -> None:
    verdict = Gate("ours", "p50", "≤", 1.0, against="raw", minus=True, unit="ms").judged([1.5, 1.9], [1.0, 1.0])
    assert verdict.measured == pytest.approx(0.7)
    assert verdict.gate.wanted == "≤ 1 ms more than raw"


def test_nothing_is_judged_without_figures() -> None:
    gate = Gate("ours", "us", "≤", 1.0, against="raw")
    for own, other in (([], [1.0]), ([1.0], []), ([1.0], [0.0])):
        verdict = gate.judged(own, other)
        assert (verdict.measured, verdict.met, verdict.word) == (None, None, "not measured")


def test_one_lost_event_in_one_round_is_too_many() -> None:
    workload = Workload(
        "w", "W", lambda server, plan: {}, (Column("lost", "lost", worst=True),), gates=(Gate("ours", "lost", "≤", 0),)
    )
    results = Results({("w", "ours"): [{"lost": 0.0}, {"lost": 1.0}, {"lost": 0.0}]})
    assert [verdict.met for verdict in workload.verdicts(results)] == [False]


def test_a_stretch_is_no_promise() -> None:
    missed = Gate("ours", "us", "≤", 1.0, stretch=True).judged([2.0], [])
    kept = Gate("ours", "us", "≤", 1.0).judged([1.0], [])
    assert missed.word == "not reached"
    assert gates.summary([missed, kept]) == "1 gates met, 0 missed, 0 not measured."
