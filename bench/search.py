"""Finding the largest number that holds, in few tries."""

from __future__ import annotations

from collections.abc import Callable

LEAST = 10
MOST = 20_000


def largest(holds: Callable[[int], bool], *, start: int, growth: float, resolution: float, most: int = MOST) -> int:
    """The largest number found to hold, up to ``most``, within ``resolution`` (a share of it) of one that did not; 0 for none.

    It widens by ``growth`` from ``start``, up or down, until the answer lies between two numbers, and halves that gap.
    """
    low, high = _bracket(holds, min(max(start, LEAST), most), growth, most)
    while low and high - low > max(1.0, low * resolution):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _bracket(holds: Callable[[int], bool], start: int, growth: float, most: int) -> tuple[int, int]:
    """A number that holds, or 0, and a larger one that does not, or ``most``."""
    low, high = 0, start
    while high < most and holds(high):
        low, high = high, min(most, round(high * growth))
    while not low and high > LEAST:
        below = max(LEAST, round(high / growth))
        low, high = (below, high) if holds(below) else (0, below)
    return low, high
