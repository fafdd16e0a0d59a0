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
    async for number, text in tokens(seconds, rate):
        yield ServerSentEvent(raw_data=data(number, text), id=f"{run}.1.{number}")


@app.get("/idle", response_class=EventSourceResponse)
async def idle() -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    async for number, text in one_token():
        yield ServerSentEvent(raw_data=data(number, text), id=f"{run}.1.{number}")
