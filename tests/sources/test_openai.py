"""OpenAI's chunks as the real SDK gives them, and real runs against a provider that is not ours (tests/upstream)."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI
from openai.types.responses import response_stream_event
from starlette.responses import Response
from tests.parts import PATIENCE, legal, text_of, until
from tests.upstream.aimock import KEY, Upstream, aimock, cuts, fails, says, stalls
from tests.upstream.tap import Tap, tap

from tidelog import Tidelog, cancel_after
from tidelog import events as e
from tidelog.errors import SourceError
from tidelog.parts import Chunk, Parts
from tidelog.sources.openai import OpenAI
from tidelog.sources.openai_shapes import LONGEST
from tidelog.sources.values import Values
from tidelog.testing import drop, freeze, serve

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[2] / "spec/cases/sources"
CHAT = json.loads((FOLDER / "openai-chat.json").read_text())
RESPONSES = json.loads((FOLDER / "openai-responses.json").read_text())
MODEL = "gpt-5"
HELLO = "Hello, world. 你好"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "input_tokens": 7, "output_tokens": 3}
"""In the words of both APIs."""
Work = Callable[[], AsyncIterator[Any]]


def told(chunks: list[Any]) -> list[Any]:
    values = Values()
    events = [event for chunk in chunks for event in values.feed(chunk)] + list(values.end())
    return [json.loads(e.encode(event)) for event in events]


def replaying(chunks: list[dict[str, Any]]) -> openai.AsyncOpenAI:
    """The SDK, whose every request is answered by these chunks."""
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=body)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return openai.AsyncOpenAI(api_key=KEY, http_client=client)


def client_of(url: str, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def streamed(case: dict[str, Any]) -> bool:
    """Whether the API could send these chunks as a stream."""
    return all("choices" in chunk and not str(chunk["object"]).endswith("completion") for chunk in case["chunks"])


class TestInstances:
    """What the real SDK makes of the recorded chunks means what they mean as dicts."""

    @pytest.mark.parametrize("case", [case for case in CHAT if streamed(case)], ids=lambda case: case["name"])
    async def test_chunks(self, case: dict[str, Any]) -> None:
        async with replaying(case["chunks"]) as client:
            chunks = [c async for c in await client.chat.completions.create(model=MODEL, messages=[], stream=True)]
        assert told(chunks) == case["events"]

    @pytest.mark.parametrize("case", RESPONSES, ids=lambda case: case["name"])
    async def test_events_of_responses(self, case: dict[str, Any]) -> None:
        async with replaying([chunk for chunk in case["chunks"] if "type" in chunk]) as client:
            chunks = [chunk async for chunk in await client.responses.create(model=MODEL, input="", stream=True)]
        whole = [openai.types.responses.Response.construct(**c) for c in case["chunks"] if "type" not in c]
        assert told(chunks + whole) == case["events"]

    @pytest.mark.parametrize("name", ["text and usage", "two calls with streamed arguments, after text", "a refusal"])
    async def test_high_level_streams(self, name: str) -> None:
        [case] = [case for case in CHAT if case["name"] == name]
        async with (
            replaying(case["chunks"]) as client,
            client.chat.completions.stream(model=MODEL, messages=[]) as stream,
        ):
            chunks: list[Any] = [event async for event in stream]
            chunks.append(await stream.get_final_completion())
        assert len(chunks) > len(case["chunks"]) + 1
        assert told(chunks) == case["events"]
        derived = [event for event in chunks[:-1] if event.type != "chunk"]
        kept = ("text.delta", "text.ended")
        assert [x for x in told(derived) if x["type"] in kept] == [x for x in case["events"] if x["type"] in kept]

    async def test_high_level_responses(self) -> None:
        [case] = [case for case in RESPONSES if case["name"] == "two calls with streamed arguments, after text"]
        async with replaying(case["chunks"]) as client, client.responses.stream(model=MODEL, input="") as stream:
            chunks: list[Any] = [event async for event in stream]
            chunks.append(await stream.get_final_response())
        assert told(chunks) == case["events"]

    def test_every_event_of_responses_is_taken(self) -> None:
        kinds = [
            kind
            for name, kind in vars(response_stream_event).items()
            if name.endswith("Event") and isinstance(kind, type)
        ]
        assert len(kinds) > 50
        assert all(OpenAI.takes(kind) for kind in kinds)

    def test_other_models_are_data(self) -> None:
        part = openai.types.chat.ChatCompletionMessage(role="assistant", content="Hi")
        assert told([part])[0]["type"] == "data"


def test_a_choice_of_many_pieces_needs_no_id() -> None:
    """Chunks of a server that tells as little as possible."""
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in "abc"]
    events = told([Chunk("openai", chunk) for chunk in chunks])
    assert [event.get("text") for event in events] == ["a", "b", "c", None, None]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "rate_limit_exceeded", "message": "org-secret"}, "rate_limited"),
        ({"code": 429, "message": "org-secret"}, "rate_limited"),
        ({"type": "overloaded_error", "message": "org-secret"}, "overloaded"),
        ({"code": "server_error", "message": "org-secret"}, "provider_error"),
        ({"code": "invalid_prompt", "message": "org-secret"}, "invalid_request"),
        ({"code": "image_too_large", "message": "org-secret"}, "invalid_request"),
        ({"code": "invalid_api_key", "message": "org-secret"}, "provider_error"),
        ({"code": "vector_store_timeout", "message": "org-secret"}, "timed_out"),
        ("org-secret", "provider_error"),
    ],
)
def test_an_error_in_a_stream_is_raised(error: Any, code: str, caplog: pytest.LogCaptureFixture) -> None:
    """Its words are the provider's: they go to the log, not to the users."""
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error}}
    flat = (
        {"type": "error", **error}
        if isinstance(error, dict) and "type" not in error
        else {"type": "error", "error": error}
    )
    for chunk in ({"error": error, "choices": []}, failed, flat):
        with caplog.at_level(logging.WARNING), pytest.raises(SourceError) as raised:
            list(OpenAI(Parts()).feed(chunk))
        assert raised.value.code == code
        assert "org-secret" not in str(raised.value)
        assert "org-secret" in caplog.text
        caplog.clear()


