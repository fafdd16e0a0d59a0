"""LangChain's streams as the real packages give them, and real runs of its models against a provider that is not ours."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core import documents, language_models, messages, outputs, prompt_values
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_core.runnables.utils import AddableDict
from langchain_core.tools import tool
from langchain_core.tracers.log_stream import RunLogPatch
from tests.parts import PATIENCE, legal, text_of, until
from tests.sources.langchain_parts import Recorded, answer, calling, openai_of, rebuilt, split, told
from tests.sources.test_cases import merged
from tests.upstream.aimock import KEY, Upstream, aimock, cuts, fails, says, stalls
from tests.upstream.tap import tap

from tidelog import Tidelog
from tidelog import events as e
from tidelog.errors import SourceError
from tidelog.parts import Chunk, Parts
from tidelog.sources.langchain import LangChain
from tidelog.sources.langchain_values import LONGEST
from tidelog.sources.values import Values

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[2] / "spec/cases/sources"
FILES = ("langchain", "langchain_events", "langchain_log")
CASES = [case for name in FILES for case in json.loads((FOLDER / f"{name}.json").read_text())]
HELLO = "Hello, world. 你好"
PROMPT = ChatPromptTemplate.from_messages([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
DOCUMENT = documents.Document("It is so.", metadata={"source": "guide.md", "title": "Guide"})
SOURCE = e.Source("guide.md", "Guide", quote="It is so.")


def words() -> GenericFakeChatModel:
    """LangChain's own fake: it streams an answer word by word."""
    return GenericFakeChatModel(messages=iter([messages.AIMessage("It is so.")] * 4))


def rag() -> Runnable[Any, Any]:
    """A chain as tutorials write it: it gives dicts that add up."""
    find = RunnablePassthrough.assign(context=RunnableLambda(lambda _: [DOCUMENT]))
    return find.assign(answer=PROMPT | words() | StrOutputParser())


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def outer(a: int, config: RunnableConfig) -> int:
    """Add one, by another tool."""
    await adispatch_custom_event("step", {"n": 1}, config=config)
    result: int = await add.ainvoke({"a": a, "b": 1}, config)
    return result


@tool
def broken(a: int) -> int:
    """Fail."""
    raise ValueError("a secret")


class TestChunks:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_instances_are_told_like_dicts(self, case: dict[str, Any]) -> None:
        chunks = [Chunk(case["library"], rebuilt(chunk)) for chunk in case["chunks"]]
        assert told(chunks) == case["events"]

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_any_chunking_gives_the_same_events(self, case: dict[str, Any]) -> None:
        finer = [Chunk(case["library"], piece) for chunk in case["chunks"] for piece in split(chunk)]
        assert merged(told(finer)) == merged(case["events"])

    def test_what_is_a_chunk(self) -> None:
        chunks = [
            messages.AIMessage, messages.AIMessageChunk, messages.ToolMessage, outputs.GenerationChunk,
            outputs.ChatGenerationChunk, RunLogPatch, AddableDict, documents.Document,
        ]  # fmt: skip
        others = [
            messages.HumanMessage, messages.SystemMessage, messages.BaseMessage, prompt_values.ChatPromptValue,
            outputs.LLMResult, language_models.BaseChatModel,
        ]  # fmt: skip
        assert [kind for kind in chunks if not LangChain.takes(kind)] == []
        assert [kind for kind in others if LangChain.takes(kind)] == []
        said = messages.HumanMessage("x")
        [data] = Values().feed(said)
        assert isinstance(data, e.Data)
        assert (data.name, data.data["content"]) == ("HumanMessage", "x")

    def test_a_long_document_is_cut(self) -> None:
        [event] = Values().feed(documents.Document("x" * 1_000_000))
        assert isinstance(event, e.Sources)
        assert event.sources[0].quote == "x" * LONGEST + "…"

    def test_a_name_that_is_taken_by_a_provider_is_not_given_again(self) -> None:
        translator = LangChain(Parts())
        call = {"type": "tool_call", "name": "add", "args": {}, "id": "c1"}
        fed = [{"type": "ai", "content": "", "tool_calls": [call, {**call, "id": None}, call]}]
        started = [event for chunk in fed for event in translator.feed(chunk) if isinstance(event, e.ToolStarted)]
        assert [event.call for event in started] == ["c1", "c2", "c3"]

    def test_an_error_of_version_3_is_raised(self) -> None:
        chunk = {"event": "error", "message": "a secret", "code": "rate_limit"}
        with pytest.raises(SourceError) as raised:
            list(Values().feed(Chunk("langchain_core", chunk)))
        assert (raised.value.code, "secret" in str(raised.value)) == ("rate_limited", False)


