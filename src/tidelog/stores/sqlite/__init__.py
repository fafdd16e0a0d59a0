"""`sqlite:`: logs in one file, through a journal of segments (docs: `store.py`)."""

from __future__ import annotations

from tidelog.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
