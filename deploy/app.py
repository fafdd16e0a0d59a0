"""What deploy/ serves until you put your own application there: the web processes and the workers import the same file."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from tidelog import Tidelog

STORE = os.environ["TIDELOG_STORE"]
ALIVE = Path(tempfile.gettempdir(), "alive")

broker = RedisStreamBroker(
    STORE.partition("?")[0],  # jobs go through the Redis that has the logs; what follows the ? is tidelog's
    consumer_id="0",  # a job that is sent before the first worker ever came is not lost
    xread_count=1,  # a worker fetches no job that it cannot begin
    idle_timeout=60_000,  # ms: a job that a dead worker had fetched is another one's then; of a run it may come twice
    maxlen=10_000,  # the stream keeps what is done until then
    retry=Retry(ExponentialBackoff(cap=1.0), -1),  # else a worker goes when Redis does, and its runs with it
)
app = FastAPI()
tide = Tidelog(STORE, worker=broker)
app.include_router(tide.router)


@app.get("/report")
@tide.stream
async def report(chapters: int = 10) -> AsyncIterator[str]:
    """Work that takes a while; whoever asks with the same `?key=` again is shown the same run."""
    for chapter in range(1, chapters + 1):
        await asyncio.sleep(1)
        yield f"Chapter {chapter} is written. "


@app.get("/survey")
@tide.stream(on="worker", on_interrupt="restart")
async def survey(places: int = 10) -> AsyncIterator[str]:
    """Work that a worker does, and another one anew if that one dies."""
    for place in range(1, places + 1):
        tide.progress(place, places, "Measuring")
        await asyncio.sleep(1)
    yield f"{places} places are measured."


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def begin(state: TaskiqState) -> None:
    """A worker has no HTTP to be probed by: a file that grows old tells that its loop stands still."""
    state.beat = asyncio.create_task(beat())


async def beat() -> None:
    while True:
        ALIVE.touch()  # noqa: ASYNC240 (a moment, of a file in memory)
        await asyncio.sleep(5)