def test_a_response_that_failed_has_its_usage() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1}
    chunk = {
        "type": "response.failed",
        "response": {"id": "r", "status": "failed", "error": {"code": "x"}, "usage": usage},
    }
    events = iter(OpenAI(Parts()).feed(chunk))
    assert next(events) == e.Usage(input=3, output=1)
    with pytest.raises(SourceError):
        next(events)


def test_what_a_tool_of_the_provider_gives_is_cut() -> None:
    item = {
        "id": "m",
        "type": "mcp_call",
        "name": "read",
        "arguments": "{}",
        "output": "x" * (LONGEST + 1),
        "status": "completed",
    }
    [*_, ended] = OpenAI(Parts()).feed({"type": "response.output_item.done", "output_index": 0, "item": item})
    assert isinstance(ended, e.ToolEnded)
    assert ended.output == "x" * LONGEST + "…"


@pytest.mark.parametrize("case", CHAT + RESPONSES, ids=lambda case: case["name"])
def test_a_stream_may_be_cut_anywhere(case: dict[str, Any]) -> None:
    """What came before the cut stays, and what is open is ended."""
    for cut in range(len(case["chunks"])):
        events = told([Chunk("openai", chunk) for chunk in case["chunks"][:cut]])
        opened = {
            (x["type"].partition(".")[0], x["part"])
            for x in events
            if x["type"].endswith("g.delta") or x["type"] == "text.delta"
        }
        ended = [
            (x["type"].partition(".")[0], x["part"]) for x in events if x["type"] in ("text.ended", "reasoning.ended")
        ]
        assert sorted(ended) == sorted(opened)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    calls = [{"id": "t1", "name": "add", "arguments": {"a": 1, "b": 2}}, {"id": "t2", "name": "now", "arguments": {}}]
    with aimock(
        says("text", content=HELLO, chunkSize=3, usage=USAGE),
        says("think", content="42", reasoning="Six by seven."),
        says("tools", hasToolResult=True, content="Five."),
        says("tools", content="Both.", toolCalls=calls),
        says("search", content="Found.", webSearches=["tides"]),
        says("flood", content="x" * 400_000, chunkSize=4000),
        fails("busy", 429, retry_after=7),
        fails("broken", 500),
        fails("full", 503),
        cuts("cut", after=5, content="Hello, world."),
        stalls("stall", after=5, content="Hello, world."),
        stalls("silent", after=0, content="Hello, world."),
    ) as upstream:  # fmt: skip
        yield upstream


