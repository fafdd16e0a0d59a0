"""Hostile requests: ids, resume headers, queries and bodies, by our own OpenAPI and by nobody's rules.

Only documented refusals come of them, never a 500, and nothing is left behind: tasks and runs are counted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from schemathesis.checks import CHECKS, load_all_checks
from tests.conftest import count
from tests.server.chat import make_tide

from tidelog import Limits, Tidelog
from tidelog.testing import Server, serve

pytestmark = pytest.mark.soak
load_all_checks()
CHECKED = CHECKS.get_by_names(["not_a_server_error", "status_code_conformance", "content_type_conformance"])
CASES = settings(
    max_examples=count(150, 10_000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class Ask(BaseModel):
    question: str = Field(max_length=2000)


class Target(NamedTuple):
    """A server whose runs have all ended, and how many tasks it has then."""

    server: Server
    tide: Tidelog
    schema: Any
    runs: tuple[str, ...]
    idle: int


def make_app(tide: Tidelog) -> FastAPI:
    app = FastAPI()
    app.include_router(tide.router)

    @app.post("/chat")
    @tide.stream(message="question")
    async def chat(ask: Ask) -> AsyncIterator[str]:
        yield ask.question
        yield " was the question"

    @app.get("/ask")
    @tide.stream(default="auto")
    async def asked(question: str) -> AsyncIterator[str]:
        yield question

    return app


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    tide = make_tide(
        limits=Limits(first_event_timeout=0.5, gap_timeout=0.5)
    )  # of runs that a producer reserves and leaves
    app = make_app(tide)
    with serve(app) as server:
        runs = []
        for number in range(3):
            with server.watch("/ask", params={"question": f"q{number}"}) as viewer:
                viewer.rest()
                runs.append(viewer.run)
        schema = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
        server.client.close()
        yield Target(server, tide, schema, tuple(runs), server.call(_tasks))


def _tasks() -> int:
    return len(asyncio.all_tasks())


async def _settled(tide: Tidelog, idle: int) -> None:
    async with asyncio.timeout(20):
        while len(tide.runner) or _tasks() > idle:  # noqa: ASYNC110 - connections close when the kernel says so
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def nothing_is_left(target: Target) -> Iterator[None]:
    yield
    target.server.call(lambda: _settled(target.tide, target.idle))


@CASES
@given(data=st.data())
def test_by_the_schema(target: Target, data: st.DataObject) -> None:
    """Cases that the schema allows, and others, of every operation; most of them for runs that are there."""
    operations = [found.ok() for found in target.schema.get_all_operations()]
    operation = data.draw(st.sampled_from(operations))
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    case = data.draw(operation.as_strategy(generation_mode=data.draw(st.sampled_from(modes))))
    for name in set(case.path_parameters or ()) & {"run", "thread"}:
        if data.draw(st.integers(0, 3)):
            case.path_parameters[name] = data.draw(st.sampled_from(target.runs))
    response = case.call(base_url=target.server.url, timeout=20)
    case.validate_response(response, checks=CHECKED)


TEXT = st.text(st.characters(blacklist_characters="\r\n\0", max_codepoint=255), max_size=60)
"""What a header may hold, and more."""
PIECES = st.sampled_from(
    ["", "0", "1", "-1", "1.1", "9" * 15, "9" * 30, "1e9", "nan", "inf", "a" * 64, "é", "%00", "%", "..", "/", "?", "*/*",
     "application/json", "text/event-stream;q=0", "text/event-stream", "respond-async", "null", "true", "[]"]
)  # fmt: skip
HEADERS = (
    "Last-Event-ID",
    "Idempotency-Key",
    "Thread-Id",
    "Accept",
    "Prefer",
    "Content-Type",
    "Origin",
    "Range",
    "Cookie",
    "Producer-Id",
    "Producer-Epoch",
    "Producer-Seq",
)
QUERIES = (
    "after",
    "wait",
    "limit",
    "dialect",
    "merge",
    "chunk",
    "key",
    "thread",
    "last_event_id",
    "question",
    "pace",
    "end",
)
KNOWN = {200, 201, 202, 204, 307, 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 426, 429}


@CASES
@given(data=st.data())
def test_by_no_rules(target: Target, data: st.DataObject) -> None:
    """Raw requests: what is no HTTP may be refused by the server; the rest has a status of the error table."""
    run = data.draw(st.one_of(st.sampled_from(target.runs), PIECES, TEXT))
    paths = (
        "/chat",
        "/ask",
        "/runs",
        "/runs/{}",
        "/runs/{}/events",
        "/runs/{}/transcript",
        "/runs/{}/stop",
        "/threads/{}",
    )
    path = data.draw(st.sampled_from(paths)).format(run)
    value = st.one_of(PIECES, TEXT, st.sampled_from([f"{one}.1.{seq}" for one in target.runs for seq in (0, 1, 2, 9)]))
    query = "&".join(
        f"{name}={one}" for name, one in data.draw(st.dictionaries(st.sampled_from(QUERIES), value)).items()
    )
    headers = data.draw(st.dictionaries(st.sampled_from(HEADERS), value))
    headers.setdefault("Accept", "application/json")
    body = data.draw(
        st.one_of(st.binary(max_size=200), st.sampled_from([b"{", b'{"question": "x"}', b"[" * 500, b"\xff"]))
    )
    # FastAPI itself answers 500 to a body of raw bytes that nobody calls JSON: it cannot put them into its 422.
    if "json" not in headers.get("Content-Type", ""):
        body = body.decode("utf-8", "ignore").encode()
    method = data.draw(st.sampled_from(["GET", "POST", "DELETE", "HEAD", "PUT", "PATCH"]))
    lines = [f"{method} {path}?{query} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""])
    status = _status(target.server, head.encode("latin-1", "replace") + body)
    assert status in KNOWN, head


def _status(server: Server, request: bytes) -> int:
    """The status of the whole answer to these bytes."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), 20) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])
