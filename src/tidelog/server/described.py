"""What OpenAPI says of our own routes and of every start: what they take, what they answer, and which refusals may come."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, get_args

from tidelog.feed import EndOutcome
from tidelog.granularity import Chunk
from tidelog.paced import FASTEST, SLOWEST
from tidelog.registry import DIALECTS
from tidelog.server.status import STATUS

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
SEQ: Final = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}


def _parameter(name: str, where: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": description}


PARAMETERS: Final = {
    one["name"]: one
    for one in (
        _parameter("run", "path", ID, "The run's id."),
        _parameter("thread", "path", ID, "The thread's id."),
        _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 1000}, "How many at most, the newest."),
        _parameter("after", "query", SEQ, "Everything behind this record."),
        _parameter("wait", "query", {"type": "number", "minimum": 0, "maximum": 60}, "Long-poll: seconds to wait."),
        _parameter("principal", "query", {"type": "string"}, "Whose list or thread; without it, the caller's."),
        _parameter("ticket", "query", {"type": "string"}, "One use: for what can send no header."),
        _parameter("dialect", "query", {"type": "string", "enum": sorted(DIALECTS)}, "The vocabulary."),
        _parameter("merge", "query", {"type": "string", "pattern": "^(0|[0-9]{1,3}ms)$"}, "Joins text for so long: `20ms`, `0`."),
        _parameter("chunk", "query", {"type": "string", "enum": ["token", *get_args(Chunk)]}, "Holds text until this is whole."),
        _parameter("pace", "query", {"type": "number", "minimum": SLOWEST, "maximum": FASTEST}, "Replays: 1 is as it was."),
        _parameter("Producer-Id", "header", ID, "Who posts: one for each run."),
        _parameter("Producer-Epoch", "header", SEQ, "A higher one fences the lower; 0 without it."),
        _parameter("Producer-Seq", "header", SEQ, "The number of the batch's first event, from 1."),
        _parameter("Thread-Id", "header", ID, "The thread that the run joins."),
        _parameter("end", "query", {"type": "string", "enum": list(get_args(EndOutcome))}, "Ends the run behind the batch."),
        _parameter("Last-Event-ID", "header", {"type": "string"}, "The id of the last event that was seen."),
    )
}  # fmt: skip
"""By their names."""

VIEW: Final = ("dialect", "merge", "chunk")
STREAMS: Final = ("text/event-stream", "application/x-ndjson", "text/plain")


class Route(NamedTuple):
    """`takes` names parameters, `answers` gives media types by status, `refuses` names codes of the error table.

    `body` is the schema of a JSON body that must be there.
    """

    takes: tuple[str, ...]
    answers: Mapping[int, tuple[str, ...]]
    refuses: tuple[str, ...] = ()
    body: Mapping[str, Any] | None = None
    """What OpenAPI calls the `requestBody`."""


BATCH: Final = {
    "description": "Events, as an array or as lines; `run.ended` may be the last.",
    "content": {JSON: {"schema": {"type": "array", "items": {"type": "object"}}}, "application/x-ndjson": {}},
}
ANSWER: Final = {
    "required": True,
    "content": {
        JSON: {
            "schema": {
                "type": "object",
                "required": ["question", "value"],
                "properties": {"question": {"type": "string"}, "value": {"description": "What the question asks for."}},
            }
        }
    },
}
WHO: Final = ("unauthorized", "forbidden")
OF_A_RUN: Final = (*WHO, "not_found", "expired")
STEERS: Final = ("cross_site", *OF_A_RUN)
START: Final = (
    *WHO, "invalid_request", "invalid_cursor", "cross_site", "prefetch", "not_found", "idempotency_mismatch", "thread_busy",
    "expired", "cursor_ahead", "too_large", "rate_limited", "too_many_runs", "too_many_viewers",
    "internal", "provider_error", "overloaded", "timed_out",
)  # fmt: skip
"""What a start may refuse, and what a run may fail with before its first event."""

ROUTES: Final[Mapping[str, Route]] = {
    "runs": Route(("limit", "principal"), {200: (JSON,)}, (*WHO, "invalid_request", "not_found")),
    "run": Route(("run",), {200: (JSON,)}, OF_A_RUN),
    "reserve": Route(
        ("run", "Producer-Id", "Producer-Epoch", "Thread-Id"), {200: (JSON,), 201: (JSON,)},
        ("invalid_request", "fenced", "already_ended", "run_taken", "thread_busy", "overloaded", *STEERS),
    ),
    "post": Route(
        ("run", "Producer-Id", "Producer-Epoch", "Producer-Seq", "end"), {200: (JSON,)},
        ("invalid_request", "fenced", "already_ended", "run_taken", "out_of_turn", "too_large", "invalid_batch",
         "overloaded", *STEERS), BATCH,
    ),
    "delete_run": Route(("run",), {204: ()}, STEERS),
    "events": Route(
        ("run", "after", "Last-Event-ID", "wait", "pace", "ticket", *VIEW), {200: (*STREAMS, JSON), 204: ()},
        ("invalid_request", "invalid_cursor", "cursor_ahead", "too_many_viewers", *OF_A_RUN),
    ),
    "not_a_socket": Route(("run",), {}, ("upgrade_required", "no_websocket", *OF_A_RUN)),
    "transcript": Route(("run",), {200: (JSON,)}, OF_A_RUN),
    "stop": Route(("run",), {200: (JSON,), 202: (JSON,)}, STEERS),
    "pause": Route(("run",), {200: (JSON,), 202: (JSON,)}, STEERS),
    "resume": Route(("run",), {200: (JSON,), 202: (JSON,)}, STEERS),
    "answer": Route(
        ("run",), {200: (JSON,), 202: (JSON,)},
        (
            "invalid_request", "invalid_answer", "already_answered", "question_expired", "question_closed", "too_large",
            "overloaded", *STEERS,
        ),
        ANSWER,
    ),
    "retry": Route(("run",), {201: (JSON,)}, ("not_ended", "not_repeatable", *STEERS, *START)),
    "continue": Route(("run",), {201: (JSON,)}, ("not_ended", "not_repeatable", *STEERS, *START)),
    "thread": Route(("thread", "limit", "principal"), {200: (JSON,)}, (*WHO, "invalid_request", "not_found")),
    "thread_events": Route(
        ("thread", "principal", "after", "Last-Event-ID", "wait", "ticket", *VIEW), {200: (*STREAMS, JSON)},
        ("invalid_request", "invalid_cursor", "cursor_ahead", "too_many_viewers", *OF_A_RUN),
    ),
    "delete_thread": Route(("thread", "principal"), {204: ()}, (*WHO, "cross_site", "not_found")),
    "ticket": Route((), {200: (JSON,)}, ("invalid_request", "too_large", "overloaded", *STEERS)),
    "healthz": Route((), {200: (JSON,)}),
    "readyz": Route((), {200: (JSON,), 503: (JSON,)}),
}  # fmt: skip
"""Every route of ours by its name. Any of them may find the store away."""


def described(name: str) -> dict[str, Any]:
    """What `add_api_route` is told of the route of this name. Raises `KeyError` for one that is not in the table."""
    route = ROUTES[name]
    answers: dict[int | str, Any] = {}
    for status, media in route.answers.items():
        answers[status] = {"description": HTTPStatus(status).phrase, "content": {one: {} for one in media}}
    for status, refusal in refusals(*route.refuses, "store_unavailable").items():
        answers.setdefault(status, {"description": "", "content": {}})
        answers[status]["description"] = f"{answers[status]['description']} {refusal['description']}".strip()
        answers[status]["content"].update(refusal["content"])
    extra: dict[str, Any] = {"parameters": [PARAMETERS[one] for one in route.takes]}
    if route.body is not None:
        extra["requestBody"] = route.body
    return {"responses": answers, "openapi_extra": extra}


def refusals(*codes: str) -> dict[int, dict[str, Any]]:
    """The problem documents of these codes, by status."""
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(STATUS[code], []).append(code)
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/TidelogProblem"}}}
    return {
        status: {"description": ", ".join(f"`{code}`" for code in names), "content": dict(content)}
        for status, names in sorted(found.items())
    }


PROBLEM_SCHEMA: Final = {
    "title": "TidelogProblem",
    "description": "A refusal, as RFC 9457 has it.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after": {"type": "number"},
        "run": {"type": "string"},
        "events": {"type": "string"},
        "expected": {"type": "integer"},
        "index": {"type": "integer"},
        "outcome": {"type": "string"},
        "answer": {"type": "object", "description": "How a question was decided: `outcome`, `value`, `by`."},
    },
    "required": ["type", "title", "status", "code", "detail", "retryable"],
}