async def chatting(client: openai.AsyncOpenAI, ask: str, **more: Any) -> AsyncIterator[Any]:
    messages = more.pop("messages", [{"role": "user", "content": ask}])
    options: Any = {"stream_options": {"include_usage": True}, **more}
    async for chunk in await client.chat.completions.create(model=MODEL, messages=messages, stream=True, **options):
        yield chunk


async def responding(client: openai.AsyncOpenAI, ask: str, **more: Any) -> AsyncIterator[Any]:
    async for event in await client.responses.create(model=MODEL, input=ask, stream=True, **more):
        yield event


APIS = pytest.mark.parametrize("api", [chatting, responding], ids=["chat", "responses"])
Api = Callable[..., AsyncIterator[Any]]


def asking(api: Api, url: str, ask: str, *, key: str = KEY, **more: Any) -> Work:
    """Work that yields every chunk of one answer, as applications write it."""

    async def work() -> AsyncIterator[Any]:
        async with client_of(url, key) as client:
            async for chunk in api(client, ask, **more):
                yield chunk

    return work


async def ran(work: Work, **options: Any) -> list[e.AnyEvent]:
    """The events of a whole run behind `run.started`."""
    tide = Tidelog("memory:")
    try:
        run = await tide.start(work, **options)
        await asyncio.wait_for(run.wait(), PATIENCE)
        return (await legal(tide.runner.store, run.id))[1:]
    finally:
        await tide.aclose()


def ending(events: list[e.AnyEvent]) -> e.RunEnded:
    assert isinstance(events[-1], e.RunEnded)
    return events[-1]


