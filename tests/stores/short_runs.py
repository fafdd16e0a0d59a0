"""Runs short runs in a process of its own and tells what is left: `python -m tests.stores.short_runs URL RUNS [keep]`.

They are deleted, unless they are to be kept. It says so in a line of JSON after the first few, so that what stays once is there,
after a tenth and at the end. After each it waits for a line, so that whoever asked can look at the store.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tidelog import Tidelog, threads
from tidelog.stores.redis import flow
from tidelog.stores.sqlite import SqliteStore, journal, reading
from tidelog.stores.sqlite.writer import READERS

AT_ONCE: Final = 32
WARM: Final = 200
"""Runs before the first line."""
LINGER: Final = 0.5
"""Seconds for which the end of a log stays in memory: less than else, so that nobody waits for it."""


async def source() -> AsyncIterator[str]:
    yield "short "
    yield "and sweet"


async def short(tide: Tidelog, runs: int, *, keep: bool) -> None:
    """So many, one after the other."""
    for _ in range(runs):
        run = await tide.start(source)
        assert await run.wait() == "completed"
        if keep:
            continue
        await tide.runner.drop(run.id)
        await threads.drop(tide.runner.store, run.thread, None)


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def tell(tide: Tidelog, runs: int, *, keep: bool) -> None:
    """Do so many, and tell what is left; return once somebody has seen it."""
    begun = time.monotonic()
    await asyncio.gather(*(short(tide, runs // AT_ONCE, keep=keep) for _ in range(AT_ONCE)))
    print(await level(runs, begun), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def level(runs: int, begun: float) -> str:
    """What this process holds once ended logs have been let go of."""
    seconds = time.monotonic() - begun
    await asyncio.sleep(LINGER + 1.0)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found = {
        "runs": runs, "seconds": round(seconds, 1), "cpu": round(time.process_time(), 1), "tasks": len(asyncio.all_tasks()),
        "objects": len(gc.get_objects()), "open": len(os.listdir("/proc/self/fd")), "resident_kib": resident_kib(),
    }  # fmt: skip
    return json.dumps(found)


async def read_by_all(store: object) -> None:
    """Each thread of SQLite's that reads opens its files when it first does: all of them do, at the same time."""
    if isinstance(store, SqliteStore):
        together = threading.Barrier(READERS)
        await asyncio.gather(*(store._readers.read(_read, together) for _ in range(READERS)))


def _read(execute: reading.Execute, together: threading.Barrier) -> None:
    reading.owners(execute)
    together.wait()


async def main(url: str, runs: int, *, keep: bool) -> None:
    flow.LINGER = journal.LINGER = LINGER  # type: ignore[misc]
    tide = Tidelog(url)
    await tell(tide, WARM, keep=keep)
    await read_by_all(tide.runner.store)
    for part in (runs // 10, runs - runs // 10):
        await tell(tide, part, keep=keep)
    await tide.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), keep=sys.argv[3:] == ["keep"]))
