"""Three processes behind a proxy are replaced one by one while runs live: nobody loses a word, everybody is back soon."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest
from tests.conftest import count
from tests.integration.browser import Browser
from tests.integration.crowd import check_kept, crowd, quantiles, start
from tests.integration.proxy import round_robin

from tidelog.testing import Process

NOISE = 3.0
"""Seconds that a busy machine may add to a promise, in a sample that runs beside others."""
PROCESSES: Final = 3
DRAIN: Final = 1.0


@pytest.mark.soak
def test_rolling_restart(tmp_path: Path) -> None:
    many = count(24, 200)
    with crowd(tmp_path, PROCESSES, env={"APP_DRAIN_TIMEOUT": str(DRAIN)}) as processes:
        browsers = asyncio.run(rolled(tmp_path, processes, many))
        asked = [question for browser in browsers for question in browser.asked]
        outcomes = [check_kept(tmp_path, processes[0].url, question.run) for question in asked]
    for question in asked:
        seen = [frame.json["seq"] for frame in question.frames]
        assert seen == list(range(1, len(seen) + 1)), "whole, and each record once"
    away = [seconds for browser in browsers for seconds in browser.away]
    print(f"{many} viewers, {len(asked)} runs, {outcomes.count('interrupted')} interrupted; away {quantiles(away)}")
    assert set(outcomes) <= {"completed", "interrupted"}
    assert len(away) >= many, "everybody was sent away at least once"
    assert not any(browser.refused for browser in browsers)
    assert max(away) < 5.0 + count(NOISE, 0)


async def rolled(folder: Path, processes: list[Process], many: int) -> list[Browser]:
    """Watch runs while every process is replaced, the next when the viewers are back, then until all that live have ended."""
    ports = [int(process.url.rpartition(":")[2]) for process in processes]
    leave = asyncio.Event()
    async with round_robin(ports) as port, asyncio.TaskGroup() as group:
        dice = random.Random(8)
        browsers = [
            Browser(port, leave, lambda: f"/numbers?to={dice.randrange(20, 60)}&pause=0.1&merge=0") for _ in range(many)
        ]
        watching = [group.create_task(browser.watch()) for browser in browsers]
        await asyncio.gather(*(browser.here.wait() for browser in browsers))
        for number, port in enumerate(ports):
            processes[number].terminate()
            await asyncio.to_thread(processes[number].wait, DRAIN + 2.0 + NOISE)
            processes[number].__exit__(None, None, None)
            env = {"APP_DRAIN_TIMEOUT": str(DRAIN)}
            processes[number] = await asyncio.to_thread(start, folder, port=port, env=env)
            await asyncio.gather(*(browser.here.wait() for browser in browsers))
        leave.set()
        await asyncio.wait(watching)
    return browsers