class TestRuns:
    @APIS
    async def test_text_and_usage(self, upstream: Upstream, api: Api) -> None:
        events = await ran(asking(api, upstream.url, "text"))
        assert text_of(events) == HELLO
        assert sum(isinstance(event, e.TextDelta) for event in events) > 3
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["stop"]
        assert (ending(events).outcome, ending(events).usage) == ("completed", e.TokenUsage(7, 3, "provider"))

    async def test_a_stream_as_it_comes(self, upstream: Upstream) -> None:
        """Without a generator around it."""
        async with client_of(upstream.url) as client:
            stream = await client.responses.create(model=MODEL, input="text", stream=True)
            assert text_of(await ran(stream)) == HELLO  # type: ignore[arg-type]

    async def test_usage_that_was_not_asked_for_is_estimated(self, upstream: Upstream) -> None:
        events = await ran(asking(chatting, upstream.url, "text", stream_options=openai.omit))
        assert text_of(events) == HELLO
        assert ending(events).usage == e.TokenUsage(0, 6, "estimated")

    @APIS
    async def test_reasoning(self, upstream: Upstream, api: Api) -> None:
        events = await ran(asking(api, upstream.url, "think"))
        kinds = list(dict.fromkeys(type(event) for event in events))
        assert kinds[:4] == [e.ReasoningDelta, e.ReasoningEnded, e.TextDelta, e.TextEnded]
        assert "".join(event.text for event in events if isinstance(event, e.ReasoningDelta)) == "Six by seven."
        assert text_of(events) == "42"

    async def test_a_search_of_the_provider(self, upstream: Upstream) -> None:
        events = await ran(asking(responding, upstream.url, "search"))
        started, given, ended = (
            event for event in events if isinstance(event, e.ToolStarted | e.ToolInput | e.ToolEnded)
        )
        assert isinstance(started, e.ToolStarted) and started.name == "web_search"
        assert isinstance(given, e.ToolInput) and given.input == {"type": "search", "query": "tides"}
        assert isinstance(ended, e.ToolEnded) and ended.outcome == "completed"
        assert text_of(events) == "Found."

    async def test_two_calls_answered_by_the_application(self, upstream: Upstream) -> None:
        """A loop as applications write it: both calls are made, and the model goes on."""

        async def work() -> AsyncIterator[Any]:
            messages: list[Any] = [{"role": "user", "content": "tools"}]
            async with client_of(upstream.url) as client:
                for _ in range(2):
                    async with client.chat.completions.stream(model=MODEL, messages=messages) as stream:
                        async for event in stream:
                            yield event
                        message = (await stream.get_final_completion()).choices[0].message
                    messages.append(message.model_dump(exclude_none=True))
                    for call in message.tool_calls or ():
                        yield e.ToolEnded(call=call.id, output=f"{call.function.name}!")
                        messages.append({"role": "tool", "tool_call_id": call.id, "content": "!"})

        events = await ran(work)
        assert_both_calls(events)
        assert text_of(events) == "Both.Five."
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["tool_calls", "stop"]
        assert ending(events).outcome == "completed"

    async def test_two_calls_of_a_response(self, upstream: Upstream) -> None:
        async def work() -> AsyncIterator[Any]:
            async with client_of(upstream.url) as client:
                async for event in responding(client, "tools"):
                    yield event
                    if event.type == "response.completed":
                        for item in event.response.output:
                            if item.type == "function_call":
                                yield e.ToolEnded(call=item.call_id, output=f"{item.name}!")

        events = await ran(work)
        assert_both_calls(events)
        assert text_of(events) == "Both."

    @APIS
    @pytest.mark.parametrize(
        ("ask", "code", "after"),
        [("busy", "rate_limited", 7.0), ("broken", "provider_error", None), ("full", "overloaded", None)],
    )
    async def test_a_refused_request(
        self, upstream: Upstream, api: Api, ask: str, code: str, after: float | None
    ) -> None:
        end = ending(await ran(asking(api, upstream.url, ask)))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retryable, end.error.retry_after) == (code, True, after)

    async def test_a_wrong_key(self, upstream: Upstream) -> None:
        error = ending(await ran(asking(chatting, upstream.url, "text", key="wrong"))).error
        assert error is not None
        assert error.code == "provider_error"
        assert "refused the key" in error.message

    async def test_a_server_that_is_not_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        error = ending(await ran(asking(chatting, url, "text"))).error
        assert error is not None
        assert error.code == "provider_error"
        assert "reached" in error.message

    @APIS
    async def test_a_connection_that_is_cut(self, upstream: Upstream, api: Api) -> None:
        events = await ran(asking(api, upstream.url, "cut"))
        assert text_of(events) and HELLO.startswith(text_of(events))
        end = ending(events)
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retryable) == ("provider_error", True)
        assert end.usage.source == "estimated"
        assert end.usage.output

    @APIS
    async def test_a_stall(self, upstream: Upstream, api: Api) -> None:
        events = await ran(asking(api, upstream.url, "stall"), gap_timeout=0.3)
        assert text_of(events) and HELLO.startswith(text_of(events))
        assert ending(events).outcome == "timed_out"

    @APIS
    async def test_a_stop(self, upstream: Upstream, api: Api) -> None:
        """The text so far stays, and the provider's connection is let go."""
        tide = Tidelog("memory:")
        with tap(upstream.url) as line:
            run = await tide.start(asking(api, line.url, "stall"))
            await until(lambda: run.last >= 2)
            run.stop()
            await asyncio.wait_for(run.wait(), PATIENCE)
            await asyncio.to_thread(line.wait, left=1)
            events = await legal(tide.runner.store, run.id)
        await tide.aclose()
        assert text_of(events)
        assert ending(events).outcome == "stopped"

    async def test_streams_at_once_do_not_mix(self, upstream: Upstream) -> None:
        async def work() -> AsyncIterator[Any]:
            async with client_of(upstream.url) as client:
                streams = [chatting(client, "text"), responding(client, "text"), chatting(client, "think")]
                while streams:
                    for stream in list(streams):
                        try:
                            yield await anext(stream)
                        except StopAsyncIteration:
                            streams.remove(stream)

        events = await ran(work)
        texts = {
            part: "".join(x.text for x in events if isinstance(x, e.TextDelta) and x.part == part)
            for part in ("p1", "p2", "p3")
        }
        assert sorted(texts.values()) == ["42", HELLO, HELLO]
        assert ending(events).usage.source == "provider"
        assert ending(events).usage.input >= 14


