"""retry and continue with the real SDKs, against a provider that is not ours: what it is asked, and that no word is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response
from tests.sources.langchain_parts import openai_of
from tests.upstream.aimock import KEY, Fixture, Upstream, aimock, cuts, fails, says, stalls

from tidelog import Tidelog
from tidelog.stitch import OVERLAP
from tidelog.testing import Server, rebuild, serve

TEXT = "The moon pulls at the sea, and the sea climbs the shore twice a day. 潮汐 follow it."
HEAD = "".join(f"Line {number} of a long answer about tides. " for number in range(10, 20))
TAIL = "And this is its end."
BEFORE = {"chat": 1, "responses": 4, "anthropic": 2, "langchain": 1}
"""Chunks before the first that carries text."""
CUT = 7

Messages = list[dict[str, str]]


async def chat(url: str, messages: Messages) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        given: Any = messages
        async for chunk in await client.chat.completions.create(model="gpt-5", messages=given, stream=True):
            yield chunk


async def responses(url: str, messages: Messages) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        given: Any = messages
        async for event in await client.responses.create(model="gpt-5", input=given, stream=True):
            yield event


async def claude(url: str, messages: Messages) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        given: Any = messages
        asked: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 1000, "messages": given}
        async with client.messages.stream(**asked) as stream:
            async for event in stream:
                yield event


async def langchain(url: str, messages: Messages) -> AsyncIterator[Any]:
    async with httpx2.AsyncClient() as client:
        async for chunk in openai_of(url, client).astream(messages):
            yield chunk


SDKS: dict[str, Callable[[str, Messages], AsyncIterator[Any]]] = {
    "chat": chat, "responses": responses, "anthropic": claude, "langchain": langchain,
}  # fmt: skip


def fixtures(sdk: str) -> Iterator[Fixture]:
    """What each question is answered, the first time and again; behind `turnIndex=1` stands an answer that broke off."""
    for name, failure in (
        ("busy", fails(f"busy {sdk}", 429, retry_after=1)), ("broken", fails(f"broken {sdk}", 500)),
        ("severed", cuts(f"severed {sdk}", after=BEFORE[sdk] + CUT, content=TEXT, chunkSize=3)),
    ):  # fmt: skip
        failure["match"]["sequenceIndex"] = 0
        yield failure
        yield says(f"{name} {sdk}", sequenceIndex=1, content=TEXT, chunkSize=3)
    yield cuts(f"cut {sdk}", after=BEFORE[sdk] + CUT, content=TEXT, chunkSize=3, turnIndex=0)
    yield says(f"cut {sdk}", content=TEXT, chunkSize=3, turnIndex=1)
    yield stalls(f"stopped {sdk}", after=BEFORE[sdk] + CUT, content=TEXT, chunkSize=3, turnIndex=0)
    yield says(f"stopped {sdk}", content=TEXT, chunkSize=3, turnIndex=1)
    yield stalls(f"long {sdk}", after=BEFORE[sdk] + 1, content=HEAD + TAIL, chunkSize=len(HEAD), turnIndex=0)
    yield says(f"long {sdk}", content=HEAD[-OVERLAP:] + TAIL, chunkSize=7, turnIndex=1)
    yield cuts(f"unlucky {sdk}", after=BEFORE[sdk] + CUT, content=TEXT, chunkSize=3, turnIndex=0)
    yield fails(f"unlucky {sdk}", 500) | {
        "match": {"userMessage": f"unlucky {sdk}", "turnIndex": 1, "sequenceIndex": 0}
    }
    yield says(f"unlucky {sdk}", content=TEXT, chunkSize=3, turnIndex=1, sequenceIndex=1)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(*(each for sdk in SDKS for each in fixtures(sdk))) as upstream:
        yield upstream


@pytest.fixture
def server(upstream: Upstream) -> Iterator[Server]:
    """One endpoint for each SDK, as applications write them."""
    app, tide = FastAPI(), Tidelog("memory:", drain_timeout=0.0)
    app.include_router(tide.router)

    @app.post("/{sdk}")
    async def ask(request: Request, sdk: str, body: dict[str, str]) -> Response:
        async def work() -> AsyncIterator[Any]:
            async for chunk in SDKS[sdk](upstream.url, await tide.history()):
                yield chunk

        return tide.response(work, request=request, message=body["question"])

    upstream.forget()
    with serve(app) as server:
        yield server


sdks = pytest.mark.parametrize("sdk", SDKS)


def asked(server: Server, what: str, sdk: str) -> str:
    """The id of a run that has begun."""
    answer = server.client.post(f"/{sdk}", json={"question": f"{what} {sdk}"}, headers={"Prefer": "respond-async"})
    return str(answer.json()["run"])


def again(server: Server, run: str, verb: str) -> str:
    answer = server.client.post(f"/runs/{run}/{verb}")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["of"], answer.json()["mode"]) == (run, verb)
    return str(answer.json()["run"])


def told(server: Server, run: str) -> list[dict[str, Any]]:
    """Every event of a run, which has ended then."""
    with server.watch(f"/runs/{run}/events?merge=0ms") as viewer:
        return [frame.json for frame in viewer.rest()]


def text(server: Server, run: str) -> str:
    with server.watch(f"/runs/{run}/events") as viewer:
        return rebuild(viewer.rest())


def stopped(server: Server, run: str, *, at: str) -> None:
    """Stop the run once it has said this."""
    with server.watch(f"/runs/{run}/events?merge=0ms") as viewer:
        said = ""
        while at not in said:
            said += "".join(frame.json["text"] for frame in viewer.until("text.delta") if "text" in frame.json)
        server.client.post(f"/runs/{run}/stop")
        viewer.rest()


def last_request(upstream: Upstream) -> list[tuple[str, str]]:
    """Roles and words of what the provider was asked last."""
    body = upstream.journal()[-1]["body"]
    return [(one["role"], _plain(one["content"])) for one in body["messages"] if one["role"] != "system"]


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@sdks
@pytest.mark.parametrize(
    ("what", "code"), [("busy", "rate_limited"), ("broken", "provider_error"), ("severed", "provider_error")]
)
def test_retry_asks_the_same_anew(server: Server, upstream: Upstream, sdk: str, what: str, code: str) -> None:
    old = asked(server, what, sdk)
    before = told(server, old)
    assert (before[-1]["outcome"], before[-1]["error"]["code"]) == ("failed", code)
    assert "retry" in before[-1]["can"]
    new = again(server, old, "retry")
    after = told(server, new)
    assert after[-1]["outcome"] == "completed"
    assert text(server, new) == TEXT
    assert after[0]["message"] != before[0]["message"]
    assert last_request(upstream) == [("user", f"{what} {sdk}")]
    assert told(server, old) == before


@sdks
def test_continue_after_a_cut_gives_the_text_back(server: Server, upstream: Upstream, sdk: str) -> None:
    old = asked(server, "cut", sdk)
    before = told(server, old)
    partial = text(server, old)
    assert partial and TEXT.startswith(partial) and partial != TEXT
    new = again(server, old, "continue")
    after = told(server, new)
    assert last_request(upstream) == [("user", f"cut {sdk}"), ("assistant", partial)]
    assert after[0]["message"] == before[0]["message"]
    assert (after[1]["type"], after[1]["text"]) == ("text.snapshot", partial)
    assert after[-1]["outcome"] == "completed"
    assert text(server, new) == TEXT, "the model said all of it once more"


@sdks
def test_continue_after_a_stop(server: Server, upstream: Upstream, sdk: str) -> None:
    old = asked(server, "stopped", sdk)
    stopped(server, old, at="The")
    partial = text(server, old)
    new = again(server, old, "continue")
    assert text(server, new) == TEXT
    assert last_request(upstream) == [("user", f"stopped {sdk}"), ("assistant", partial)]


@sdks
def test_a_long_seam_is_told_once(server: Server, sdk: str) -> None:
    old = asked(server, "long", sdk)
    stopped(server, old, at=HEAD)
    assert text(server, old) == HEAD
    assert text(server, again(server, old, "continue")) == HEAD + TAIL


@sdks
def test_a_second_attempt_that_fails_loses_nothing(server: Server, sdk: str) -> None:
    old = asked(server, "unlucky", sdk)
    partial = text(server, old)
    assert partial
    second = again(server, old, "continue")
    found = told(server, second)
    assert (found[-1]["outcome"], found[-1]["error"]["code"]) == ("failed", "provider_error")
    assert text(server, second) == text(server, old) == partial
    thread = server.client.get(f"/threads/{found[0]['thread']}").json()
    assert [one["content"] for one in thread["messages"]] == [f"unlucky {sdk}", partial]
    assert text(server, again(server, second, "continue")) == TEXT
