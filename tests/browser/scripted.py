"""An application with the routes of the built-in ones, whose words are known: what a page must show of it can be said exactly.

It claims that a model is attached. Its agent's tools, and the answers to
"hold …", wait until the test lets them go on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from tests.browser.story import long_text

from tidelog import (
    Answer,
    Data,
    Finish,
    ReasoningDelta,
    ReasoningEnded,
    Source,
    SourceError,
    Sources,
    Tidelog,
    ToolEnded,
    ToolInput,
    ToolInputDelta,
    ToolStarted,
    Usage,
    current_run,
)  # fmt: skip

RATE = 500.0
"""Tokens a second of the long answer."""
LEASE_PATIENCE = 2.0
"""Seconds after which a killed server's runs are ended: less than in real life, for a test waits for it."""
HELD = 40
"""Tokens after which the answer to "hold …" waits for its test."""
STEP_LIMIT = 30.0
"""Seconds that a run waits for its test."""
FAILURES = {
    "fail": SourceError("The tide is out.", code="rate_limited", retry_after=7),
    "key": SourceError("api.example.org refused the key: check OPENAI_API_KEY.", retryable=False),
    "dead": SourceError("The model server cannot be reached: is it running?"),
}
ABOUT = {
    "version": "0",
    "store": "memory:",
    "documents": {"state": "ready", "count": 1, "own": False},
    "answerer": "model",
    "model": {"name": "tide-1", "provider": "compatible", "place": "http://127.0.0.1:9"},
    "apps": ["rag", "chat", "agent"],
}


class Ask(BaseModel):
    question: str


def scripted(store: str) -> APIRouter:
    """`/rag` (a long answer), `/chat` (what was said before), `/agent` (tools), `/about`; and what tests ask for."""
    tide = Tidelog(store, lease_patience=LEASE_PATIENCE)

    async def agreed(state: Any, answer: Answer) -> AsyncIterator[Any]:
        yield ToolEnded(call="c1", output=answer.value)
        yield f"You said {answer.value}. "
        yield f"Signed {await tide.ask('Your name?')}."

    started: Counter[str] = Counter()
    steps = Steps()
    router = APIRouter()
    router.include_router(tide.router)

    @router.post("/rag")
    @tide.stream(default="auto", message="question")
    async def long(ask: Ask) -> AsyncIterator[Any]:
        started[ask.question] += 1
        if ask.question in FAILURES:
            raise FAILURES[ask.question]
        yield Data(name="question", data=ask.question)
        yield Sources([Source(id="s1", title="<i>Tides</i>", quote="<img src=x onerror=alert(1)>")])
        if ask.question == "cut":
            yield "High water is at "
            raise FAILURES["dead"]
        tokens = without(current_run().partial, long_text(ask.question))
        if ask.question.startswith("hold"):
            for token in tokens[:HELD]:
                yield token
            await steps.next(ask.question)
            tokens = tokens[HELD:]
        async for token in paced(tokens):
            yield token

    @router.post("/chat")
    @tide.stream(default="auto", message="question")
    async def chat(ask: Ask) -> AsyncIterator[Any]:
        said = [one["content"] for one in await tide.history() if one["role"] == "user"]
        yield Data(name="question", data=ask.question)
        yield f"You said: {', '.join(said)}."
        yield Usage(input=12, output=3, source="provider")
        yield Finish(reason="length" if ask.question == "long" else "stop", model="tide-1")

    @router.post("/agent")
    @tide.stream(default="auto", message="question", resume=agreed, park_after=0.0)
    async def agent(ask: Ask) -> AsyncIterator[Any]:
        yield Data(name="question", data=ask.question)
        if ask.question.startswith("gate"):
            yield ToolStarted(call="c1", name="send")
            await tide.ask("Send the <b>letter</b>?", options=["yes", "no"], data={"to": "<i>all</i>"}, state={})
        yield ReasoningDelta(text="First the sum.\nThen the tides.")
        yield ReasoningEnded()
        yield ToolStarted(call="c1", name="calculator")
        yield ToolInputDelta(call="c1", json='{"expression": ')
        await steps.next(ask.question)
        yield ToolInputDelta(call="c1", json='"12 * 7"}')
        yield ToolInput(call="c1", input={"expression": "12 * 7"})
        yield ToolEnded(call="c1", output=84)
        yield ToolStarted(call="c2", name="table")
        yield ToolInput(call="c2", input={"table": "<b>tides</b>", "where": "harbour = 'Husum'"})
        await steps.next(ask.question)
        yield ToolEnded(call="c2", outcome="failed", error="There is no such table.")
        yield "It is 84."

    @router.post("/go")
    async def go(question: str) -> None:
        steps.go(question)

    @router.get("/started")
    def count(question: str) -> int:
        return started[question]

    @router.get("/about")
    def about() -> dict[str, Any]:
        return ABOUT

    return router


class Steps:
    """What the tools of a question wait for: as many steps as its test has let go."""

    def __init__(self) -> None:
        self._steps: dict[str, asyncio.Semaphore] = {}

    async def next(self, question: str) -> None:
        """Until the test has asked for one more step of this question."""
        await asyncio.wait_for(self._of(question).acquire(), STEP_LIMIT)

    def go(self, question: str) -> None:
        """One step more."""
        self._of(question).release()

    def _of(self, question: str) -> asyncio.Semaphore:
        return self._steps.setdefault(question, asyncio.Semaphore(0))


def without(before: str, tokens: list[str]) -> list[str]:
    """The tokens behind this text, which is made of the first of them."""
    while before and tokens:
        before, tokens = before.removeprefix(tokens[0]), tokens[1:]
    return tokens


async def paced(tokens: list[str]) -> AsyncIterator[str]:
    """The tokens, `RATE` of them a second by the clock."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    for token in tokens:
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield token
        due += 1 / RATE