async def fed(stream: AsyncIterator[Any], *, wrapped: bool = True) -> list[e.Event]:
    """What a whole stream of LangChain's is told as, without the usage that is guessed."""
    values = Values()
    events: list[e.Event] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "astream_|.*v3")  # deprecated, or in beta
        async for chunk in stream:
            events += values.feed(Chunk("langchain_core", chunk) if wrapped else chunk)
    events += values.end()
    return [event for event in events if not isinstance(event, e.Usage)]


def kinds(events: Iterable[e.Event]) -> list[type]:
    return list(dict.fromkeys(type(event) for event in events))


class TestStreams:
    @pytest.mark.parametrize("chain", [words(), PROMPT | words()])
    async def test_a_model_and_a_chain_without_a_wrapper(self, chain: Runnable[Any, Any]) -> None:
        given: Any = {"input": "why"} if chain.get_name() == "RunnableSequence" else "why"
        events = await fed(chain.astream(given), wrapped=False)
        assert text_of(events) == "It is so."
        assert events[-1] == e.TextEnded()

    @pytest.mark.parametrize("wrapped", [False, True])
    async def test_a_parser_gives_text(self, wrapped: bool) -> None:
        events = await fed((PROMPT | words() | StrOutputParser()).astream({"input": "why"}), wrapped=wrapped)
        assert text_of(events) == "It is so."

    @pytest.mark.parametrize("wrapped", [False, True])
    async def test_dicts_that_add_up(self, wrapped: bool) -> None:
        events = await fed(rag().astream({"input": "why"}), wrapped=wrapped)
        assert kinds(events) == [e.Data, e.Sources, e.TextDelta, e.TextEnded]
        assert events[:2] == [e.Data(data={"input": "why"}), e.Sources([SOURCE])]
        assert text_of(events) == "It is so."

    async def test_a_growing_dict_is_data(self) -> None:
        model = GenericFakeChatModel(messages=iter([messages.AIMessage('{"answer": "a b"}')]))
        events = await fed((model | JsonOutputParser()).astream("x"), wrapped=False)
        assert events[-1] == e.Data(data={"answer": "a b"})

    async def test_two_models_at_once(self) -> None:
        both = RunnableParallel(one=words(), two=words())
        events = await fed(both.astream("x"))
        for part in ("p1", "p2"):
            said = [event.text for event in events if isinstance(event, e.TextDelta) and event.part == part]
            assert "".join(said) == "It is so."

    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_events_of_a_chain(self, version: Any) -> None:
        events = await fed(rag().astream_events({"input": "why"}, version=version))
        assert kinds(events) == [e.Sources, e.TextDelta, e.TextEnded]
        assert events[0] == e.Sources([SOURCE])
        assert text_of(events) == "It is so."

    @pytest.mark.parametrize("diff", [True, False])
    async def test_a_log(self, diff: Any) -> None:
        events = await fed(rag().astream_log({"input": "why"}, diff=diff), wrapped=False)
        assert kinds(events) == [e.Sources, e.TextDelta, e.TextEnded]
        assert text_of(events) == "It is so."

    @pytest.mark.parametrize("types", [["chat_model"], ["chain"], ["parser"]])
    async def test_events_that_were_filtered(self, types: list[str]) -> None:
        """Whichever kind is asked for: the text comes, and comes once, if the models or the root tell it."""
        events = await fed((PROMPT | words()).astream_events({"input": "why"}, version="v2", include_types=types))
        assert text_of(events) == ("It is so." if types != ["parser"] else "")

    async def test_version_3_of_a_model(self) -> None:
        model = Recorded(replies=[calling()])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*v3.*in beta")
            stream: Any = await model.astream_events("x", version="v3")
        events = await fed(stream)
        assert text_of(events) == "Both."
        assert [event.input for event in events if isinstance(event, e.ToolInput)] == [
            {"a": 1, "b": 2},
            {"a": 3, "b": 4},
        ]
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["tool_calls"]

    async def test_tools_inside_tools(self) -> None:
        chain: Runnable[Any, Any] = RunnableLambda(lambda given: given) | outer
        events = await fed(chain.astream_events({"a": 1}, version="v2"))
        assert events[0] == e.ToolStarted(call="c1", name="outer")
        assert e.Data(name="step", data={"n": 1}) in events
        ended = [event for event in events if isinstance(event, e.ToolEnded)]
        assert {(event.call, event.output) for event in ended} == {("c1", 2), ("c2", 2)}

    async def test_a_tool_that_fails_keeps_its_words(self) -> None:
        chunks: list[Any] = []

        async def ask() -> None:
            async for chunk in broken.astream_events({"a": 1}, version="v2"):
                chunks.append(Chunk("langchain_core", chunk))

        with pytest.raises(ValueError, match="secret"):
            await ask()
        values = Values()
        events = [event for chunk in chunks for event in values.feed(chunk)]
        assert events[-1] == e.ToolEnded(call="c1", outcome="failed", error="ValueError")


