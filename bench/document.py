"""What a run of the bench found, as JSON and back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from bench import machine, noise
from bench.gates import Verdict
from bench.workload import Plan, Results, Workload


def made(plan: Plan, workloads: Sequence[Workload], ceiling: str | None) -> dict[str, Any]:
    """Every figure of every round, why a row has none, and the gates."""
    measured: dict[str, dict[str, Any]] = {}
    for (workload, server), rounds in plan.results.rounds.items():
        measured.setdefault(workload, {})[server] = {"rounds": rounds}
    for (workload, server), error in plan.results.errors.items():
        measured.setdefault(workload, {}).setdefault(server, {})["error"] = error
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "size": plan.size,
        "machine": machine.describe(),
        "ceiling": ceiling,
        "noise": noise.summary(plan.results),
        "workloads": measured,
        "gates": {workload.name: [_gate(one) for one in workload.verdicts(plan.results)] for workload in workloads},
    }


def results_of(document: dict[str, Any]) -> Results:
    """The figures of a document again."""
    results = Results()
    for workload, servers in document["workloads"].items():
        for server, found in servers.items():
            if "rounds" in found:
                results.rounds[workload, server] = found["rounds"]
            if "error" in found:
                results.errors[workload, server] = found["error"]
    return results


def _gate(verdict: Verdict) -> dict[str, Any]:
    gate = verdict.gate
    return {
        "server": gate.server,
        "figure": gate.key,
        "gate": gate.wanted,
        "stretch": gate.stretch,
        "measured": verdict.measured,
        "met": verdict.met,
    }
