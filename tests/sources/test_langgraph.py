"""LangGraph's streams as the real package gives them in all its modes, and real runs of an agent."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

import httpx2
import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Interrupt, StateSnapshot, interrupt
from tests.parts import PATIENCE, legal, text_of, until
from tests.sources.langchain_parts import Recorded, answer, calling, openai_of, rebuilt, split, told
from tests.sources.test_cases import merged
from tests.upstream.aimock import Upstream, aimock, cuts, fails, says, stalls
from tests.upstream.tap import tap

from tidelog import Tidelog
from tidelog import events as e
from tidelog.parts import Chunk
from tidelog.sources.langgraph import LangGraph
from tidelog.sources.values import Values

pytestmark = pytest.mark.anyio

CASES = json.loads((Path(__file__).parents[2] / "spec/cases/sources/langgraph.json").read_text())
ASK: dict[str, Any] = {"messages": [("user", "What is 1 + 2, and 3 + 4?")]}
TEXT = "Both.Three and seven."
CALLS = {"t1": {"a": 1, "b": 2}, "t2": {"a": 3, "b": 4}}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    get_stream_writer()({"adding": a})
    return a + b


def agent() -> Any:
    return create_agent(Recorded(replies=[calling(), answer()]), [add])


def nested() -> Any:
    return StateGraph(MessagesState).add_node("inner", agent()).add_edge(START, "inner").compile()


def asking() -> Any:
    """A graph that asks a person."""

    def ask(state: MessagesState) -> Any:
        return {"messages": [("ai", f"You said {interrupt({'question': 'Sure?'})}.")]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    return graph.compile(checkpointer=InMemorySaver())


async def fed(stream: AsyncIterator[Any], library: str = "langgraph") -> list[e.Event]:
    """What a whole stream is told as."""
    values = Values()
    events: list[e.Event] = []
    async for chunk in stream:
        events += values.feed(Chunk(library, chunk))
    return events + list(values.end())


def is_told_once(events: Sequence[e.Event]) -> bool:
    """Whether this is all that the agent says and does, and nothing of it twice."""
    calls = [event for event in events if isinstance(event, e.ToolInput)]
    ended = [event for event in events if isinstance(event, e.ToolEnded)]
    usage = [event for event in events if isinstance(event, e.Usage)]
    return (
        text_of(events) == TEXT
        and {event.call: event.input for event in calls} == CALLS
        and sorted((event.call, event.output) for event in ended) == [("t1", "3"), ("t2", "7")]
        and usage[-1] == e.Usage(input=30, output=11)
    )


class TestChunks:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_instances_are_told_like_dicts(self, case: dict[str, Any]) -> None:
        assert told(Chunk("langgraph", as_tuples(rebuilt(chunk))) for chunk in case["chunks"]) == case["events"]

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
    def test_any_chunking_gives_the_same_events(self, case: dict[str, Any]) -> None:
        finer = [Chunk("langgraph", piece) for chunk in case["chunks"] for piece in split(chunk)]
        assert merged(told(finer)) == merged(case["events"])

    def test_what_is_a_chunk(self) -> None:
        assert LangGraph.takes(Interrupt)
        assert not LangGraph.takes(Command)
        assert not LangGraph.takes(StateSnapshot)
        [event] = Values().feed(Interrupt(value="Sure?", id="i1"))
        assert event == e.Data(name="interrupt", data={"id": "i1", "value": "Sure?"})

    def test_an_event_that_a_node_writes_is_itself(self) -> None:
        progress = e.Progress(task="search", done=1, total=2)
        assert list(Values().feed(Chunk("langgraph", ("custom", progress)))) == [progress]


def as_tuples(chunk: Any) -> Any:
    """A recorded chunk whose lists are tuples where the library has such."""
    if isinstance(chunk, list):
        return tuple(tuple(each) if isinstance(each, list) else each for each in chunk)
    return {**chunk, "ns": tuple(chunk["ns"])} if isinstance(chunk, dict) and "ns" in chunk else chunk


MODES = ("messages", "updates", "values", ["updates", "messages"], ["values", "messages", "updates", "custom", "tools"])


class TestStreams:
    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("modes", MODES, ids=str)
    async def test_an_agent_is_told_once(self, modes: Any, version: Any) -> None:
        events = await fed(agent().astream(ASK, stream_mode=modes, version=version))
        assert is_told_once(events)
        streamed = sum(isinstance(event, e.ToolInputDelta) for event in events)
        assert (streamed > 2) == ("messages" in modes)

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("modes", MODES, ids=str)
    @pytest.mark.parametrize("subgraphs", [False, True])
    async def test_an_agent_inside_a_graph(self, modes: Any, version: Any, subgraphs: bool) -> None:
        events = await fed(nested().astream(ASK, stream_mode=modes, version=version, subgraphs=subgraphs))
        assert is_told_once(events)

    async def test_custom_is_data(self) -> None:
        events = await fed(agent().astream(ASK, stream_mode=["custom"]))
        assert sorted(event.data["adding"] for event in events if isinstance(event, e.Data)) == [1, 3]

    @pytest.mark.parametrize("mode", ["debug", "tasks", "checkpoints"])
    async def test_the_inner_works_are_data(self, mode: Any) -> None:
        graph = create_agent(Recorded(replies=[answer()]), [], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        events = await fed(graph.astream(ASK, config, stream_mode=mode))
        assert {type(event) for event in events} == {e.Data}
        assert all(e.decode(e.encode(event)) for event in events)

    async def test_events_version_2(self) -> None:
        assert is_told_once(await fed(agent().astream_events(ASK, version="v2"), "langchain_core"))

    @pytest.mark.parametrize("library", ["langgraph", "langchain_core"])
    async def test_events_version_3(self, library: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*v3 streaming protocol")
            stream = await agent().astream_events(ASK, version="v3")
        assert is_told_once(await fed(stream, library))

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("modes", ["updates", "values", ["updates", "values", "messages"]], ids=str)
    async def test_an_interrupt_and_two_turns(self, modes: Any, version: Any) -> None:
        """Each stream is a run of its own; none tells what an earlier one told."""
        graph: Any = asking()
        options: Any = {"config": {"configurable": {"thread_id": "1"}}, "stream_mode": modes, "version": version}
        for _ in range(2):
            [question] = await fed(graph.astream(ASK, **options))
            assert isinstance(question, e.Data)
            assert (question.name, question.data["value"]) == ("interrupt", {"question": "Sure?"})
            said = await fed(graph.astream(Command(resume="yes"), **options))
            assert text_of(said) == "You said yes."

    async def test_a_state_with_documents_and_fields(self) -> None:
        class State(TypedDict, total=False):
            context: list[Document]
            answer: str

        def retrieve(state: State) -> State:
            return {"context": [Document("It is so.", metadata={"source": "guide.md"})]}

        def reply(state: State) -> State:
            return {"answer": state["context"][0].page_content}

        graph = StateGraph(State).add_sequence([retrieve, reply]).add_edge(START, "retrieve").compile()
        events = await fed(graph.astream({}, stream_mode=["updates", "values"]))
        assert events == [
            e.Sources([e.Source("guide.md", "guide.md", quote="It is so.")]),
            e.Data(name="updates", data={"reply": {"answer": "It is so."}}),
            e.Data(name="values", data={"answer": "It is so."}),
        ]

    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_a_functional_graph(self, version: Any) -> None:
        @entrypoint()
        async def work(question: str) -> Any:
            return {"messages": [AIMessage(f"{question}? So.", id="a1")]}

        events = await fed(work.astream("Why", stream_mode="values", version=version))
        assert text_of(events) == "Why? So."

    async def test_a_node_that_says_what_no_model_said(self) -> None:
        def say(state: MessagesState) -> Any:
            return {"messages": [AIMessage("Hello.")]}

        graph = StateGraph(MessagesState).add_node("say", say).add_edge(START, "say").compile()
        for modes in ("messages", "updates", "values", ["messages", "updates", "values"]):
            assert text_of(await fed(graph.astream(ASK, stream_mode=modes))) == "Hello.", modes  # type: ignore[arg-type]
        assert text_of(await fed(graph.astream_events(ASK, version="v2"), "langchain_core")) == "Hello."


# Against aimock


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    with aimock(
        says("text", content="Hello, world. 你好", chunkSize=3, usage=usage),
        says("tools", hasToolResult=True, content="Three and seven.", usage=usage),
        says("tools", content="Both.", usage=usage, toolCalls=[
            {"id": id, "name": "add", "arguments": input} for id, input in CALLS.items()
        ]),
        fails("busy", 429, retry_after=7),
        fails("broken", 500),
        cuts("cut", after=5, content="Hello, world."),
        stalls("stall", after=5, content="Hello, world."),
    ) as upstream:  # fmt: skip
        yield upstream


@asynccontextmanager
async def real(url: str) -> AsyncIterator[Any]:
    """An agent of LangChain with one tool, whose model is a provider's."""
    async with httpx2.AsyncClient() as client:
        yield create_agent(openai_of(url, client, stream_usage=True), [add])


