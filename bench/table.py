"""Results as text: one table for each workload, every ratio against the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from bench.roster import BASELINE, Server
from bench.workload import Column, Figures, Results, Workload

_NONE = "–"


def render(workload: Workload, servers: Sequence[Server], results: Results) -> str:
    """The table of a workload; rows without figures say why below it."""
    rows = [["", *_headings(workload)]]
    rows += [[server.title, *_cells(workload, server, results)] for server in servers]
    reasons = [_reason(server, results.errors.get((workload.name, server.name))) for server in servers]
    return "\n".join([workload.title, *_aligned(rows), *filter(None, reasons)])


def _headings(workload: Workload) -> Iterable[str]:
    for column in workload.columns:
        yield column.heading
        if column.against:
            yield f"× {BASELINE}"
            if column is _judged(workload):
                yield "target"


def _cells(workload: Workload, server: Server, results: Results) -> Iterable[str]:
    rounds = results.of(workload.name, server.name)
    for column in workload.columns:
        yield _figure(column, rounds)
        if column.against:
            ratio = _ratio(workload, server, column, results)
            yield _NONE if ratio is None else f"{ratio:.2f}"
            if column is _judged(workload):
                yield _verdict(workload, server, ratio)


def _judged(workload: Workload) -> Column | None:
    columns = (column for column in workload.columns if column.against)
    return next(columns, None) if workload.targets else None


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


def _verdict(workload: Workload, server: Server, ratio: float | None) -> str:
    if server.name not in workload.targets:
        return ""
    sign, bound = workload.targets[server.name]
    if ratio is None:
        return f"{sign} {bound:g}"
    met = ratio <= bound if sign == "≤" else ratio >= bound
    return f"{sign} {bound:g} {'met' if met else 'MISSED'}"


def _reason(server: Server, error: str | None) -> str | None:
    return f"  {server.title}: {error.splitlines()[-1]}" if error else None


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *rest]).rstrip()
