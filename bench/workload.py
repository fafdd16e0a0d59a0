"""What a workload is, and what its rounds leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from bench.machine import Cores
from bench.roster import Server

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Column:
    """One figure in the table: the median of the rounds, or the worst of them where one is already too many."""

    key: str
    heading: str
    digits: int = 0
    worst: bool = False
    spread: bool = False  # show least and most beside it
    against: str | None = None  # a figure of the baseline; its ratio gets a column of its own


@dataclass
class Results:
    """The figures of every round so far, by workload and server, and why a row has none."""

    rounds: dict[tuple[str, str], list[Figures]] = field(default_factory=dict)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, workload: str, server: str) -> list[Figures]:
        return self.rounds.get((workload, server), [])

    def median(self, workload: str, server: str, key: str) -> float | None:
        values = [figures[key] for figures in self.of(workload, server) if key in figures]
        return median(values) if values else None


@dataclass(frozen=True)
class Plan:
    """What a measurement may know: its cores, whether to be quick, and the figures that are there already."""

    cores: Cores
    quick: bool
    results: Results


@dataclass(frozen=True)
class Workload:
    """A kind of measurement: one call makes the figures of one round of one server.

    ``measure`` raises ``DidNotStart`` or ``Unmeasurable``. ``targets`` bounds the ratio of the first column that has
    one: a sign and a number for each server that has promised something. ``busy`` says that a slow client would spoil
    the figures.
    """

    name: str
    title: str
    measure: Callable[[Server, Plan], Figures]
    columns: tuple[Column, ...]
    targets: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    busy: bool = True