def streaming(tide: Tidelog, url: str, ask: str, modes: Any = "messages") -> Callable[[], AsyncIterator[Any]]:
    async def work() -> AsyncIterator[Any]:
        async with real(url) as graph:
            given: Any = {"messages": [("user", ask)]}
            async for chunk in tide.langgraph(graph.astream(given, stream_mode=modes)):
                yield chunk

    return work


async def ran(url: str, ask: str, modes: Any = "messages", **options: Any) -> list[e.AnyEvent]:
    """The events of a whole run behind `run.started`."""
    tide = Tidelog("memory:")
    try:
        run = await tide.start(streaming(tide, url, ask, modes), **options)
        await asyncio.wait_for(run.wait(), PATIENCE)
        return (await legal(tide.runner.store, run.id))[1:]
    finally:
        await tide.aclose()


def ending(events: list[e.AnyEvent]) -> e.RunEnded:
    assert isinstance(events[-1], e.RunEnded)
    return events[-1]


class TestUpstream:
    async def test_text_and_usage(self, upstream: Upstream) -> None:
        events = await ran(upstream.url, "text")
        assert text_of(events) == "Hello, world. 你好"
        assert (ending(events).outcome, ending(events).usage) == ("completed", e.TokenUsage(7, 3, "provider"))

    @pytest.mark.parametrize("modes", ["messages", "updates", ["messages", "updates", "values"]], ids=str)
    async def test_two_calls(self, upstream: Upstream, modes: Any) -> None:
        events = await ran(upstream.url, "tools", modes)
        assert text_of(events) == TEXT
        assert {event.call: event.input for event in events if isinstance(event, e.ToolInput)} == CALLS
        ended = [event for event in events if isinstance(event, e.ToolEnded)]
        assert sorted((event.call, event.output) for event in ended) == [("t1", "3"), ("t2", "7")]
        assert [event.reason for event in events if isinstance(event, e.Finish)] == ["tool_calls", "stop"]
        assert ending(events).usage == e.TokenUsage(14, 6, "provider")

    @pytest.mark.parametrize(
        ("ask", "code", "after"), [("busy", "rate_limited", 7.0), ("broken", "provider_error", None)]
    )
    async def test_a_refused_request(self, upstream: Upstream, ask: str, code: str, after: float | None) -> None:
        end = ending(await ran(upstream.url, ask))
        assert end.outcome == "failed"
        assert end.error is not None
        assert (end.error.code, end.error.retry_after) == (code, after)

    async def test_a_connection_that_is_cut(self, upstream: Upstream) -> None:
        events = await ran(upstream.url, "cut")
        assert "Hello, world.".startswith(text_of(events))
        end = ending(events)
        assert (end.outcome, end.error and end.error.code) == ("failed", "provider_error")

    async def test_a_stall(self, upstream: Upstream) -> None:
        events = await ran(upstream.url, "stall", gap_timeout=0.3)
        assert "Hello, world.".startswith(text_of(events) or "-")
        assert ending(events).outcome == "timed_out"

    async def test_a_stop(self, upstream: Upstream) -> None:
        """The text so far stays, and the provider's connection is let go."""
        with tap(upstream.url) as line:
            tide = Tidelog("memory:")
            run = await tide.start(streaming(tide, line.url, "stall"))
            await until(lambda: run.last >= 2)
            run.stop()
            await asyncio.wait_for(run.wait(), PATIENCE)
            await asyncio.to_thread(line.wait, left=1)
            events = await legal(tide.runner.store, run.id)
            await tide.aclose()
        assert text_of(events)
        assert ending(events).outcome == "stopped"
