"""Results as text: one table for each workload, every ratio against the baseline, and one of the gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.gates import Verdict
from bench.roster import BASELINE, SERVERS, Server
from bench.workload import Column, Figures, Results, Workload

_NONE = "–"


def render(workload: Workload, servers: Sequence[Server], results: Results) -> str:
    """The table of a workload; rows without figures say why below it."""
    reasons = [
        _reason(server, results.errors.get((workload.name, server.name))) for server in workload.servers(servers)
    ]
    return "\n".join([workload.title, *aligned(rows_of(workload, servers, results)), *filter(None, reasons)])


def rows_of(workload: Workload, servers: Sequence[Server], results: Results) -> list[list[str]]:
    """The cells, with a row of headings; columns in which nobody has a figure are left out."""
    rows = [["", *_headings(workload)]]
    measured = (server for server in workload.servers(servers) if results.of(workload.name, server.name))
    rows += [[server.title, *_cells(workload, server, results)] for server in measured]
    kept = [at for at in range(len(rows[0])) if at == 0 or any(row[at] != _NONE for row in rows[1:])]
    return [[row[at] for at in kept] for row in rows]


def gate_rows(workloads: Sequence[Workload], results: Results) -> list[list[str]]:
    """What was promised, what was measured, and whether it was met."""
    rows = [["workload", "server", "figure", "gate", "measured", ""]]
    for workload in workloads:
        headings = {column.key: column.heading for column in workload.columns}
        titles = {server.name: server.title for server in (*SERVERS, *workload.rows)}
        for verdict in workload.verdicts(results):
            rows.append([workload.name, titles[verdict.gate.server], *_gate_cells(verdict, headings)])
    return rows


def _gate_cells(verdict: Verdict, headings: Mapping[str, str]) -> Iterable[str]:
    gate, measured = verdict.gate, verdict.measured
    yield headings[gate.key]
    yield gate.wanted + (" (stretch)" if gate.stretch else "")
    yield _NONE if measured is None else f"{measured:,.2f}"
    yield verdict.word


def _headings(workload: Workload) -> Iterable[str]:
    for column in workload.columns:
        yield column.heading
        if column.against:
            yield f"× {BASELINE}"


def _cells(workload: Workload, server: Server, results: Results) -> Iterable[str]:
    rounds = results.of(workload.name, server.name)
    for column in workload.columns:
        yield _figure(column, rounds)
        if column.against:
            ratio = _ratio(workload, server, column, results)
            yield _NONE if ratio is None else f"{ratio:.2f}"


def _figure(column: Column, rounds: Sequence[Figures]) -> str:
    values = [figures[column.key] for figures in rounds if column.key in figures]
    if not values:
        return _NONE
    middle = max(values) if column.worst else median(values)
    text = f"{middle:,.{column.digits}f}"
    if column.spread and len(values) > 1:
        text += f" ({min(values):,.{column.digits}f} to {max(values):,.{column.digits}f})"
    return text


def _ratio(workload: Workload, server: Server, column: Column, results: Results) -> float | None:
    base = results.median(workload.name, BASELINE, column.against or column.key)
    own = results.median(workload.name, server.name, column.key)
    return own / base if own is not None and base else None


def _reason(server: Server, error: str | None) -> str | None:
    return f"  {server.title}: {error.splitlines()[-1]}" if error else None


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lines of text, the first column to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *rest]).rstrip()
