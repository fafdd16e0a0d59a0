"""sse-starlette, with its defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from bench.servers.source import data, one_token, run_id, tokens


async def events(source: AsyncIterator[str]) -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    number = 0
    async for text in source:
        yield ServerSentEvent(data(number, text), id=f"{run}.1.{number}")
        number += 1


async def stream(request: Request) -> EventSourceResponse:
    query = request.query_params
    return EventSourceResponse(events(tokens(float(query["seconds"]), float(query["rate"]))))


async def idle(request: Request) -> EventSourceResponse:
    return EventSourceResponse(events(one_token()))


app = Starlette(routes=[Route("/stream", stream), Route("/idle", idle)])
