"""How much the machine moved while it was measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import machine
from bench.workload import Figures, Results

BEFORE, AFTER, STOLEN = "spin_ms", "spin_after_ms", "stolen"
FOREIGN, CLIENT = "foreign", "client"  # figures of most workloads, % of a core
DISTURBED = 5.0  # % of the server's core
FULL = 85.0  # % of the client's core, above which its own limit is what is measured


@contextmanager
def watched(core: int) -> Iterator[dict[str, float]]:
    """A fixed piece of work before and after, in ms, and what the host took from the core between, in %; there at the end."""
    found = {BEFORE: machine.spin_ms(core)}
    stolen, began = machine.core_stolen_ns(core), time.monotonic_ns()
    yield found
    found[STOLEN] = 100 * (machine.core_stolen_ns(core) - stolen) / (time.monotonic_ns() - began)
    found[AFTER] = machine.spin_ms(core)


def summary(results: Results) -> str:
    """A paragraph for the end of a run."""
    every = [figures for rounds in results.rounds.values() for figures in rounds]
    if not every:
        return "Nothing was measured."
    spins = sorted(figures[key] for figures in every for key in (BEFORE, AFTER) if key in figures)
    least, middle, most = spins[0], spins[len(spins) // 2], spins[-1]
    return " ".join(
        [
            f"Noise: a fixed spin before and after each measurement took {least:.1f} ms at best, {middle / least:.2f} × that"
            f" at the median, {most / least:.2f} × at worst. The host took up to {max(_all(every, STOLEN), default=0):.1f} %"
            " of the server's core.",
            *_disturbances(_all(every, FOREIGN)),
            *_crowded_client(_all(every, CLIENT)),
        ]
    )


def _disturbances(foreign: list[float]) -> Iterator[str]:
    if not foreign:
        return
    above = sum(share > DISTURBED for share in foreign)
    yield f"In {above} of {len(foreign)} measurements others took more than {DISTURBED:.0f} % of it."
    if above:
        yield "Run it again on a quiet machine."


def _crowded_client(client: list[float]) -> Iterator[str]:
    if above := sum(share > FULL for share in client):
        yield (
            f"In {above} of {len(client)} measurements the client was busy for more than {FULL:.0f} % of its own core:"
            " latency and counts there are the client's."
        )


def _all(every: list[Figures], key: str) -> list[float]:
    return [figures[key] for figures in every if key in figures]
