"""``python -m bench``: measures and prints, see the package's docstring."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import build, document, machine, noise, roster, table, write
from bench.gates import summary
from bench.launch import DidNotStart
from bench.load import Unmeasurable
from bench.reports import REPORTS
from bench.roster import Server
from bench.workload import Figures, Plan, Results, Workload
from bench.workloads import WORKLOADS
from bench.workloads.capacity import ceiling

ROUNDS = 3
PROGRAMS = ("client", "sender", "publisher")
CANNOT_KEEP_UP = "The load client cannot keep up even with a server in C: no figure below can be trusted."


def main() -> None:
    """Everything in turn: the machine, the client's ceiling, each workload in rounds, the gates, then the reports."""
    options = _options()
    servers = roster.choose(_names(options.servers))
    workloads = [workload for workload in WORKLOADS if options.only in (None, workload.name)]
    plan = Plan(machine.cores(), options.size, Results())
    if workloads:
        _prepare()
    _print_machine()
    told = _told_of_ceiling(plan) if any(workload.busy for workload in workloads) else None
    for workload in workloads:
        _run(workload, servers, plan=plan, rounds=options.rounds or (ROUNDS if options.size == "full" else 1))
        print(f"\n{table.render(workload, servers, plan.results)}", flush=True)
    if workloads:
        print(f"\n{_gates(workloads, plan.results)}\n\n{noise.summary(plan.results)}", flush=True)
    for report in REPORTS:
        if options.only in (None, report.name):
            report.show(quick=options.size != "full")
    found = document.made(plan, workloads, told)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    if options.write:
        write.into(write.DOCS, [found])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="tidelog and its peers, side by side.")
    parser.add_argument("--size", choices=("full", "quick", "tiny"), default="full", help="how much (default full)")
    parser.add_argument(
        "--quick", action="store_const", const="quick", dest="size", help="a look, not a figure: one round"
    )
    names = [*(workload.name for workload in WORKLOADS), *(report.name for report in REPORTS)]
    parser.add_argument("--only", choices=names, help="one workload or report")
    parser.add_argument("--servers", default="", metavar="A,B", help=f"of: {', '.join(s.name for s in roster.SERVERS)}")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds, of which the median counts (default {ROUNDS}, unless quick)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures of every round, too")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/performance.md")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _prepare() -> None:
    machine.allow_many_sockets()
    for name in PROGRAMS:
        build.binary(name)


def _print_machine() -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    for line in build.drift():
        print(f"versions differ, {line}")


def _told_of_ceiling(plan: Plan) -> str:
    report = ceiling(plan)
    told = CANNOT_KEEP_UP
    if report is not None:
        told = (
            f"Client's ceiling: {report.streams:,} streams from a server in C, p99 {report.p99:.1f} ms, with"
            f" {report.client_cpu:.0%} of the client's core and {report.server_cpu:.0%} of the server's."
        )
    print(told, flush=True)
    return told


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
    with noise.watched(plan.cores.server) as moved:
        figures = workload.measure(server, plan)
    return {**figures, **moved}


def _gates(workloads: Sequence[Workload], results: Results) -> str:
    verdicts = [verdict for workload in workloads for verdict in workload.verdicts(results)]
    return "\n".join([summary(verdicts), *table.aligned(table.gate_rows(workloads, results))])


if __name__ == "__main__":
    main()
