"""What a workload is, and what its rounds leave behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, Literal, NamedTuple, TypeVar

from bench.gates import Gate, Verdict
from bench.machine import Cores
from bench.roster import Server

Figures = Mapping[str, float]
Size = Literal["full", "quick", "tiny"]
_SIZES: tuple[Size, ...] = ("full", "quick", "tiny")
T = TypeVar("T")


class Sizes(NamedTuple, Generic[T]):
    """How much is measured: for figures, for a look, and to see that the bench works."""

    full: T
    quick: T
    tiny: T


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

    def values(self, workload: str, server: str, key: str) -> list[float]:
        """A figure, round by round."""
        return [figures[key] for figures in self.of(workload, server) if key in figures]

    def median(self, workload: str, server: str, key: str) -> float | None:
        values = self.values(workload, server, key)
        return median(values) if values else None


@dataclass(frozen=True)
class Plan:
    """What a measurement may know: its cores, how much to measure, and the figures that are there already."""

    cores: Cores
    size: Size
    results: Results

    def of(self, sizes: Sizes[T]) -> T:
        """As much as is to be measured."""
        return sizes[_SIZES.index(self.size)]


@dataclass(frozen=True)
class Workload:
    """A kind of measurement: one call makes the figures of one round of one server.

    ``measure`` raises ``DidNotStart`` or ``Unmeasurable``. ``gates`` are what tidelog has promised. ``only`` names the
    servers that it makes sense for; with ``rows`` it has its own. ``busy`` says that a slow client would spoil the figures.
    """

    name: str
    title: str
    measure: Callable[[Server, Plan], Figures]
    columns: tuple[Column, ...]
    gates: tuple[Gate, ...] = ()
    only: tuple[str, ...] = ()
    rows: tuple[Server, ...] = ()
    busy: bool = True
    plot: str = ""

    @property
    def plotted(self) -> Column:
        """The column that makes the picture: the first, or the one that ``plot`` names."""
        return next((column for column in self.columns if column.key == self.plot), self.columns[0])

    def servers(self, chosen: Sequence[Server]) -> list[Server]:
        """Who is measured, when these are asked for."""
        return [server for server in self.rows or chosen if not self.only or server.name in self.only]

    def verdicts(self, results: Results) -> list[Verdict]:
        """Its gates against these results."""
        worst = {column.key for column in self.columns if column.worst}
        return [
            gate.judged(
                results.values(self.name, gate.server, gate.key),
                results.values(self.name, gate.against, gate.other or gate.key) if gate.against else (),
                worst=gate.key in worst,
            )
            for gate in self.gates
        ]
