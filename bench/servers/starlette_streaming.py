"""Starlette's StreamingResponse over a generator of ready bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bench.servers.source import Fan, frame, one_token, run_id, shared_of, tokens

fan = Fan(frame)


async def frames(source: AsyncIterator[str]) -> AsyncIterator[bytes]:
    run = run_id()
    number = 0
    async for text in source:
        yield frame(run, number, text)
        number += 1


async def stream(request: Request) -> StreamingResponse:
    query = request.query_params
    source = tokens(float(query["seconds"]), float(query["rate"]), int(query.get("pad", 0)))
    return StreamingResponse(frames(source), media_type="text/event-stream")


async def idle(request: Request) -> StreamingResponse:
    return StreamingResponse(frames(one_token()), media_type="text/event-stream")


async def begin(request: Request) -> Response:
    fan.begin(shared_of(request.query_params))
    return Response(status_code=202)


async def watch(request: Request) -> StreamingResponse:
    return StreamingResponse(fan.watch(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/idle", idle),
        Route("/fan", begin, methods=["POST"]),
        Route("/fan", watch),
    ]
)
