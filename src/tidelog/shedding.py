"""What a process does about its memory: takes no runs, and ends the heaviest."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence

from tidelog.admission import Admission
from tidelog.memory import CHECK_EVERY, SHED, MemoryWatch
from tidelog.run import Run

log = logging.getLogger("tidelog")


async def shed(memory: MemoryWatch, admission: Admission, runs: Callable[[], Sequence[Run]]) -> None:
    """For ever: refuse runs, and end the heaviest of `runs`, by what memory is left."""
    while True:
        verdict = memory.look()
        admission.short_of_memory = verdict != "ease"
        if verdict == "shed":
            heaviest = sorted(runs(), key=_weight, reverse=True)
            for run in heaviest[: math.ceil(len(heaviest) * SHED)]:
                log.error("run %s: ended as one of the heaviest, because memory is short", run.id)
                run.shed(admission.runs.retry_after())
        await asyncio.sleep(CHECK_EVERY)


def _weight(run: Run) -> tuple[int, int]:
    """What a run holds of memory, to compare it with others: bytes that wait for the store, then all that it wrote."""
    return run.writer.pending_bytes, run.writer.bytes
