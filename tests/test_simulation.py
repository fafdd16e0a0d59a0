"""The simulation of `bench/scale.py`: it neither loses nor makes work, and flushes grow under load."""

from __future__ import annotations

import pytest
from bench.scaling.simulation import Costs, Plan, simulate

COSTS = Costs(event=50e-6, piece=200e-6, record=20e-6, batch=100e-6)


def test_work_is_neither_lost_nor_made() -> None:
    seen = simulate(Plan(2, 100, 10.0, seconds=4.0), COSTS)
    assert seen.events == pytest.approx(1000, rel=0.02)
    assert seen.process_share * 2 == pytest.approx(seen.events * COSTS.event + seen.pieces * COSTS.piece, rel=0.02)
    assert seen.shard_share == pytest.approx(seen.events * COSTS.record + seen.pieces * COSTS.batch, rel=0.02)


def test_a_flush_takes_more_where_there_is_more() -> None:
    few, many = (simulate(Plan(1, runs, 20.0, seconds=2.0), COSTS) for runs in (10, 400))
    assert few.events / few.pieces < 1.2 < 3.0 < many.events / many.pieces


def test_shards_share_records_and_take_a_piece_each() -> None:
    one, four = (simulate(Plan(1, 300, 20.0, shards, shards, seconds=2.0), COSTS) for shards in (1, 4))
    assert four.pieces > one.pieces
    assert four.shard_share < one.shard_share
    assert four.process_share > one.process_share


def test_who_waits_for_a_core_gathers() -> None:
    alone, beside = (simulate(Plan(1, 100, 20.0, seconds=2.0, waits=waits), COSTS) for waits in ((), (0.005,)))
    assert beside.pieces < alone.pieces / 2
    assert beside.p50 > alone.p50


def test_too_much_is_told() -> None:
    with pytest.raises(ValueError, match="overloaded"):
        simulate(Plan(1, 10_000, 20.0, seconds=0.5), COSTS)
