"""`retry` and `continue`: the stored request is dispatched again with the caller's headers, so that validation, dependencies and
authentication run again. What comes back is a new run in the same thread.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidelog.errors import Mismatch
from tidelog.events import Mode
from tidelog.head import Head, StoredRequest
from tidelog.server.links import root_of
from tidelog.server.response import REPEAT, Repeat

_DROPPED: Final = frozenset(
    {
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"last-event-id",
        b"idempotency-key",
        b"accept",
        b"prefer",
    }
)


class Redispatch(Response):
    """Answers with whatever the application answers to the request that started `head`'s run.

    `app` is the outermost application; None: the one that routed this request is all there is.
    """

    def __init__(self, app: ASGIApp | None, head: Head, mode: Mode, partial: str) -> None:
        """Raises `Mismatch` for a run that has not ended (`not_ended`) or cannot be repeated (`not_repeatable`)."""
        super().__init__()
        if head.ended is None:
            raise Mismatch(code="not_ended")
        if head.request is None:
            raise Mismatch(code="not_repeatable")
        self._app = app
        self._request: StoredRequest = head.request
        self._repeat = Repeat(head, mode, partial)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or scope["app"]
        await app(self._scope(scope), self._receive(receive), send)

    def _scope(self, scope: Scope) -> Scope:
        stored, outermost = self._request, root_of(scope)
        root = outermost if self._app is not None else scope.get("root_path", "")
        headers = [(name, value) for name, value in scope["headers"] if name not in _DROPPED]
        if stored.body is not None:
            body = stored.body.encode()
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        path = outermost + stored.path
        kept = ("type", "asgi", "http_version", "scheme", "client", "server", "extensions", "state")
        return {
            **{name: scope[name] for name in kept if name in scope},
            "method": stored.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": stored.query.encode(),
            "root_path": root,
            "app_root_path": outermost,
            "headers": headers,
            REPEAT: self._repeat,
        }

    def _receive(self, receive: Receive) -> Receive:
        body = (self._request.body or "").encode()
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                while (message := await receive())["type"] == "http.request":
                    pass  # the body of the verb itself is nobody's
                return message
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        return again
