"""FastAPI's own SSE, given ready JSON: its cheapest way."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from bench.servers.source import Fan, data, one_token, run_id, shared_of, tokens

app = FastAPI()


def event(run: str, number: int, text: str) -> ServerSentEvent:
    return ServerSentEvent(raw_data=data(number, text), id=f"{run}.1.{number}")


fan = Fan(event)


@app.get("/stream", response_class=EventSourceResponse)
async def stream(seconds: float, rate: float, pad: int = 0) -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    number = 0
    async for text in tokens(seconds, rate, pad):
        yield event(run, number, text)
        number += 1


@app.get("/idle", response_class=EventSourceResponse)
async def idle() -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    async for text in one_token():
        yield event(run, 0, text)


@app.post("/fan", status_code=202)
async def begin(request: Request) -> Response:
    fan.begin(shared_of(request.query_params))
    return Response(status_code=202)


@app.get("/fan", response_class=EventSourceResponse)
async def watch() -> AsyncIterator[ServerSentEvent]:
    async for item in fan.watch():
        yield item
