"""The largest number that holds is found from any start, and never beyond the most."""

from __future__ import annotations

import pytest
from bench.search import LEAST, largest


@pytest.mark.parametrize("limit", [12, 100, 997, 5000])
@pytest.mark.parametrize("start", [10, 500, 20_000])
def test_it_comes_close_from_below(limit: int, start: int) -> None:
    found = largest(lambda number: number <= limit, start=start, growth=1.5, resolution=0.04)
    assert limit * 0.95 - 1 <= found <= limit


def test_nothing_holds() -> None:
    assert largest(lambda number: False, start=100, growth=2.0, resolution=0.1) == 0


def test_it_asks_for_no_more_than_the_most() -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return True

    largest(holds, start=LEAST, growth=2.0, resolution=0.1, most=50)
    assert max(asked) <= 50
