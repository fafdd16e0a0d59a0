"""What form of answer a request asks for (spec §4)."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

from tidelog import granularity, paced, registry
from tidelog.errors import InvalidRequest
from tidelog.granularity import Granularity
from tidelog.log import Position, parse_position
from tidelog.seams import Dialect, Framing

KNOWN: Final = 128
"""Headers that are remembered with what they name, and the most characters of one."""

Kind = Literal["stream", "json", "auto", "async"]


class Form(NamedTuple):
    """How to answer. For `auto`, `dialect` and `framing` are those of the stream that it may become."""

    kind: Kind
    dialect: type[Dialect]
    framing: type[Framing]
    granularity: Granularity
    pace: float | None = None
    """How fast a cursor replays; None: as fast as the viewer takes it."""


def negotiate(request: Request, default: str, dialect: str) -> Form:
    """The form that the request asks for, else the endpoint's. Raises `InvalidRequest` for an unknown dialect or granularity."""
    kind, framing = _kind(request, default)
    name = of_query(request, "dialect") or ("text" if framing == "text" else dialect)
    grain = granularity.parse(of_query(request, "merge"), of_query(request, "chunk"))
    return Form(kind, registry.dialect(name), registry.framing(framing), grain)


def of_query(request: Request, name: str) -> str | None:
    """A parameter of the query, which is parsed only where that may stand in it. The name is of letters and `_` alone."""
    query: bytes = request.scope["query_string"]
    return request.query_params.get(name) if name.encode() in query or b"%" in query else None


def _kind(request: Request, default: str) -> tuple[Kind, str]:
    if "respond-async" in request.headers.get("prefer", ""):
        return "async", "sse"
    accept = request.headers.get("accept", "")
    accepts = _accepted(accept) if len(accept) <= KNOWN else _accepted.__wrapped__(accept)
    if {"text/event-stream", "application/json"} <= accepts:
        return "auto", "sse"
    if "text/event-stream" in accepts:
        return "stream", "sse"
    if accepts & {"application/x-ndjson", "application/jsonl", "application/ndjson"}:
        return "stream", "lines"
    if "application/json" in accepts:
        return ("async" if default == "async" else "json"), "sse"  # that answer is a JSON document as well
    if "text/plain" in accepts:
        return "stream", "text"
    return _DEFAULTS[default]


_DEFAULTS: Final[dict[str, tuple[Kind, str]]] = {
    "sse": ("stream", "sse"), "text": ("stream", "text"), "json": ("json", "sse"), "auto": ("auto", "sse"),
    "async": ("async", "sse"),
}  # fmt: skip


def may_be_event_source(scope: Scope) -> bool:
    """Whether a browser's EventSource may have sent this, which knows no method but GET."""
    return scope["method"] == "GET" and "text/event-stream" in Headers(scope=scope).get("accept", "")


@lru_cache(KNOWN)
def _accepted(accept: str) -> Set[str]:
    """The media types that this header names, and does not refuse."""
    items = (item.partition(";") for item in accept.split(","))
    return frozenset(media.strip().lower() for media, _, parameters in items if not _refused(parameters))


def _refused(parameters: str) -> bool:
    return any(one.strip().replace(" ", "") in ("q=0", "q=0.0") for one in parameters.split(";"))


def resume_position(request: Request) -> Position | None:
    """The position of a client that comes back: `Last-Event-ID` or `?last_event_id=`, the header first. None for a foreign id.

    Raises `InvalidRequest` (`invalid_cursor`) for one that looks like ours and is malformed.
    """
    text = request.headers.get("last-event-id") or of_query(request, "last_event_id")
    return parse_position(text) if text else None


def after(request: Request) -> int:
    """The `?after=` of a cursor request: 0 without. Raises `InvalidRequest`."""
    text = request.query_params.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidRequest("after must be a sequence number.", code="invalid_cursor")
    return int(text)


def pace(request: Request, form: Form) -> float | None:
    """The `?pace=` of a cursor request; None without. Raises `InvalidRequest`, also where the answer is one document."""
    text = request.query_params.get("pace")
    if text is None:
        return None
    if form.kind == "json" or request.query_params.get("wait") is not None:
        raise InvalidRequest("pace is for streams: a JSON document and a long-poll are answered at once.")
    return paced.parse(text)


def wait(request: Request) -> float | None:
    """The `?wait=` of a long-poll in seconds, at most 60; None without. Raises `InvalidRequest`."""
    text = request.query_params.get("wait")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise InvalidRequest("wait must be a time from 0 to 60 seconds.")
    return seconds
