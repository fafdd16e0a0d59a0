"""aiohttp's server on uvloop, one write for each event."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import web

from bench.servers.source import Fan, frame, one_token, run_id, shared_of, tokens

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}

fan = Fan(frame)


async def stream(request: web.Request) -> web.StreamResponse:
    query = request.query
    return await _answer(request, tokens(float(query["seconds"]), float(query["rate"]), int(query.get("pad", 0))))


async def idle(request: web.Request) -> web.StreamResponse:
    return await _answer(request, one_token())


async def begin(request: web.Request) -> web.Response:
    fan.begin(shared_of(request.query))
    return web.Response(status=202)


async def watch(request: web.Request) -> web.StreamResponse:
    response = await _opened(request)
    async for part in fan.watch():
        await response.write(part)
    await response.write_eof()
    return response


async def _answer(request: web.Request, source: AsyncIterator[str]) -> web.StreamResponse:
    response = await _opened(request)
    run = run_id()
    number = 0
    async for text in source:
        await response.write(frame(run, number, text))
        number += 1
    await response.write_eof()
    return response


async def _opened(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def main(port: int) -> None:
    """Serves until it is killed."""
    app = web.Application()
    app.add_routes(
        [web.get("/stream", stream), web.get("/idle", idle), web.post("/fan", begin), web.get("/fan", watch)]
    )
    web.run_app(app, host="127.0.0.1", port=port, loop=uvloop.new_event_loop(), access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
