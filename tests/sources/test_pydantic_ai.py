"""pydantic-ai's events: the recorded ones as instances, the library's own models, and real ones against a provider."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pydantic
import pytest
from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    AgentStreamEvent,
    BinaryContent,
    CustomEvent,
    DeferredToolRequests,
    ModelRetry,
    RunContext,
    RunUsage,
    TextOutput,
)  # fmt: skip
from pydantic_ai import messages as m
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from tests.parts import PATIENCE, legal, text_of, until
from tests.upstream.aimock import KEY, Upstream, aimock, fails, says, stalls
from tests.upstream.tap import tap

from tidelog import Tidelog
from tidelog import events as e
from tidelog.grammar import Grammar
from tidelog.parts import Chunk
from tidelog.sources.pydantic_ai import PydanticAI
from tidelog.sources.values import Values

pytestmark = pytest.mark.anyio

CASES = json.loads((Path(__file__).parents[2] / "spec/cases/sources/pydantic_ai.json").read_text())
UNKNOWN = ("of_tomorrow", "hologram")


@dataclass(kw_only=True)
class Progress(CustomEvent, name="progress"):
    done: int
    total: int


@dataclass(kw_only=True)
class Private(CustomEvent, ui=False):
    secret: str


class City(pydantic.BaseModel):
    name: str


def told(chunks: list[Any]) -> list[Any]:
    values = Values()
    events = [event for chunk in chunks for event in values.feed(chunk)] + list(values.end())
    return [json.loads(e.encode(event)) for event in events]


async def chunks_of(agent: Agent[Any, Any], ask: str = "Hi", **more: Any) -> list[Any]:
    async with agent.run_stream_events(ask, **more) as events:
        return [event async for event in events]


class TestInstances:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_recorded_events(self, case: dict[str, Any]) -> None:
        known = [chunk for chunk in case["chunks"] if not any(word in str(chunk) for word in UNKNOWN)]
        chunks = pydantic.TypeAdapter(list[AgentStreamEvent | AgentRunResultEvent[Any]]).validate_python(known)
        assert told(chunks) == case["events"]

    def test_what_is_a_chunk(self) -> None:
        chunks = [
            m.PartStartEvent,
            m.FunctionToolResultEvent,
            m.RealtimeTurnCompleteEvent,
            CustomEvent,
            AgentRunResultEvent,
        ]
        others = [m.TextPart, m.ModelResponse, RunUsage, Agent, DeferredToolRequests, Progress]
        assert [kind for kind in chunks if not PydanticAI.takes(kind)] == []
        assert [kind for kind in others if PydanticAI.takes(kind)] == []
        assert told([m.RealtimeTurnCompleteEvent()]) == []

    def test_events_of_the_application(self) -> None:
        assert told([Progress(done=1, total=2, tool_call_id="t"), Private(secret="x")]) == [
            {"type": "data", "data": {"done": 1, "total": 2}, "name": "progress"}
        ]

    def test_files_are_named(self) -> None:
        picture = BinaryContent(b"x" * 1000, media_type="image/png")
        found = told([m.PartStartEvent(index=0, part=m.FilePart(content=picture))])
        assert found == [{"type": "data", "data": {"media_type": "image/png", "bytes": 1000}, "name": "file"}]


class TestAgents:
    """The library's own agents, with models of its own for tests."""

    async def test_reasoning_calls_and_results(self) -> None:
        async def answer(messages: list[m.ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            if len(messages) == 1:
                yield {0: DeltaThinkingPart(content="Hm.")}
                yield {1: DeltaToolCall(name="near", json_args='{"city": "Pa', tool_call_id="t1")}
                yield {2: DeltaToolCall(name="fails", json_args="{}", tool_call_id="t2")}
                yield {1: DeltaToolCall(json_args='ris"}')}
            else:
                yield "Lyon"
                yield "."

        agent = Agent(FunctionModel(stream_function=answer))

        @agent.tool_plain
        def near(city: str) -> list[City]:
            return [City(name=f"not {city}")]

        @agent.tool
        async def fails(ctx: RunContext[None]) -> str:
            await ctx.emit(Progress(done=1, total=1))
            raise ModelRetry("Try again.")

        events = told(await chunks_of(agent))
        tools = {event["call"]: [] for event in events if "call" in event}
        for event in events:
            if "call" in event:
                tools[event["call"]].append(event)
        assert [event["type"] for event in tools["t1"]] == [
            "tool.started", "tool.input.delta", "tool.input.delta", "tool.input", "tool.ended",
        ]  # fmt: skip
        assert tools["t1"][3]["input"] == {"city": "Paris"}
        assert tools["t1"][4]["output"] == [{"name": "not Paris"}]
        assert (tools["t2"][-1]["outcome"], tools["t2"][-1]["error"]) == ("failed", "Try again.")
        assert {"type": "data", "data": {"done": 1, "total": 1}, "name": "progress"} in events
        assert "".join(event["text"] for event in events if event["type"] == "text.delta") == "Lyon."
        assert [event["type"] for event in events].count("usage") == 1

    async def test_structured_output(self) -> None:
        *_, output, usage = told(await chunks_of(Agent(TestModel(), output_type=City)))
        assert output == {"type": "data", "data": {"name": "a"}, "name": "output"}
        assert usage["source"] == "provider"

    async def test_text_that_becomes_something_else(self) -> None:
        def loud(text: str) -> str:
            return text.upper()

        events = told(await chunks_of(Agent(TestModel(custom_output_text="abc"), output_type=TextOutput(loud))))
        assert [event["data"] for event in events if event["type"] == "data"] == ["ABC"]

    async def test_calls_that_wait_for_an_approval(self) -> None:
        agent = Agent(TestModel(), output_type=[str, DeferredToolRequests])

        @agent.tool_plain(requires_approval=True)
        def erase() -> str:
            raise AssertionError("not approved")

        events = told(await chunks_of(agent))
        assert [event["type"] for event in events[:2]] == ["tool.started", "tool.input"]
        (output,) = (event["data"] for event in events if event["type"] == "data")
        assert [call["tool_name"] for call in output["approvals"]] == ["erase"]

    async def test_a_usage_that_two_agents_share_counts_once(self) -> None:
        usage, agent = RunUsage(), Agent(TestModel())
        events = told([*await chunks_of(agent, usage=usage), *await chunks_of(agent, usage=usage)])
        last = [event for event in events if event["type"] == "usage"][-1]
        assert (last["input"], last["output"]) == (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_stream_may_be_cut_anywhere_before_the_next(case: dict[str, Any]) -> None:
    for cut in range(len(case["chunks"])):
        values, grammar = Values(), Grammar()
        grammar.accept(e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1))
        for chunk in (*case["chunks"][:cut], *case["chunks"]):
            for event in values.feed(Chunk("pydantic_ai", chunk)):
                grammar.accept(event)
        for event in values.end():
            grammar.accept(event)


# Against aimock


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("text", content="Hello, world. 你好", usage={"input_tokens": 7, "output_tokens": 3}),
        says("think", content="42", reasoning="Six by seven."),
        says("tools", hasToolResult=True, content="Both are 3.", usage={"input_tokens": 20, "output_tokens": 5}),
        says("tools", usage={"input_tokens": 10, "output_tokens": 4}, toolCalls=[
            {"id": "t1", "name": "add", "arguments": {"a": 1, "b": 2}}, {"id": "t2", "name": "three", "arguments": {}},
        ]),
        fails("busy", 429, retry_after=7),
        fails("broken", 500),
        fails("full", 529),
        says("cut", content="Hello, world.", truncateAfterChunks=5, latency=10),
        stalls("stall", after=5, content="Hello, world."),
    ) as upstream:  # fmt: skip
        yield upstream


@asynccontextmanager
async def claude(url: str, key: str = KEY) -> AsyncIterator[Model]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
        yield AnthropicModel("claude-sonnet-5", provider=AnthropicProvider(anthropic_client=client))


@asynccontextmanager
async def gpt(url: str, key: str = KEY) -> AsyncIterator[Model]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        yield OpenAIChatModel("gpt-5", provider=OpenAIProvider(openai_client=client))


def agent_of(model: Model) -> Agent[None, str]:
    agent = Agent(model)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    @agent.tool_plain
    async def three() -> dict[str, int]:
        return {"is": 3}

    return agent


Work = Callable[[], AsyncIterator[Any]]
Opening = AbstractAsyncContextManager[Model]


def asking(opening: Opening, ask: str) -> Work:
    """Work that yields every event of one agent's run."""

    async def work() -> AsyncIterator[Any]:
        async with opening as model, agent_of(model).run_stream_events(ask) as events:
            async for event in events:
                yield event

    return work


async def ran(work: Work, **limits: Any) -> list[e.AnyEvent]:
    """The events of a whole run, between `run.started` and its end."""
    tide = Tidelog("memory:")
    try:
        run = await tide.start(work, **limits)
        await asyncio.wait_for(run.wait(), PATIENCE)
        return (await legal(tide.runner.store, run.id))[1:]
    finally:
        await tide.aclose()


def ending(events: list[e.AnyEvent]) -> e.RunEnded:
    assert isinstance(events[-1], e.RunEnded)
    return events[-1]


@pytest.mark.parametrize("model", [claude, gpt])
class TestUpstream:
    async def test_text_and_usage(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        events = await ran(asking(model(upstream.url), "text"))
        assert text_of(events) == "Hello, world. 你好"
        assert not any(isinstance(event, e.Data) for event in events)
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["stop"]
        assert (ending(events).outcome, ending(events).usage) == ("completed", e.TokenUsage(7, 3, "provider"))

    async def test_reasoning(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        events = await ran(asking(model(upstream.url), "think"))
        assert "".join(event.text for event in events if isinstance(event, e.ReasoningDelta)) == "Six by seven."
        assert text_of(events) == "42"

    async def test_two_calls_at_once(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        events = await ran(asking(model(upstream.url), "tools"))
        assert [event for event in events if isinstance(event, e.ToolInput)] == [
            e.ToolInput(call="t1", input={"a": 1, "b": 2}), e.ToolInput(call="t2", input={}),
        ]  # fmt: skip
        ended = {event.call: event.output for event in events if isinstance(event, e.ToolEnded)}
        assert ended == {"t1": 3, "t2": {"is": 3}}
        assert any(isinstance(event, e.ToolInputDelta) for event in events)
        assert text_of(events) == "Both are 3."
        assert ending(events).usage == e.TokenUsage(30, 9, "provider")

    @pytest.mark.parametrize(
        ("ask", "code", "after"),
        [("busy", "rate_limited", 7.0), ("broken", "provider_error", None), ("full", "overloaded", None)],
    )
    async def test_a_refused_request(
        self, upstream: Upstream, model: Callable[..., Opening], ask: str, code: str, after: float | None
    ) -> None:
        end = ending(await ran(asking(model(upstream.url), ask)))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retryable, end.error.retry_after) == (code, True, after)

    async def test_a_wrong_key(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        end = ending(await ran(asking(model(upstream.url, "wrong"), "text")))
        assert end.error is not None
        assert end.error.code == "provider_error"
        assert "key" in end.error.message

    async def test_a_connection_that_is_cut(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        events = await ran(asking(model(upstream.url), "cut"))
        assert text_of(events)
        assert "Hello, world.".startswith(text_of(events))
        end = ending(events)
        assert (end.outcome, end.error and end.error.code) == ("failed", "provider_error")
        assert end.usage.source == "estimated"

    async def test_a_stall(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        events = await ran(asking(model(upstream.url), "stall"), gap_timeout=0.5)
        assert ending(events).outcome == "timed_out"

    async def test_a_stop(self, upstream: Upstream, model: Callable[..., Opening]) -> None:
        """The text so far stays, and the provider's connection is let go."""
        with tap(upstream.url) as line:
            tide = Tidelog("memory:")
            run = await tide.start(asking(model(line.url), "stall"))
            await until(lambda: run.last >= 2)
            run.stop()
            await asyncio.wait_for(run.wait(), PATIENCE)
            await asyncio.to_thread(line.wait, left=1)
            events = await legal(tide.runner.store, run.id)
            await tide.aclose()
        assert text_of(events)
        assert ending(events).outcome == "stopped"
