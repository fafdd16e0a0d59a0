"""What OpenAPI says of endpoints that answer with a run: the forms of the answer, its refusals, and one schema for each event.

FastAPI cannot know them, so the application's `openapi` method is extended, which is FastAPI's own way to do it. Our endpoints
are known by the header that they take to resume.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tidelog.events import AnyEvent
from tidelog.server.described import PROBLEM_SCHEMA, START, refusals
from tidelog.transcript import Transcript

RESUMES: Final = "The id of the last event that was seen: the answer goes on behind it, and no run is started."
"""The description of the `Last-Event-ID` parameter: it marks our endpoints."""
STARTED: Final = {"description": "The run has started (`Prefer: respond-async`).", "content": {"application/json": {}}}
NOTHING_LEFT: Final = {"description": "The run has ended, and there is nothing behind `Last-Event-ID`."}
_REF: Final = "#/components/schemas/Tidelog{name}"


def extend(app: Any) -> None:
    """Make `app.openapi()` describe runs. Once for each application."""
    original = app.openapi
    if getattr(original, "describes_runs", False):
        return

    def openapi() -> dict[str, Any]:
        document: dict[str, Any] = original()
        if "TidelogEvent" not in document.get("components", {}).get("schemas", {}):
            describe(document)
        return document

    openapi.describes_runs = True  # type: ignore[attr-defined]
    app.openapi = openapi


def describe(document: dict[str, Any]) -> None:
    """Add the problem document, the events and the transcript, and the answers to the operations that start a run."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["TidelogProblem"] = PROBLEM_SCHEMA
    operations = list(_operations(document))
    (event, transcript), parts = msgspec.json.schema_components([AnyEvent, Transcript], ref_template=_REF)
    schemas.update({f"Tidelog{name}": schema for name, schema in parts.items()})
    schemas["TidelogEvent"] = event
    answer = {
        "description": "A run, in the form that the request asks for.",
        "headers": {name: {"schema": {"type": "string"}} for name in ("Run-Id", "Thread-Id", "Location")},
        "content": {
            "text/event-stream": {"itemSchema": {"$ref": _REF.format(name="Event")}},
            "application/x-ndjson": {"itemSchema": {"$ref": _REF.format(name="Event")}},
            "application/json": {"schema": transcript},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
    problems = {str(status): refusal for status, refusal in refusals(*START, "store_unavailable").items()}
    problems["400"]["content"]["application/json"] = {}  # FastAPI refuses a body that is not JSON in a form of its own
    for operation in operations:
        told = operation.setdefault("responses", {})
        operation["responses"] = {**problems, **told, "200": answer, "202": STARTED, "204": NOTHING_LEFT}


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document.get("paths", {}).values():
        for operation in path.values():
            parameters = operation.get("parameters", ()) if isinstance(operation, dict) else ()
            if any(parameter.get("description") == RESUMES for parameter in parameters):
                yield operation
