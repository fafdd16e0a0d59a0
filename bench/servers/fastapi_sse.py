"""FastAPI's own SSE, given ready JSON: its cheapest way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent

from bench.servers.source import data, one_token, run_id, tokens

app = FastAPI()


@app.get("/stream", response_class=EventSourceResponse)
async def stream(seconds: float, rate: float) -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    number = 0
    async for text in tokens(seconds, rate):
        yield ServerSentEvent(raw_data=data(number, text), id=f"{run}.1.{number}")
        number += 1


@app.get("/idle", response_class=EventSourceResponse)
async def idle() -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    async for text in one_token():
        yield ServerSentEvent(raw_data=data(0, text), id=f"{run}.1.0")
