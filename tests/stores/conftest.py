"""What the tests of the stores share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidelog.stores.sqlite import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A SQLite store of the owner `one`, in `logs.db`."""
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await store.start("one")
    yield store
    await store.aclose()