def assert_both_calls(events: list[e.AnyEvent]) -> None:
    calls = [event for event in events if isinstance(event, e.ToolStarted | e.ToolInput | e.ToolEnded)]
    assert sorted(calls, key=lambda event: event.call) == [
        e.ToolStarted(call="t1", name="add"),
        e.ToolInput(call="t1", input={"a": 1, "b": 2}),
        e.ToolEnded(call="t1", output="add!"),
        e.ToolStarted(call="t2", name="now"),
        e.ToolInput(call="t2", input={}),
        e.ToolEnded(call="t2", output="now!"),
    ]
    for call, given in (("t1", {"a": 1, "b": 2}), ("t2", {})):
        pieces = [event.json for event in events if isinstance(event, e.ToolInputDelta) and event.call == call]
        assert json.loads("".join(pieces)) == given


class TestLeaving:
    """With `cancel_after(0)`, the upstream sees its connection closed when the last viewer has left, whatever the run does.

    The garbage collector is off: nothing must wait for it.
    """

    @pytest.fixture(autouse=True)
    def _no_garbage_collector(self) -> Iterator[None]:
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.fixture
    def line(self, upstream: Upstream) -> Iterator[Tap]:
        with tap(upstream.url) as line:
            yield line

    @APIS
    def test_before_the_first_token(self, line: Tap, api: Api) -> None:
        with serve(self.app(asking(api, line.url, "silent"), status_hold=0.0)) as server:
            viewer = server.watch("/chat")
            line.wait(opened=1)
            viewer.drop()
            line.wait(left=1)

    @APIS
    def test_in_mid_token(self, line: Tap, api: Api) -> None:
        with serve(self.app(asking(api, line.url, "stall"))) as server:
            drop(f"{server.url}/chat", after=2)
            line.wait(left=1)

    @APIS
    def test_in_a_tool_call(self, line: Tap, api: Api) -> None:
        """The stream is still open while the application works on what it has asked for."""
        begun = asyncio.Event()

        async def work() -> AsyncIterator[Any]:
            async for chunk in asking(api, line.url, "stall")():
                yield chunk
                if not begun.is_set():
                    begun.set()
                    yield e.ToolStarted(call="slow", name="slow")
                    await asyncio.sleep(3600)

        with serve(self.app(work)) as server:
            drop(f"{server.url}/chat", after=2)
            line.wait(left=1)

    @APIS
    def test_behind_a_blocked_reader(self, line: Tap, api: Api) -> None:
        """The run waits for a viewer that takes nothing, and does not pull meanwhile; then the viewer goes."""
        with serve(self.app(asking(api, line.url, "flood"), lockstep=1000)) as server:
            viewer = freeze(f"{server.url}/chat", after=1)
            line.wait(opened=1, sent=4000)
            viewer.drop()
            line.wait(left=1)

    def app(self, work: Work, **options: Any) -> FastAPI:
        tide = Tidelog("memory:", drain_timeout=0.0)
        app = FastAPI()
        app.include_router(tide.router)

        @app.get("/chat")
        async def chat() -> Response:
            return tide.response(work, on_leave=cancel_after(0), **options)

        return app
