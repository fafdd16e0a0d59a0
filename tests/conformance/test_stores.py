"""The stores that come with tidelog, against the suite that every store must pass."""

from __future__ import annotations

from pathlib import Path

from tidelog.seams import Store
from tidelog.stores.memory import MemoryStore
from tidelog.stores.sqlite import SqliteStore
from tidelog.testing.conformance import SharedStoreConformance, StoreConformance


class TestMemory(StoreConformance):
    def make(self, where: Path, *, beat: float | None = None) -> Store:
        return MemoryStore()


class TestSqlite(SharedStoreConformance):
    def make(self, where: Path, *, beat: float | None = None) -> Store:
        return SqliteStore(f"sqlite:///{where}/logs.db" + (f"?beat={beat}" if beat else ""))
