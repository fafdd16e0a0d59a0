"""How a request that cannot be done is answered: in the words that its client understands."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from tidelog.errors import Overloaded, TidelogError, Unavailable
from tidelog.server.negotiate import may_be_event_source
from tidelog.server.status import problem
from tidelog.server.view import RETRY

STREAM_HEADERS: Final = {
    "Cache-Control": "private, no-cache, no-store, no-transform",
    "X-Accel-Buffering": "no",
}


def refusal(scope: Scope, error: TidelogError) -> Response:
    """The answer to a request that cannot be done, in the words that its client understands."""
    if isinstance(error, (Overloaded, Unavailable)) and may_be_event_source(scope):
        return come_back(error.retry_after)
    return problem(error, *_chosen(error))


def come_back(after: float | None = None) -> Response:
    """What EventSource understands as overload, or a store that is away: any status but 200 would end it for good (spec §5).

    `after` is in seconds.
    """
    headers = {**STREAM_HEADERS, "Vary": "Accept"}
    retry = random.randint(*RETRY) + round(1000 * (after or 0))
    return Response(b"retry: %d\n\n" % retry, 200, headers, "text/event-stream")


def _chosen(error: TidelogError) -> tuple[int | None, Mapping[str, str]]:
    """The status and headers that the application chose by raising an HTTPException."""
    cause = error.__cause__
    if isinstance(cause, HTTPException):
        return cause.status_code, cause.headers or {}
    return None, {}
