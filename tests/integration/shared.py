"""The application that several processes run on one file, or one Redis, which may then carry jobs to workers, too.

Beside its runs it notes, on its own, what their sources produced.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TextIO

from fastapi import FastAPI
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq_redis import RedisStreamBroker

from tidelog import Tidelog, current_run

FOLDER = Path(os.environ.get("APP_FOLDER", "."))
"""Where the notes go."""
JOBS = os.environ.get("APP_JOBS")
"""The Redis that carries jobs; None: there are no workers."""

broker = RedisStreamBroker(
    JOBS or "redis://127.0.0.1:1/0", consumer_id="0", xread_block=100, xread_count=1, idle_timeout=2000, maxlen=10_000,
    retry=Retry(ExponentialBackoff(cap=0.5), -1),
)  # fmt: skip
app = FastAPI()
tide = Tidelog(
    os.environ.get("APP_STORE"),
    worker=broker if JOBS else None,
    drain_timeout=float(os.environ.get("APP_DRAIN_TIMEOUT", "1.0")),
    lease_patience=float(os.environ.get("APP_LEASE_PATIENCE", "8.0")),
)
app.include_router(tide.router)


@app.get("/where")
def where() -> int:
    """The process that answers."""
    return os.getpid()


def notes() -> TextIO:
    """Those of a run; where it is begun again, the next one's stand beside them: who was taken for dead may still write."""
    path = FOLDER / current_run().id
    path = path.with_suffix(f".{os.getpid()}") if path.exists() else path
    noted = path.open("a", encoding="utf-8", buffering=1)
    noted.write(f"{os.getpid()}\n")
    return noted


async def numbered(to: int, pause: float) -> AsyncIterator[str]:
    """Numbers, one after the other; each is noted before it is yielded."""
    with notes() as noted:
        for number in range(to):
            noted.write(f"{number}\n")
            yield f"{number} "
            await asyncio.sleep(pause)


async def asked() -> AsyncIterator[str]:
    """Goes on with what a person says."""
    yield "Shall I? "
    yield f"You said {await tide.ask('Shall I?', options=['yes', 'no'])}."


@app.get("/numbers")
@tide.stream
async def numbers(to: int = 1_000_000, pause: float = 0.02) -> AsyncIterator[str]:
    """Here."""
    async for number in numbered(to, pause):
        yield number


@app.post("/paid")
@tide.stream
async def paid(body: dict[str, Any]) -> AsyncIterator[str]:
    """Asks a provider that notes each call, and takes its time."""
    with (FOLDER / "calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{body['question']}\n")
    for word in ("It ", "costs ", "money."):
        yield word
        await asyncio.sleep(0.1)


@app.get("/asks")
@tide.stream
async def asks() -> AsyncIterator[str]:
    """Here."""
    async for said in asked():
        yield said


if JOBS:

    @app.get("/worker/numbers")
    @tide.stream(on="worker")
    async def numbers_there(to: int = 1_000_000, pause: float = 0.02) -> AsyncIterator[str]:
        """By a worker."""
        async for number in numbered(to, pause):
            yield number

    @app.get("/worker/numbers/again")
    @tide.stream(on="worker", on_interrupt="restart")
    async def numbers_again(to: int = 1_000_000, pause: float = 0.02) -> AsyncIterator[str]:
        """By another worker where one has died. It says for a while only how far it has come."""
        for step in range(5):
            tide.progress(step + 1, 5)
            await asyncio.sleep(pause)
        async for number in numbered(to, pause):
            yield number

    @app.get("/worker/asks")
    @tide.stream(on="worker")
    async def asks_there() -> AsyncIterator[str]:
        """By a worker."""
        async for said in asked():
            yield said
