"""Processes behind nginx and workers are killed at random, and so is Redis: nothing is lost or doubled, runs end, every viewer
finishes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbered
from pathlib import Path

import pytest
from redis import Redis
from tests.conftest import SOAK, count
from tests.integration.browser import Browser, Question
from tests.integration.crowd import check_kept, quantiles, state, until
from tests.integration.fleet import Fleet, fleet
from tests.redis_server import ON_DISK, RedisServer, redis_server

EVERY = count(1, 2)
"""Seconds between two kills."""
PAUSE = 0.2 if SOAK else 0.05
"""Seconds between two records of a run."""

FINISH = 120.0
"""Seconds in which every viewer has seen the end of its run, once there is no more trouble."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(*ON_DISK) as found:
        yield found


Trouble = Callable[[], None]
PLACES = ("/numbers", "/numbers", "/numbers", "/numbers", "/worker/numbers", "/worker/numbers/again")
"""A third of all questions is for workers, and half of these are begun again when theirs dies."""


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_processes_are_killed(tmp_path: Path, redis: RedisServer) -> None:
    dice = random.Random(5)  # a worker is first
    with fleet(tmp_path, redis) as found:
        check(found, redis, lambda: found.kill_every(EVERY, count(2, 60), dice))
        assert found.kills >= count(1, 50)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_redis_is_restarted_and_frozen_too(tmp_path: Path, redis: RedisServer) -> None:
    """It has its file, so that it forgets nothing."""
    dice, pause = random.Random(6), count(1, 10)

    def trouble() -> None:
        for _ in range(2):
            time.sleep(pause)
            redis.kill()
            redis.start()
        time.sleep(pause)
        redis.pause()
        time.sleep(count(1, 10))
        redis.go_on()
        time.sleep(pause)

    with fleet(tmp_path, redis) as found, ThreadPoolExecutor(1) as other:
        killing = other.submit(found.kill_every, EVERY, count(1, 25), dice)
        check(found, redis, trouble, killing.result)


def check(found: Fleet, redis: RedisServer, *troubles: Trouble) -> None:
    """Watch runs through all troubles, then until they have ended; nobody may have noticed more than a pause."""
    begun = time.monotonic()
    browsers = asyncio.run(watched(found, count(12, 300), troubles))
    asked = [question for browser in browsers for question in browser.asked]
    runs = ended(redis)
    assert runs >= {question.run for question in asked if question.run}
    places = {question.run: question.url.partition("?")[0] for question in asked}
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    with ThreadPoolExecutor(4) as pool:
        for run, of, outcome in pool.map(lambda run: judged(found, run), runs):
            outcomes["successor" if of else places.get(run, "never seen")][outcome] += 1
        list(pool.map(lambda question: seen(found, question), asked))
    assert len(runs) == len(asked) + outcomes["successor"].total(), "one key, one run"
    away = [seconds for browser in browsers for seconds in browser.away] or [0.0]
    refused = sum(browser.refused for browser in browsers)
    print(
        f"{len(browsers)} viewers for {time.monotonic() - begun:.0f} s, {len(runs)} runs {told(outcomes)}, {found.kills} kills,"
        f" {found.failed_starts} failed starts; {refused} refusals, away {quantiles(away)}"
    )
    assert not sum(browser.without_store for browser in browsers), "who starts, or comes back, waits for the store"
    assert sum(outcomes.values(), Counter()).keys() <= {"completed", "interrupted"}
    assert all(outcomes[place] for place in PLACES)


def judged(found: Fleet, run: str) -> tuple[str, str | None, str]:
    """The run, which one it took the place of, and how it ended; what is stored of it is what was produced."""
    return run, state(found.url, run)["of"], check_kept(found.folder, found.url, run)


def told(outcomes: dict[str, Counter[str]]) -> str:
    return "; ".join(f"{place} {dict(counts)}" for place, counts in sorted(outcomes.items()))


def ended(redis: RedisServer) -> set[str]:
    """All runs that Redis knows, once all have ended."""
    with Redis(port=redis.port) as client:
        found = [key.decode() for key in client.scan_iter(match="*:run:*:meta", count=1000)]
        until(lambda: {client.hget(key, "ended") for key in found} <= {b"1"})
    return {key.split(":run:")[1].removesuffix(":meta") for key in found}


async def watched(found: Fleet, many: int, troubles: tuple[Trouble, ...]) -> list[Browser]:
    """Viewers that ask one question after the other, while there is trouble."""
    leave, dice, numbers = asyncio.Event(), random.Random(3), numbered()

    def ask() -> str:
        return f"{dice.choice(PLACES)}?to={dice.randrange(20, 60)}&pause={PAUSE}&merge=0&key=q{next(numbers)}"

    async with asyncio.TaskGroup() as group:
        browsers = [Browser(int(found.url.rpartition(":")[2]), leave, ask) for _ in range(many)]
        watching = [group.create_task(browser.watch()) for browser in browsers]
        await asyncio.gather(*(browser.here.wait() for browser in browsers))
        await asyncio.gather(*(asyncio.to_thread(trouble) for trouble in troubles))
        leave.set()
        _, waiting = await asyncio.wait(watching, timeout=FINISH)
        for task in waiting:
            task.cancel()
    unended = [browser.asked[-1] for browser in browsers if not browser.asked[-1].outcome]
    assert not unended, "\n".join(
        f"{one.url} {len(one.frames)} {one.status} {one.refusal!r} {state(found.url, one.run) if one.run else ''}"
        for one in unended
    )
    return browsers


def seen(found: Fleet, question: Question) -> None:
    """The viewer has had each record once, and the end as it is stored."""
    told = [frame.json for frame in question.frames]
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1)), question
    assert [event["type"] for event in told].count("run.ended") == (1 if told else 0), question
    if question.run:
        assert question.outcome == state(found.url, question.run)["outcome"]
    else:  # it had ended before anybody had seen anything of it: that is told in a status, without its id
        assert (question.outcome, told) == ("interrupted", [])
