"""The conformance suite of stores: subclass it in a test module, say how to make a store, and pytest runs the body.

    class TestMine(StoreConformance):
        def make(self, where: Path, *, beat: float | None = None) -> Store:
            return MyStore(where / "logs")

`SharedStoreConformance` is for stores that several processes open: two stores made with the same `where` share their logs.
It needs pytest and anyio. Tests of abilities that a store does not have (`Listing`, `Expiring`) are skipped.
"""

from tidelog.testing.conformance.reading import Ear, eventually, records, rung, whole
from tidelog.testing.conformance.shared import SharedStoreConformance
from tidelog.testing.conformance.store import StoreConformance

__all__ = ["Ear", "SharedStoreConformance", "StoreConformance", "eventually", "records", "rung", "whole"]
