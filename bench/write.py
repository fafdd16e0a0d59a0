"""Puts measured figures into docs/performance.md: ``python -m bench.write results.json [more.json ...]``.

Of a workload that several documents have, the last one counts. Nothing else writes there: figures that are to be read by
others come from a quiet machine, and somebody looks at them first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import document, plot, table
from bench.roster import SERVERS
from bench.workload import Results, Workload
from bench.workloads import WORKLOADS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def main() -> None:
    """Reads the documents, writes the page and its pictures."""
    parser = argparse.ArgumentParser(prog="python -m bench.write", description=__doc__)
    parser.add_argument("documents", type=Path, nargs="+", metavar="FILE", help="what --json wrote")
    into(DOCS, [json.loads(file.read_text()) for file in parser.parse_args().documents])


def into(docs: Path, documents: Sequence[dict[str, Any]]) -> None:
    """The page in ``docs`` shows these figures. Raises ``ValueError`` where its two marks are not there, once each."""
    page = docs / PAGE
    text = between(page.read_text(), "\n".join(_sections(docs, documents)))
    page.write_text(text)


def between(page: str, figures: str) -> str:
    """The page with new figures between its marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"{PAGE} needs {BEGIN} and {END}, once each.")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{figures}\n{END}{tail}"


def _sections(docs: Path, documents: Sequence[dict[str, Any]]) -> Iterator[str]:
    owner = {name: one for one in documents for name in one["workloads"]}
    shown = [workload for workload in WORKLOADS if workload.name in owner]
    for one in documents:
        if names := [workload.name for workload in shown if owner[workload.name] is one]:
            yield _told(one, names) + "\n"
    merged = Results()
    for workload in shown:
        results = document.results_of(owner[workload.name])
        merged.rounds |= {key: value for key, value in results.rounds.items() if key[0] == workload.name}
        yield from _section(docs, workload, results)
    yield "### Gates\n"
    yield _markdown(table.gate_rows(shown, merged)) + "\n"


def _told(one: dict[str, Any], names: Sequence[str]) -> str:
    machine = one["machine"]
    told = f" {one['ceiling']}" if one["ceiling"] else ""
    size = "" if one["size"] == "full" else f" Sizes were {one['size']}: a look, no figures."
    return (
        f"Measured {one['at'][:10]} ({', '.join(names)}) on {machine['cores']} cores of {machine['cpu']}, Linux"
        f" {machine['kernel']}, Python {machine['python']}.{size}{told} {one['noise']}"
    )


def _section(docs: Path, workload: Workload, results: Results) -> Iterator[str]:
    yield f"### {workload.title}\n"
    if picture := _picture(workload, results):
        name = f"bench-{workload.name}.svg"
        (docs / "images").mkdir(exist_ok=True)
        (docs / "images" / name).write_text(picture)
        yield f"![{workload.title}](images/{name})\n"
    yield _markdown(table.rows_of(workload, SERVERS, results)) + "\n"
    for server in workload.servers(SERVERS):
        if error := results.errors.get((workload.name, server.name)):
            yield f"{server.title}: {error.splitlines()[-1]}\n"


def _picture(workload: Workload, results: Results) -> str | None:
    column = workload.plotted
    found = [
        plot.Bar(server.title, median(values), own=server.name.startswith("tidelog"))
        for server in workload.servers(SERVERS)
        if (values := results.values(workload.name, server.name, column.key))
    ]
    return plot.bars(f"{workload.title}: {column.heading}", found, digits=column.digits) if len(found) > 1 else None


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
