"""What has been counted since the process began: plain numbers, to which every run adds at its start and at its end."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from tidelog.errors import SENTENCES
from tidelog.head import Head
from tidelog.server.witness import Ended, Started

SECONDS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""How long runs take: a model's answer may last minutes, an import an hour."""
FIRST_EVENT: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
GAP: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
STORE: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
OTHER: Final = "other"
"""A code that is the application's own: any number of them would be any number of series."""


class Buckets:
    """How many values were at most as large as each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float | None) -> None:
        """Count a value; None is none."""
        if value is not None:
            self._counts[bisect_left(self._bounds, value)] += 1
            self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bound, the last one infinite, with the number of values up to it."""
        return list(zip((*map(str, self._bounds), "+Inf"), map(float, accumulate(self._counts)), strict=True))


class Tally:
    """Implements `witness.Listener`. Keys are label values: routes are templates, codes those of the protocol."""

    def __init__(self) -> None:
        self.runs_started: Counter[str] = Counter()
        self.runs_ended: Counter[tuple[str, ...]] = Counter()
        """By route, outcome and code."""
        self.seconds: defaultdict[str, Buckets] = defaultdict(lambda: Buckets(SECONDS))
        self.first_events: defaultdict[str, Buckets] = defaultdict(lambda: Buckets(FIRST_EVENT))
        self.largest_gap = Buckets(GAP)
        self.store = {call: Buckets(STORE) for call in ("open", "append")}
        self.tokens: Counter[tuple[str, ...]] = Counter()
        """By direction (`input`, `output`) and source."""
        self.events = 0
        self.bytes = 0

    def started(self, fact: Started) -> None:
        self.runs_started[fact.route] += 1
        self.store["open"].add(fact.stored)

    def first_event(self, route: str, seconds: float) -> None:
        self.first_events[route].add(seconds)

    def parked(self, head: Head) -> None:
        """It is counted where it ends."""

    def again(self, head: Head, route: str) -> None:
        """It was counted where it was started."""

    def ended(self, fact: Ended) -> None:
        code = "" if fact.code is None else fact.code if fact.code in SENTENCES else OTHER
        self.runs_ended[fact.route, fact.outcome, code] += 1
        self.seconds[fact.route].add(fact.seconds)
        self.largest_gap.add(fact.largest_gap)
        self.store["append"].add(fact.stored)
        self.events += fact.records
        self.bytes += fact.bytes
        for direction, count in (("input", fact.usage.input), ("output", fact.usage.output)):
            if count:
                self.tokens[direction, fact.usage.source] += count
