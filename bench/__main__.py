"""``python -m bench``: measures and prints, see the package's docstring."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import build, machine, roster, table
from bench.gates import summary
from bench.launch import DidNotStart
from bench.load import Unmeasurable
from bench.reports import REPORTS
from bench.roster import Server
from bench.workload import Figures, Plan, Results, Workload
from bench.workloads import WORKLOADS
from bench.workloads.capacity import ceiling

ROUNDS = 3
SPIN = "spin_ms"
DISTURBED = 5  # % of the server's core


def main() -> None:
    """Everything in turn: the machine, the client's ceiling, each workload in rounds, then the reports."""
    options = _options()
    servers = roster.choose(_names(options.servers))
    workloads = [workload for workload in WORKLOADS if options.only in (None, workload.name)]
    plan = Plan(machine.cores(), options.quick, Results())
    if workloads:
        _prepare(servers)
    _print_machine()
    if any(workload.busy for workload in workloads):
        _print_ceiling(plan)
    for workload in workloads:
        _run(workload, servers, plan=plan, rounds=options.rounds or (1 if options.quick else ROUNDS))
        print(f"\n{table.render(workload, servers, plan.results)}", flush=True)
    if workloads:
        print(f"\n{_gates(workloads, plan.results)}\n\n{_noise(plan.results)}", flush=True)
    for report in REPORTS:
        if options.only in (None, report.name):
            report.show(quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(_document(plan.results), indent=1, ensure_ascii=False) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="tidelog and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="one round, short windows: a look, not a figure")
    names = [*(workload.name for workload in WORKLOADS), *(report.name for report in REPORTS)]
    parser.add_argument("--only", choices=names, help="one workload or report")
    parser.add_argument("--servers", default="", metavar="A,B", help=f"of: {', '.join(s.name for s in roster.SERVERS)}")
    parser.add_argument("--rounds", type=int, help=f"rounds, of which the median counts (default {ROUNDS}; quick: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures of every round, too")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _prepare(servers: Sequence[Server]) -> None:
    machine.allow_many_sockets()
    for name in ("client", "sender", "publisher"):
        build.binary(name)


def _print_machine() -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    for line in build.drift():
        print(f"versions differ, {line}")


def _print_ceiling(plan: Plan) -> None:
    report = ceiling(plan)
    if report is None:
        print("The load client cannot keep up even with a server in C: no figure below can be trusted.", flush=True)
        return
    print(
        f"Client's ceiling: {report.streams:,} streams from a server in C, p99 {report.p99:.1f} ms, with"
        f" {report.client_cpu:.0%} of the client's core and {report.server_cpu:.0%} of the server's.",
        flush=True,
    )


def _run(workload: Workload, servers: Sequence[Server], *, plan: Plan, rounds: int) -> None:
    for number in range(1, rounds + 1):
        for server in workload.servers(servers):
            key = workload.name, server.name
            if key in plan.results.errors:
                continue
            print(f"bench: {workload.name} {number}/{rounds} {server.name}", file=sys.stderr, flush=True)
            try:
                figures = _one_round(workload, server, plan)
            except (DidNotStart, Unmeasurable) as error:
                plan.results.errors[key] = str(error)
            else:
                plan.results.rounds.setdefault(key, []).append(figures)


def _one_round(workload: Workload, server: Server, plan: Plan) -> Figures:
    spin = machine.spin_ms(plan.cores.server)
    return {**workload.measure(server, plan), SPIN: spin}


def _gates(workloads: Sequence[Workload], results: Results) -> str:
    verdicts = [verdict for workload in workloads for verdict in workload.verdicts(results)]
    return "\n".join([summary(verdicts), *table.aligned(table.gate_rows(workloads, results))])


def _noise(results: Results) -> str:
    every = [figures for rounds in results.rounds.values() for figures in rounds]
    if not every:
        return "Nothing was measured."
    spins = sorted(figures[SPIN] for figures in every)
    least, middle, most = spins[0], spins[len(spins) // 2], spins[-1]
    disturbed = sum(figures.get("foreign", 0) > DISTURBED for figures in every)
    return (
        f"Noise: a fixed spin before each measurement took {least:.1f} ms at best, {middle / least:.2f} × that at the"
        f" median, {most / least:.2f} × at worst. In {disturbed} of {len(every)} measurements others took more than"
        f" {DISTURBED} % of the server's core{': run it again on a quiet machine.' if disturbed else '.'}"
    )


def _document(results: Results) -> dict[str, Any]:
    measured: dict[str, dict[str, Any]] = {}
    for (workload, server), rounds in results.rounds.items():
        measured.setdefault(workload, {})[server] = {"rounds": rounds}
    for (workload, server), error in results.errors.items():
        measured.setdefault(workload, {}).setdefault(server, {})["error"] = error
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.describe(),
        "workloads": measured,
    }


if __name__ == "__main__":
    main()
