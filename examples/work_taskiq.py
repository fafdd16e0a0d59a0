"""The web process queues a run and serves whoever watches; a worker of taskiq does the work.

tidelog serve work_taskiq:app
taskiq worker work_taskiq:broker
curl -N 127.0.0.1:8000/reports -H 'Content-Type: application/json' -d '{"title": "Sales"}'
"""

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from taskiq_redis import RedisStreamBroker

from tidelog import Tidelog

REDIS = os.environ.get("REDIS", "redis://127.0.0.1:6379/0")
patient = Retry(ExponentialBackoff(cap=1.0), -1)
broker = RedisStreamBroker(REDIS, consumer_id="0", xread_count=1, maxlen=10_000, retry=patient)
tide = Tidelog(REDIS, worker=broker)
app = FastAPI()
app.include_router(tide.router)


class Order(BaseModel):
    title: str


@app.post("/reports")
@tide.stream(on="worker", on_interrupt="restart")
async def report(order: Order) -> AsyncIterator[str]:
    for month in range(1, 13):
        tide.progress(month, 12, "Adding up")
        await asyncio.sleep(0.1)
    yield f"# {order.title}\n\n"
    for region in ("North", "South"):
        yield f"{region} has grown.\n"
