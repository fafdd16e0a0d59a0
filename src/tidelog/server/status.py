"""The one table from codes to HTTP status (spec §9), and the problem documents made of it (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.responses import Response

from tidelog import events as e
from tidelog.errors import SENTENCES, TidelogError

STATUS: Final[Mapping[str, int]] = {
    "invalid_request": 400,
    "invalid_cursor": 400,
    "invalid_event": 500,
    "unauthorized": 401,
    "forbidden": 403,
    "cross_site": 403,
    "prefetch": 403,
    "not_found": 404,
    "idempotency_mismatch": 409,
    "not_ended": 409,
    "not_repeatable": 409,
    "invalid_answer": 422,
    "already_answered": 409,
    "question_expired": 409,
    "question_closed": 409,
    "thread_busy": 409,
    "already_ended": 409,
    "fenced": 409,
    "out_of_turn": 409,
    "run_taken": 409,
    "invalid_batch": 422,
    "expired": 410,
    "cursor_ahead": 410,
    "too_large": 413,
    "upgrade_required": 426,
    "rate_limited": 429,
    "too_many_runs": 429,
    "too_many_viewers": 429,
    "internal": 500,
    "no_websocket": 501,
    "provider_error": 502,
    "overloaded": 503,
    "store_unavailable": 503,
    "interrupted": 503,
    "timed_out": 504,
}

CHALLENGE: Final = "Bearer"
"""What a 401 asks for, as each must (RFC 9110); browsers ask nobody for it."""


def status_of(outcome: e.Outcome | None, error: e.Error | None) -> int:
    """The status of a JSON answer that tells how a run ended."""
    if outcome in (None, "completed", "stopped"):
        return 200
    return STATUS.get(error.code if error else "internal", 500)


def problem(
    error: TidelogError | str, status: int | None = None, headers: Mapping[str, str] | None = None, *,
    code: str = "invalid_request", title: str | None = None, more: Mapping[str, Any] = MappingProxyType({}),
) -> Response:  # fmt: skip
    """The answer of an endpoint that refuses: a problem document (RFC 9457), as tidelog's own routes give it.

    `error` is a `TidelogError`, or what to say, in words that may be shown, for a `code` of PROTOCOL §9 or one of your own.
    The code decides the status unless `status` does; an unknown one is 500. `title` stands for the code's own sentence.
    `Retry-After` (whole seconds) goes out where it is known; `more` are members of the document beside those of every problem.
    """
    if isinstance(error, str):
        error = TidelogError(error, code=code)
    status = status or STATUS.get(error.code, 500)
    body: dict[str, Any] = {
        "type": f"urn:tidelog:{error.code}",
        "title": title or SENTENCES.get(error.code) or HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.message,
        "retryable": error.retryable,
        **more,
    }
    body.update(error.fields)
    headers = {"Cache-Control": "no-store", **(headers or {})}
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
        headers["Retry-After"] = str(max(0, math.ceil(error.retry_after)))
    elif status == 503:
        headers["Retry-After"] = "2"
    if status == 401:
        headers.setdefault("WWW-Authenticate", CHALLENGE)
    return Response(e.encode_json(body), status, headers, "application/problem+json")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Any value that msgspec knows as a JSON document."""
    return Response(e.encode_json(value), status, dict(headers or {}), "application/json")