class TestAgentExecutor:
    """The agents of langchain-classic."""

    def agent(self) -> Any:
        from langchain_classic.agents import AgentExecutor, create_tool_calling_agent

        model = Recorded(replies=[calling(), answer()])
        return AgentExecutor(agent=create_tool_calling_agent(model, [add], PROMPT), tools=[add])

    @pytest.mark.parametrize("way", ["dicts", "v1", "v2", "log"])
    async def test_all_its_ways(self, way: Any) -> None:
        agent, given = self.agent(), {"input": "why"}
        if way == "dicts":
            events = await fed(agent.astream(given))
        elif way == "log":
            events = await fed(agent.astream_log(given))
        else:
            events = await fed(agent.astream_events(given, version=way))
        calls = [event for event in events if isinstance(event, e.ToolStarted | e.ToolInput | e.ToolEnded)]
        assert calls[:1] == [e.ToolStarted(call="t1", name="add")]
        assert sorted(calls, key=lambda event: (event.call, calls.index(event))) == [
            e.ToolStarted(call="t1", name="add"), e.ToolInput(call="t1", input={"a": 1, "b": 2}),
            e.ToolEnded(call="t1", output=3),
            e.ToolStarted(call="t2", name="add"), e.ToolInput(call="t2", input={"a": 3, "b": 4}),
            e.ToolEnded(call="t2", output=7),
        ]  # fmt: skip
        assert text_of(events).removeprefix("Both.") == "Three and seven."


# Against aimock


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("text", content=HELLO, chunkSize=3, usage={"prompt_tokens": 7, "completion_tokens": 3,
                                                        "input_tokens": 7, "output_tokens": 3}),
        says("think", content="42", reasoning="Six by seven."),
        says("tools", hasToolResult=True, content="Five."),
        says("tools", content="Both.", toolCalls=[
            {"id": "t1", "name": "add", "arguments": {"a": 1, "b": 2}},
            {"id": "t2", "name": "add", "arguments": {"a": 3, "b": 4}},
        ]),
        fails("busy", 429, retry_after=7),
        fails("broken", 500),
        fails("full", 529),
        cuts("cut", after=5, content=HELLO),
        stalls("stall", after=5, content=HELLO),
    ) as upstream:  # fmt: skip
        yield upstream


Make = Callable[..., Any]


@asynccontextmanager
async def chat(url: str, *, key: str = KEY) -> AsyncIterator[Any]:
    """ChatOpenAI on chat completions."""
    async with httpx2.AsyncClient() as client:
        yield openai_of(url, client, key=key, stream_usage=True)


@asynccontextmanager
async def responses(url: str, *, key: str = KEY) -> AsyncIterator[Any]:
    """ChatOpenAI on Responses."""
    async with httpx2.AsyncClient() as client:
        yield openai_of(url, client, key=key, use_responses_api=True, reasoning={"effort": "low", "summary": "auto"})


@asynccontextmanager
async def claude(url: str, *, key: str = KEY) -> AsyncIterator[Any]:
    """ChatAnthropic, with a client of this test's own: LangChain keeps one for all loops."""
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
        model = ChatAnthropic(model="claude-sonnet-5", base_url=url, api_key=key, max_retries=0)  # type: ignore[call-arg,arg-type]
        model.__dict__["_async_client"] = client
        yield model


MODELS = pytest.mark.parametrize("make", [chat, responses, claude])


def asking(make: Make, url: str, ask: str, **more: Any) -> Callable[[], AsyncIterator[Any]]:
    """Work that yields every chunk of one answer, as applications write it."""

    async def work() -> AsyncIterator[Any]:
        async with make(url, **more) as model:
            async for chunk in (PROMPT | model).astream({"input": ask}):
                yield chunk

    return work


async def ran(work: Callable[[], AsyncIterator[Any]], **options: Any) -> list[e.AnyEvent]:
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


def counted(make: Make) -> e.TokenUsage:
    """LangChain takes Anthropic's counts from the last event, where aimock tells the output alone."""
    return e.TokenUsage(0 if make is claude else 7, 3, "provider")


