"""Raw ASGI: no framework, one send for each event. The baseline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from bench.servers.source import Fan, frame, one_token, run_id, shared_of, tokens

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]

fan = Fan(frame)


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
    if scope["type"] != "http":
        return
    query = dict(parse_qsl(scope["query_string"].decode()))
    if scope["method"] == "POST":
        fan.begin(shared_of(query))
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await (_watch(send) if scope["path"] == "/fan" else _stream(_source(scope["path"], query), send))
    await send({"type": "http.response.body", "body": b""})


async def _stream(source: AsyncIterator[str], send: Send) -> None:
    run = run_id()
    number = 0
    async for text in source:
        await send({"type": "http.response.body", "body": frame(run, number, text), "more_body": True})
        number += 1


async def _watch(send: Send) -> None:
    async for part in fan.watch():
        await send({"type": "http.response.body", "body": part, "more_body": True})


def _source(path: str, query: dict[str, str]) -> AsyncIterator[str]:
    if path == "/idle":
        return one_token()
    return tokens(float(query["seconds"]), float(query["rate"]), int(query.get("pad", 0)))
