"""Anthropic's chunks: the recorded ones through the real SDK, and real runs against a provider that is not ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import types
from anthropic.lib.streaming import _beta_types, _types
from anthropic.types import beta
from tests.parts import PATIENCE, legal, text_of, until
from tests.upstream.aimock import KEY, Upstream, aimock, fails, says, stalls
from tests.upstream.tap import tap

from tidelog import Tidelog
from tidelog import events as e
from tidelog.errors import SENTENCES, SourceError
from tidelog.grammar import Grammar
from tidelog.parts import Chunk, Parts
from tidelog.sources.anthropic import LONGEST, Anthropic
from tidelog.sources.values import Values

pytestmark = pytest.mark.anyio

CASES = json.loads((Path(__file__).parents[2] / "spec/cases/sources/anthropic.json").read_text())
MODEL = "claude-sonnet-5"
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 1000}
RAW = {
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
}


def told(chunks: list[Any]) -> list[Any]:
    values = Values()
    events = [event for chunk in chunks for event in values.feed(chunk)] + list(values.end())
    return [json.loads(e.encode(event)) for event in events]


def replaying(chunks: list[dict[str, Any]]) -> anthropic.AsyncAnthropic:
    """The SDK, whose every request is answered by these chunks."""
    body = "".join(f"event: {chunk['type']}\ndata: {json.dumps(chunk)}\n\n" for chunk in chunks)

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return anthropic.AsyncAnthropic(api_key=KEY, http_client=client)


def plain(case: dict[str, Any]) -> list[dict[str, Any]]:
    """What the API sends of this case: without what the SDK derives."""
    return [
        {key: chunk[key] for key in chunk if key != "content_block" or chunk["type"] == "content_block_start"}
        for chunk in case["chunks"] if chunk["type"] in RAW | {"ping"}
    ]  # fmt: skip


WHOLE = [case for case in CASES if plain(case)[:1] and plain(case)[0]["type"] == "message_start"]
"""Cases that the API could send."""


class TestInstances:
    """What the real SDK makes of the recorded chunks."""

    @pytest.mark.parametrize("case", WHOLE, ids=lambda case: case["name"])
    async def test_raw_events(self, case: dict[str, Any]) -> None:
        async with replaying(plain(case)) as client:
            stream = await client.messages.create(**ASK, messages=[], stream=True)
            chunks = [chunk async for chunk in stream]
        assert not any(isinstance(chunk, dict) for chunk in chunks)
        assert told(chunks) == case["events"]

    @pytest.mark.parametrize(
        "case",
        [case for case in WHOLE if sum(chunk["type"] == "message_start" for chunk in case["chunks"]) == 1 and
         "hologram" not in str(case)],
        ids=lambda case: case["name"],
    )  # fmt: skip
    async def test_the_stream_with_snapshots(self, case: dict[str, Any]) -> None:
        async with replaying(plain(case)) as client, client.messages.stream(**ASK, messages=[]) as stream:
            chunks: list[Any] = [chunk async for chunk in stream]
            chunks.append(await stream.get_final_message())
        kinds = {type(chunk).__name__.partition("[")[0] for chunk in chunks}
        assert "ParsedMessageStopEvent" in kinds or "no end" in case["name"]
        assert told(chunks) == case["events"]

    async def test_the_beta(self) -> None:
        case = next(case for case in CASES if "messages.stream()" in case["name"])
        async with replaying(plain(case)) as client:
            stream = await client.beta.messages.create(**ASK, messages=[], stream=True)
            raw = [chunk async for chunk in stream]
            async with client.beta.messages.stream(**ASK, messages=[]) as events:
                derived = [chunk async for chunk in events]
        assert told(raw) == told(derived) == case["events"]

    async def test_only_derived_events(self) -> None:
        whole = next(case for case in CASES if "messages.stream()" in case["name"])
        case = next(case for case in CASES if case["name"] == "only derived events")
        async with replaying(plain(whole)) as client, client.messages.stream(**ASK, messages=[]) as stream:
            chunks = [chunk async for chunk in stream if chunk.type not in RAW]
        assert told(chunks) == case["events"]

    def test_what_is_a_chunk(self) -> None:
        chunks = [
            types.RawMessageStartEvent, types.RawContentBlockDeltaEvent, types.RawMessageStopEvent, types.Message,
            beta.BetaRawMessageDeltaEvent, beta.BetaRawContentBlockStartEvent, beta.BetaMessage,
            _types.TextEvent, _types.InputJsonEvent, _types.ParsedMessageStopEvent, _beta_types.ParsedBetaTextEvent,
        ]  # fmt: skip
        others = [
            types.TextBlock,
            types.Usage,
            types.TextDelta,
            types.ModelInfo,
            anthropic.AsyncAnthropic,
            types.MessageTokensCount,
        ]
        assert [kind for kind in chunks if not Anthropic.takes(kind)] == []
        assert [kind for kind in others if Anthropic.takes(kind)] == []
        block = types.TextBlock(type="text", text="x")
        assert list(Values().feed(block)) == [e.Data(name="TextBlock", data=block.model_dump(mode="json"))]


@pytest.mark.parametrize(
    ("kind", "code"),
    [("overloaded_error", "overloaded"), ("rate_limit_error", "rate_limited"), ("api_error", "provider_error"),
     ("invalid_request_error", "invalid_request"), ("timeout_error", "timed_out"), ("of_tomorrow", "provider_error")],
)  # fmt: skip
def test_an_error_in_the_stream_is_raised(kind: str, code: str, caplog: pytest.LogCaptureFixture) -> None:
    chunk = {"type": "error", "error": {"type": kind, "message": "It went wrong."}}
    with pytest.raises(SourceError) as raised:
        list(Values().feed(Chunk("anthropic", chunk)))
    assert (raised.value.code, str(raised.value)) == (code, SENTENCES[code])
    assert f"It went wrong. ({kind})" in caplog.text


def test_a_page_that_the_provider_fetched_is_cut() -> None:
    page = {"type": "web_fetch_result", "content": {"source": {"data": "x" * 1_000_000}}, "encrypted_content": "y" * 9}
    block = {"type": "web_fetch_tool_result", "tool_use_id": "s1", "content": page}
    *_, ended = Anthropic(Parts()).feed({"type": "content_block_start", "index": 0, "content_block": block})
    assert isinstance(ended, e.ToolEnded)
    assert ended.output == {"type": "web_fetch_result", "content": {"source": {"data": "x" * LONGEST + "…"}}}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_stream_may_be_cut_anywhere_before_the_next(case: dict[str, Any]) -> None:
    for cut in range(len(case["chunks"])):
        values, grammar = Values(), Grammar()
        grammar.accept(e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1))
        for chunk in (*case["chunks"][:cut], *case["chunks"]):
            for event in values.feed(Chunk("anthropic", chunk)):
                grammar.accept(event)
        for event in values.end():
            grammar.accept(event)


# Against aimock


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("text", content="Hello, world. 你好", chunkSize=3, usage={"input_tokens": 7, "output_tokens": 3}),
        says("think", content="42", reasoning="Six by seven."),
        says("tools", hasToolResult=True, content="Five."),
        says("tools", content="Both.", toolCalls=[
            {"id": "t1", "name": "add", "arguments": {"a": 1, "b": 2}}, {"id": "t2", "name": "now", "arguments": {}},
        ]),
        fails("busy", 429, retry_after=7),
        fails("broken", 500),
        fails("full", 529),
        says("cut", content="Hello, world.", truncateAfterChunks=5, latency=10, usage={"input_tokens": 7, "output_tokens": 3}),
        stalls("stall", after=5, content="Hello, world."),
    ) as upstream:  # fmt: skip
        yield upstream


def client_of(url: str, key: str = KEY) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0)


Work = Callable[[], AsyncIterator[Any]]


def asking(url: str, ask: str, *, key: str = KEY) -> Work:
    """Work that yields every raw event of one answer."""

    async def work() -> AsyncIterator[Any]:
        async with client_of(url, key) as client:
            messages: Any = [{"role": "user", "content": ask}]
            async with await client.messages.create(**ASK, messages=messages, stream=True) as stream:
                async for event in stream:
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


class TestUpstream:
    @pytest.mark.parametrize("high", [False, True])
    async def test_text_and_usage(self, upstream: Upstream, high: bool) -> None:
        async def stream() -> AsyncIterator[Any]:
            async with client_of(upstream.url) as client:
                messages: Any = [{"role": "user", "content": "text"}]
                async with client.messages.stream(**ASK, messages=messages) as stream:
                    async for event in stream:
                        yield event

        events = await ran(stream if high else asking(upstream.url, "text"))
        assert text_of(events) == "Hello, world. 你好"
        assert {event.part for event in events if isinstance(event, e.TextDelta)} == {"p1"}
        assert sum(isinstance(event, e.TextDelta) for event in events) > 3
        assert events[-2] == e.Finish(reason="stop", raw="end_turn", model=MODEL)
        assert (ending(events).outcome, ending(events).usage) == ("completed", e.TokenUsage(7, 3, "provider"))

    async def test_reasoning(self, upstream: Upstream) -> None:
        events = await ran(asking(upstream.url, "think"))
        kinds = list(dict.fromkeys(type(event) for event in events))
        assert kinds[:4] == [e.ReasoningDelta, e.ReasoningEnded, e.TextDelta, e.TextEnded]
        assert "".join(event.text for event in events if isinstance(event, e.ReasoningDelta)) == "Six by seven."
        assert text_of(events) == "42"
        assert ending(events).usage.source == "estimated"

    async def test_two_calls_answered_by_the_application(self, upstream: Upstream) -> None:
        """A loop as applications write it: both calls are made, and the model goes on."""
        tools: Any = [{"name": name, "input_schema": {"type": "object"}} for name in ("add", "now")]

        async def work() -> AsyncIterator[Any]:
            messages: Any = [{"role": "user", "content": "tools"}]
            async with client_of(upstream.url) as client:
                for _ in range(2):
                    async with client.messages.stream(**ASK, messages=messages, tools=tools) as stream:
                        async for event in stream:
                            yield event
                        message = await stream.get_final_message()
                    calls = [block for block in message.content if block.type == "tool_use"]
                    for call in calls:
                        yield e.ToolEnded(call=call.id, output=f"{call.name}!")
                    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "!"} for call in calls]
                    messages += [
                        {"role": "assistant", "content": message.content},
                        {"role": "user", "content": results},
                    ]

        events = await ran(work)
        assert [event for event in events if isinstance(event, e.ToolStarted | e.ToolInput | e.ToolEnded)] == [
            e.ToolStarted(call="t1", name="add"), e.ToolInput(call="t1", input={"a": 1, "b": 2}),
            e.ToolStarted(call="t2", name="now"), e.ToolInput(call="t2", input={}),
            e.ToolEnded(call="t1", output="add!"), e.ToolEnded(call="t2", output="now!"),
        ]  # fmt: skip
        for call, input in (("t1", {"a": 1, "b": 2}), ("t2", {})):
            pieces = [event.json for event in events if isinstance(event, e.ToolInputDelta) and event.call == call]
            assert json.loads("".join(pieces)) == input
        assert text_of(events) == "Both.Five."
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["tool_calls", "stop"]
        assert ending(events).outcome == "completed"

    @pytest.mark.parametrize(
        ("ask", "code", "after"),
        [("busy", "rate_limited", 7.0), ("broken", "provider_error", None), ("full", "overloaded", None)],
    )
    async def test_a_refused_request(self, upstream: Upstream, ask: str, code: str, after: float | None) -> None:
        end = ending(await ran(asking(upstream.url, ask)))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retryable, end.error.retry_after) == (code, True, after)

    async def test_a_wrong_key(self, upstream: Upstream) -> None:
        end = ending(await ran(asking(upstream.url, "text", key="wrong")))
        assert end.error is not None
        assert end.error.code == "provider_error"
        assert "key" in end.error.message

    async def test_a_connection_that_is_cut(self, upstream: Upstream) -> None:
        events = await ran(asking(upstream.url, "cut"))
        assert text_of(events)
        assert "Hello, world.".startswith(text_of(events))
        end = ending(events)
        assert (end.outcome, end.error and end.error.code) == ("failed", "provider_error")
        assert end.usage.input == 7
        assert end.usage.source == "estimated"

    async def test_a_stall(self, upstream: Upstream) -> None:
        events = await ran(asking(upstream.url, "stall"), gap_timeout=0.3)
        assert "Hello, world.".startswith(text_of(events) or "-")
        assert ending(events).outcome == "timed_out"

    async def test_a_stop(self, upstream: Upstream) -> None:
        """The text so far stays, and the provider's connection is let go."""
        with tap(upstream.url) as line:
            tide = Tidelog("memory:")
            run = await tide.start(asking(line.url, "stall"))
            await until(lambda: run.last >= 2)
            run.stop()
            await asyncio.wait_for(run.wait(), PATIENCE)
            await asyncio.to_thread(line.wait, left=1)
            events = await legal(tide.runner.store, run.id)
            await tide.aclose()
        assert text_of(events)
        assert ending(events).outcome == "stopped"
