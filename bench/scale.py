"""``python -m bench.scale``: what live runs cost on Redis, whether a simulation foretells it, and what a million of them need.

Processes of `tidelog serve` are measured with their viewers and a Redis on this machine. The costs of an event are fitted to one
process under several loads; the simulation is then checked against one, two and three; then it is asked for more than fits here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench import machine
from bench.scaling import measured
from bench.scaling.measured import Load, Sample
from bench.scaling.report import FAR, LASTS, SHARE, Figures, Needs, cell, fitted, needs
from bench.scaling.simulation import Costs, Plan, simulate

FITTED: Final = ((25, 10.0), (50, 10.0), (50, 20.0), (100, 10.0), (100, 20.0))
"""Streams and events a second of each, in one process."""
CHECKED: Final = (60, 15.0)
"""The same, in each of one, two and three processes."""
ASKED: Final = ((1_000, 20.0), (10_000, 20.0), (100_000, 20.0), (1_000_000, 20.0), (1_000_000, 5.0))
"""Live runs, and events a second of each."""
RATES: Final = (20.0, 5.0)


def main() -> None:
    options = _options()
    machine.allow_many_sockets()
    window = 3.0 if options.quick else 8.0
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()), flush=True)
    base, samples, figures = _measure(window)
    costs = fitted(samples, base)
    _print_costs(costs, figures)
    checked = [_check(number, base, costs, window) for number in (1, 2, 3)]
    _print_table("Checked: a share of a core, measured and foretold", checked)
    asked = [_asked(needs(runs, rate, costs, figures), figures) for runs, rate in ASKED]
    _print_table(
        f"Asked: threads below {SHARE:.0%} of a core; runs of {LASTS:.0f} s, {FAR:.0%} of viewers elsewhere", asked
    )
    cells = [_asked(cell(rate, costs, figures), figures) for rate in RATES]
    _print_table("The most that one Redis carries, with processes of its own", cells)
    if options.json:
        found = {"costs": asdict(costs), "figures": asdict(figures), "checked": checked, "asked": asked, "cells": cells}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short windows: a look, not a figure")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _measure(window: float) -> tuple[Sample, list[Sample], Figures]:
    with measured.fleet(1) as one:
        measured.steady(one, Load(20, 20.0, 2.0))  # code is warm
        base = measured.steady(one, Load(50, 0.0, window))
        samples = [measured.steady(one, Load(streams, rate, window)) for streams, rate in FITTED]
        start_process, start_redis, start_operations = measured.starts(one, 400)
        run_bytes, stored_bytes = measured.idle(one, 300)
    with measured.fleet(2) as two:
        far_process, far_redis, _ = measured.far(two, Load(30, 10.0, window))
    events = sum(each.events for each in samples)

    def each_event(name: str) -> float:
        return sum(getattr(one, name) - getattr(base, name) for one in samples) / events

    return base, samples, Figures(
        start_process, start_redis, far_process, far_redis, run_bytes, stored_bytes, each_event("bytes_in"),
        each_event("bytes_out"), samples[-1].viewer_bytes, each_event("operations"), start_operations,
    )  # fmt: skip


def _check(processes: int, base: Sample, costs: Costs, window: float) -> dict[str, Any]:
    streams, rate = CHECKED
    with measured.fleet(processes) as found:
        measured.steady(found, Load(20, 20.0, 2.0))
        seen = measured.steady(found, Load(streams, rate, window))
    told = simulate(Plan(processes, processes * streams, rate, cores=2, seconds=4.0, waits=seen.waits), costs)
    process, redis = told.process_share + base.process_share, told.shard_share + base.redis_share * processes
    return {
        "processes": processes,
        "events/s": round(seen.events),
        "process": _percent(seen.process_share),
        "foretold": _percent(process),
        "error": _error(process, seen.process_share),
        "Redis": _percent(seen.redis_share),
        "foretold ": _percent(redis),
        "error ": _error(redis, seen.redis_share),
        "pieces/s": round(seen.reads),
        "foretold  ": round(told.pieces + base.reads * processes),
        "p50 ms": round(seen.p50 * 1e3, 1),
        "foretold   ": round(told.p50 * 1e3, 1),
        "waits, mean ms": round(sum(seen.waits) / len(seen.waits) * 1e3, 1),
    }


def _asked(found: Needs, figures: Figures) -> dict[str, Any]:
    runs, per_second = found.runs, found.runs * found.rate
    return {
        "live runs": f"{runs:,}",
        "events/s each": found.rate,
        "processes": f"{found.processes:,}",
        "shards": f"{found.shards:,}",
        "process": _percent(found.seen.process_share),
        "shard": _percent(found.seen.shard_share),
        "events a piece": round(found.seen.events / max(1.0, found.seen.pieces), 1),
        "p99 ms": round(found.seen.p99 * 1e3, 1),
        "GiB processes": round(runs * figures.run_bytes / 2**30, 1),
        "GiB Redis, live": round(runs * figures.stored_bytes / 2**30, 1),
        "to Redis Gbit/s": round(per_second * figures.event_bytes_in * 8e-9, 2),
        "to viewers Gbit/s": round(per_second * figures.viewer_bytes * 8e-9, 2),
        "connections a shard": f"{found.connections_a_shard:,}",
    }


def _print_costs(costs: Costs, figures: Figures) -> None:
    rows = [
        ("an event, in its process", f"{costs.event * 1e6:.1f} µs"),
        ("a piece of a flush, in its process", f"{costs.piece * 1e6:.1f} µs"),
        ("an event, in Redis", f"{costs.record * 1e6:.1f} µs"),
        ("a piece of a flush, in Redis", f"{costs.batch * 1e6:.1f} µs"),
        ("a loop gathers for", f"{costs.gather * 1e3:.2f} ms"),
        ("a start and an end, in their process", f"{figures.start_process * 1e3:.2f} ms"),
        ("a start and an end, in Redis", f"{figures.start_redis * 1e3:.2f} ms, {figures.start_operations:.0f} operations"),
        ("an event at a viewer in another process, there", f"{figures.far_process * 1e6:.1f} µs"),
        ("the same, in Redis", f"{figures.far_redis * 1e6:.1f} µs"),
        ("a live run with a viewer, in its process", f"{figures.run_bytes / 1024:.1f} KiB"),
        ("a live run, in Redis", f"{figures.stored_bytes / 1024:.1f} KiB"),
        ("Redis operations an event", f"{figures.operations:.1f}"),
        ("bytes an event, to and from Redis", f"{figures.event_bytes_in:.0f} and {figures.event_bytes_out:.0f}"),
        ("bytes an event, to its viewer", f"{figures.viewer_bytes:.0f}"),
    ]  # fmt: skip
    print("\n| measured | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows), flush=True)


def _print_table(title: str, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    lines = ["| " + " | ".join(name.strip() for name in rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    print(f"\n{title}\n\n" + "\n".join(lines), flush=True)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _error(told: float, seen: float) -> str:
    return f"{told / seen - 1:+.0%}"


if __name__ == "__main__":
    main()
