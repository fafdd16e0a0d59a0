"""tidelog on SQLite, with every commit's time written down: eight bytes a commit, into a file of this process."""

from __future__ import annotations

import os
import struct
import time

import apsw

from bench.servers.tide import app
from tidelog.stores.sqlite.commit import Commit

__all__ = ["app"]

_file = os.open(os.path.join(os.environ["BENCH_COMMITS"], f"commits.{os.getpid()}"), os.O_WRONLY | os.O_CREAT)
_execute = Commit.execute


def _timed(self: Commit, connection: apsw.Connection, owner: str) -> None:
    began = time.perf_counter()
    _execute(self, connection, owner)
    os.write(_file, struct.pack("d", time.perf_counter() - began))


Commit.execute = _timed  # type: ignore[method-assign]
