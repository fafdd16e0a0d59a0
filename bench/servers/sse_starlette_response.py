"""sse-starlette, with its defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.servers.source import Fan, data, one_token, run_id, shared_of, tokens


def event(run: str, number: int, text: str) -> ServerSentEvent:
    return ServerSentEvent(data(number, text), id=f"{run}.1.{number}")


fan = Fan(event)


async def events(source: AsyncIterator[str]) -> AsyncIterator[ServerSentEvent]:
    run = run_id()
    number = 0
    async for text in source:
        yield event(run, number, text)
        number += 1


async def stream(request: Request) -> EventSourceResponse:
    query = request.query_params
    source = tokens(float(query["seconds"]), float(query["rate"]), int(query.get("pad", 0)))
    return EventSourceResponse(events(source))


async def idle(request: Request) -> EventSourceResponse:
    return EventSourceResponse(events(one_token()))


async def begin(request: Request) -> Response:
    fan.begin(shared_of(request.query_params))
    return Response(status_code=202)


async def watch(request: Request) -> EventSourceResponse:
    return EventSourceResponse(fan.watch())


app = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/idle", idle),
        Route("/fan", begin, methods=["POST"]),
        Route("/fan", watch),
    ]
)
