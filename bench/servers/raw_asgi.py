"""Raw ASGI: no framework, one send for each event. The baseline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from bench.servers.source import frame, one_token, run_id, tokens

Message = MutableMapping[str, Any]
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] != "http":
        return
    run = run_id()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    number = 0
    async for text in _source(scope):
        await send({"type": "http.response.body", "body": frame(run, number, text), "more_body": True})
        number += 1
    await send({"type": "http.response.body", "body": b""})


def _source(scope: Message) -> AsyncIterator[str]:
    if scope["path"] == "/idle":
        return one_token()
    query = parse_qs(scope["query_string"].decode())
    return tokens(float(query["seconds"][0]), float(query["rate"][0]))
