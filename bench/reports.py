"""What is measured beside the servers: each report has a module of its own, which is a command, too, and prints as it goes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple


class Report(NamedTuple):
    """``module.report(quick)`` prints it."""

    name: str
    title: str

    def show(self, *, quick: bool) -> None:
        report: Callable[[bool], None] = import_module(f"bench.{self.name}").report
        print(f"\n{self.title}", flush=True)
        report(quick)


REPORTS = (
    Report("translators", "What a translator adds to its library's own stream, µs of CPU for a chunk (limit 15 %)"),
    Report("overheads", "What an answer costs that nobody would stream"),
    Report("redis_store", "Redis as the store, and npm resumable-stream on the same Redis"),
    Report("documents", "Documents: the index, questions, and the wait for 202"),
)