class TestUpstream:
    @MODELS
    async def test_text_and_usage(self, upstream: Upstream, make: Make) -> None:
        events = await ran(asking(make, upstream.url, "text"))
        assert text_of(events) == HELLO
        assert {event.part for event in events if isinstance(event, e.TextDelta)} == {"p1"}
        assert sum(isinstance(event, e.TextDelta) for event in events) > 3
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["stop"]
        assert (ending(events).outcome, ending(events).usage) == ("completed", counted(make))

    @pytest.mark.parametrize("make", [responses, claude])
    async def test_reasoning(self, upstream: Upstream, make: Make) -> None:
        """On chat completions LangChain itself drops what such servers tell."""
        events = await ran(asking(make, upstream.url, "think"))
        assert [kind for kind in kinds(events) if kind in (e.ReasoningDelta, e.ReasoningEnded, e.TextDelta)] == [
            e.ReasoningDelta, e.ReasoningEnded, e.TextDelta,
        ]  # fmt: skip
        assert "".join(event.text for event in events if isinstance(event, e.ReasoningDelta)) == "Six by seven."
        assert text_of(events) == "42"

    @MODELS
    async def test_two_calls_answered_by_the_application(self, upstream: Upstream, make: Make) -> None:
        """A loop as applications write it: the results are yielded, too, and the model goes on."""

        async def work() -> AsyncIterator[Any]:
            said: list[Any] = [messages.HumanMessage("tools")]
            async with make(upstream.url) as model:
                for _ in range(2):
                    whole: Any = None
                    async for chunk in model.bind_tools([add]).astream(said):
                        whole = chunk if whole is None else whole + chunk
                        yield chunk
                    said.append(whole)
                    for call in whole.tool_calls:
                        said.append(await add.ainvoke(call))
                        yield said[-1]

        events = await ran(work)
        assert [event for event in events if isinstance(event, e.ToolStarted | e.ToolInput | e.ToolEnded)] == [
            e.ToolStarted(call="t1", name="add"), e.ToolStarted(call="t2", name="add"),
            e.ToolInput(call="t1", input={"a": 1, "b": 2}), e.ToolInput(call="t2", input={"a": 3, "b": 4}),
            e.ToolEnded(call="t1", output="3"), e.ToolEnded(call="t2", output="7"),
        ]  # fmt: skip
        for call, input in (("t1", {"a": 1, "b": 2}), ("t2", {"a": 3, "b": 4})):
            pieces = [event.json for event in events if isinstance(event, e.ToolInputDelta) and event.call == call]
            assert len(pieces) > 1
            assert json.loads("".join(pieces)) == input
        assert text_of(events) == "Both.Five."
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["tool_calls", "stop"]
        assert ending(events).outcome == "completed"

    @pytest.mark.parametrize("make", [chat, claude])
    async def test_the_events_of_a_chain_are_told_once(self, upstream: Upstream, make: Make) -> None:
        async def work() -> AsyncIterator[Any]:
            async with make(upstream.url) as model:
                chain = PROMPT | model | StrOutputParser()
                async for event in chain.astream_events({"input": "text"}, version="v2"):
                    yield Chunk("langchain_core", event)

        events = await ran(work)
        assert text_of(events) == HELLO
        assert ending(events).usage == counted(make)

    @MODELS
    @pytest.mark.parametrize(
        ("ask", "code", "after"),
        [("busy", "rate_limited", 7.0), ("broken", "provider_error", None), ("full", "overloaded", None)],
    )
    async def test_a_refused_request(
        self, upstream: Upstream, make: Make, ask: str, code: str, after: float | None
    ) -> None:
        end = ending(await ran(asking(make, upstream.url, ask)))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retryable, end.error.retry_after) == (code, True, after)

    @MODELS
    async def test_a_wrong_key(self, upstream: Upstream, make: Make) -> None:
        end = ending(await ran(asking(make, upstream.url, "text", key="wrong")))
        assert end.error is not None
        assert end.error.code == "provider_error"
        assert "key" in end.error.message

    @MODELS
    async def test_a_connection_that_is_cut(self, upstream: Upstream, make: Make) -> None:
        events = await ran(asking(make, upstream.url, "cut"))
        assert HELLO.startswith(text_of(events))
        assert (ending(events).outcome, ending(events).error and ending(events).error.code) == (  # type: ignore[union-attr]
            "failed",
            "provider_error",
        )

    @MODELS
    async def test_a_stall(self, upstream: Upstream, make: Make) -> None:
        events = await ran(asking(make, upstream.url, "stall"), gap_timeout=0.3)
        assert HELLO.startswith(text_of(events) or "-")
        assert ending(events).outcome == "timed_out"

    @MODELS
    async def test_a_stop(self, upstream: Upstream, make: Make) -> None:
        """The text so far stays, and the provider's connection is let go."""
        with tap(upstream.url) as line:
            tide = Tidelog("memory:")
            run = await tide.start(asking(make, line.url, "stall"))
            await until(lambda: run.last >= 2)
            run.stop()
            await asyncio.wait_for(run.wait(), PATIENCE)
            await asyncio.to_thread(line.wait, left=1)
            events = await legal(tide.runner.store, run.id)
            await tide.aclose()
        assert text_of(events)
        assert ending(events).outcome == "stopped"
