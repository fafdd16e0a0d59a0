"""Stores that outlive the processes that use them, one of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.redis_server import redis_server

LASTING: Final = ("sqlite", "redis")


@contextmanager
def lasting(kind: str, folder: Path, *, beat: float) -> Iterator[str]:
    """The URL of a new store of this kind, whose leases beat so often."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/logs.db?beat={beat}"
    else:
        with redis_server() as found:
            yield f"{found.url}?beat={beat}"
