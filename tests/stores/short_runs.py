"""Runs short runs in a process of its own, deletes them, and tells what is left: `python -m tests.stores.short_runs URL RUNS`.

It says so in a line of JSON after the first few, so that what stays once is there, and at the end. After each it waits for a
line, so that whoever asked can look at Redis.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tidelog import Tidelog, threads
from tidelog.stores.redis import flow

AT_ONCE: Final = 32
WARM: Final = 200
"""Runs before the first line."""
LINGER: Final = 0.5
"""Seconds for which the end of a log stays in memory: less than else, so that nobody waits for it."""


async def source() -> AsyncIterator[str]:
    yield "short "
    yield "and sweet"


async def short(tide: Tidelog, runs: int) -> None:
    """So many, one after the other."""
    for _ in range(runs):
        run = await tide.start(source)
        assert await run.wait() == "completed"
        await tide.runner.drop(run.id)
        await threads.drop(tide.runner.store, run.thread, None)


async def many(tide: Tidelog, runs: int) -> None:
    await asyncio.gather(*(short(tide, runs // AT_ONCE) for _ in range(AT_ONCE)))


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def tell(tide: Tidelog, runs: int) -> None:
    """Do so many, and tell what is left; return once somebody has seen it."""
    begun = time.monotonic()
    await many(tide, runs)
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


async def main(url: str, runs: int) -> None:
    flow.LINGER = LINGER  # type: ignore[misc]
    tide = Tidelog(url)
    await tell(tide, WARM)
    await tell(tide, runs)
    await tide.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
