"""What tidelog has promised of its figures, and whether a run of the bench bears it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from statistics import median
from typing import Final

SIGNS: Final = {"≤": le, "<": lt, "≥": ge, ">": gt}


@dataclass(frozen=True)
class Gate:
    """A bound for a figure of one server, or for its ratio to (``minus``: difference from) that of another in the same run."""

    server: str
    key: str
    sign: str
    bound: float
    against: str | None = None  # the name of the other server
    other: str | None = None  # its figure, where that is not ``key``
    minus: bool = False
    unit: str = ""
    stretch: bool = False  # what would be nice, and no promise

    @property
    def wanted(self) -> str:
        """The bound in words."""
        bound = f"{self.bound:,g}"
        if self.against is None or self.minus:
            unit = f" {self.unit}" if self.unit else ""
            return f"{self.sign} {bound}{unit}" + (f" more than {self.against}" if self.minus else "")
        return f"{self.sign} {bound} × {self.against}"

    def judged(self, own: Sequence[float], other: Sequence[float], *, worst: bool = False) -> Verdict:
        """The gate against the figures of each round; by their worst instead of the median where one is already too many."""
        values = self._values(own, other)
        if not values:
            return Verdict(self, None, None)
        measured = max(values) if worst else median(values)
        return Verdict(self, measured, bool(SIGNS[self.sign](measured, self.bound)))

    def _values(self, own: Sequence[float], other: Sequence[float]) -> list[float]:
        """Round by round where both have as many: they took turns, so what moved the machine moved both."""
        if self.against is None:
            return list(own)
        if not own or not other:
            return []
        pairs = zip(own, other, strict=True) if len(own) == len(other) else [(median(own), median(other))]
        return [a - b if self.minus else a / b for a, b in pairs if self.minus or b]


@dataclass(frozen=True)
class Verdict:
    """A gate and what was measured: a figure, a ratio or a difference. Both are ``None`` where one side is missing."""

    gate: Gate
    measured: float | None
    met: bool | None

    @property
    def word(self) -> str:
        """Met, missed, or not measured."""
        if self.met is None:
            return "not measured"
        return "met" if self.met else ("not reached" if self.gate.stretch else "MISSED")


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many are met."""
    promised = [verdict for verdict in verdicts if not verdict.gate.stretch]
    met, missed = (sum(verdict.met is truth for verdict in promised) for truth in (True, False))
    return f"{met} gates met, {missed} missed, {len(promised) - met - missed} not measured."
