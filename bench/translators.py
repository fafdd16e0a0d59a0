"""What a translator adds to the cost of its library: CPU time of the library's own stream, alone and with every chunk translated.

    python -m bench.translators [--chunks 2000] [--rounds 15] [--only anthropic,openai-chat]

The SDKs decode recorded bytes, LangChain and LangGraph stream a model of recorded chunks, pydantic-ai a model that is a function:
no network, no server, no log. Rounds alternate, and the best of each counts: what disturbs only adds. A library that is not
installed is passed over.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import time
import warnings
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from tidelog.parts import Chunk
from tidelog.sources.values import Values

CHUNKS: Final = 2000
ROUNDS: Final = 15
LIMIT: Final = 15.0
"""Percent that a translator may add."""
WORDS: Final = ("The ", "moon ", "pulls ", "at ", "the ", "sea, ", "潮", "汐 ")
USAGE: Final = {"input_tokens": 7, "output_tokens": 3}

Stream = Callable[[], AsyncIterator[Any]]


class Case(NamedTuple):
    """A stream that may begin again and again; `wrapped` names the library of chunks that do not tell it."""

    name: str
    needs: str
    make: Callable[[Sequence[str]], Stream]
    wrapped: str | None = None


class Cost(NamedTuple):
    """Microseconds of CPU for a chunk, and how many chunks there were."""

    chunks: int
    alone: float
    translated: float

    @property
    def added(self) -> float:
        """In percent."""
        return (self.translated / self.alone - 1) * 100


def main() -> None:
    """Measure the libraries that are here, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=CHUNKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    table(chosen.chunks, chosen.rounds, set(filter(None, chosen.only.split(","))))


def report(quick: bool) -> None:
    """For `python -m bench`."""
    table(500 if quick else CHUNKS, 5 if quick else ROUNDS)


def table(chunks: int, rounds: int, names: Collection[str] = ()) -> None:
    """Print the table, of the cases of these names alone if there are any."""
    warnings.simplefilter("ignore")
    words = [WORDS[n % len(WORDS)] for n in range(chunks)]
    print("| stream | chunks | alone, µs | translated, µs | added, µs | added, % |\n|---|---|---|---|---|---|")
    for case in CASES:
        if (names and case.name not in names) or importlib.util.find_spec(case.needs) is None:
            continue
        cost = asyncio.run(measured(case, case.make(words), rounds))
        mark = "" if cost.added <= LIMIT else " (over)"
        print(
            f"| {case.name} | {cost.chunks} | {cost.alone:.2f} | {cost.translated:.2f} "
            f"| {cost.translated - cost.alone:.2f} | {cost.added:.1f}{mark} |",
            flush=True,
        )


async def measured(case: Case, stream: Stream, rounds: int) -> Cost:
    """Alternate rounds with and without the translator, after one of each that does not count."""
    await spent(stream)
    await spent(stream, translated=True, wrapped=case.wrapped)
    alone, translated, count = float("inf"), float("inf"), 0
    for _ in range(rounds):
        count, seconds = await spent(stream)
        alone = min(alone, seconds)
        _, seconds = await spent(stream, translated=True, wrapped=case.wrapped)
        translated = min(translated, seconds)
    return Cost(count, alone / count * 1e6, translated / count * 1e6)


async def spent(stream: Stream, *, translated: bool = False, wrapped: str | None = None) -> tuple[int, float]:
    """The chunks of one whole stream, and the seconds of CPU that it took."""
    gc.collect()
    count, begun = 0, time.process_time()
    if not translated:
        async for _ in stream():
            count += 1
        return count, time.process_time() - begun
    values = Values()
    async for chunk in stream():
        count += 1
        for _ in values.feed(chunk if wrapped is None else Chunk(wrapped, chunk)):
            pass
    for _ in values.end():
        pass
    return count, time.process_time() - begun


# OpenAI and Anthropic: the SDK decodes what a transport of its own HTTP client answers.


def _openai_client(events: Sequence[dict[str, Any]]) -> Any:
    import httpx2
    import openai

    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(_answer(httpx2, body)))
    return openai.AsyncOpenAI(api_key="none", http_client=client)


def _answer(http: Any, body: str) -> Callable[[Any], Any]:
    data = body.encode()

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 4096):
            yield data[at : at + 4096]

    def answer(request: Any) -> Any:
        return http.Response(200, headers={"content-type": "text/event-stream"}, content=pieces())

    return answer


def openai_chat(words: Sequence[str]) -> Stream:
    """Chat completions."""
    client = _chatting(words)

    async def stream() -> AsyncIterator[Any]:
        async with await client.chat.completions.create(model="gpt-5", messages=[], stream=True) as chunks:
            async for chunk in chunks:
                yield chunk

    return stream


def langchain_openai(words: Sequence[str]) -> Stream:
    """`ChatOpenAI.astream`, down to the bytes."""
    from langchain_openai import ChatOpenAI

    client = _chatting(words)
    model = ChatOpenAI(model="gpt-5", root_async_client=client, async_client=client.chat.completions, api_key="none")  # type: ignore[arg-type]
    return lambda: model.astream("x")


def _chatting(words: Sequence[str]) -> Any:
    shape = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5"}
    deltas: list[tuple[dict[str, Any], str | None]] = [({"content": word}, None) for word in words] + [({}, "stop")]
    events = [
        {**shape, "choices": [{"index": 0, "delta": delta, "finish_reason": end, "logprobs": None}]}
        for delta, end in deltas
    ]
    return _openai_client(events)


def openai_responses(words: Sequence[str]) -> Stream:
    """Responses."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    events = [
        {"type": "response.output_text.delta", "sequence_number": n, "delta": word, **place}
        for n, word in enumerate(words)
    ]
    client = _openai_client(events)

    async def stream() -> AsyncIterator[Any]:
        async with await client.responses.create(model="gpt-5", input="x", stream=True) as chunks:
            async for chunk in chunks:
                yield chunk

    return stream


def anthropic_messages(words: Sequence[str]) -> Stream:
    """Messages, the raw events."""
    import anthropic
    import httpx2

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": USAGE,
               "stop_reason": None, "stop_sequence": None}  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(_answer(httpx2, body)))
    client = anthropic.AsyncAnthropic(api_key="none", http_client=http)

    async def stream() -> AsyncIterator[Any]:
        given: Any = {"model": "claude", "max_tokens": 9, "messages": []}
        async with await client.messages.create(**given, stream=True) as chunks:
            async for chunk in chunks:
                yield chunk

    return stream


# LangChain and LangGraph: a model that makes its chunks as the providers' packages do, one for each token.


def _model(words: Sequence[str]) -> Any:
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk, ChatResult

    class Recorded(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "recorded"

        def _generate(self, *given: Any, **more: Any) -> ChatResult:
            raise NotImplementedError

        def _stream(self, *given: Any, **more: Any) -> Iterator[Any]:
            raise NotImplementedError

        async def _astream(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any
        ) -> AsyncIterator[Any]:
            for word in words:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=word))
                if run_manager is not None:
                    await run_manager.on_llm_new_token(word, chunk=chunk)
                yield chunk
            yield ChatGenerationChunk(message=AIMessageChunk("", response_metadata={"finish_reason": "stop"}))

    return Recorded()


def langchain_model(words: Sequence[str]) -> Stream:
    """`model.astream`."""
    model = _model(words)
    return lambda: model.astream("x")


def langchain_chain(words: Sequence[str]) -> Stream:
    """`(prompt | model).astream`."""
    chain = _chain(words)
    return lambda: chain.astream({"question": "x"})


def langchain_events(words: Sequence[str]) -> Stream:
    """`astream_events` of a chain with a parser: several events for each token."""
    from langchain_core.output_parsers import StrOutputParser

    chain = _chain(words) | StrOutputParser()
    return lambda: chain.astream_events({"question": "x"}, version="v2")


def _chain(words: Sequence[str]) -> Any:
    from langchain_core.prompts import ChatPromptTemplate

    return ChatPromptTemplate.from_messages([("human", "{question}")]) | _model(words)


def langgraph_modes(modes: Any) -> Callable[[Sequence[str]], Stream]:
    """`graph.astream` in these modes."""

    def make(words: Sequence[str]) -> Stream:
        from langgraph.graph import START, MessagesState, StateGraph

        model = _model(words)

        async def answer(state: MessagesState) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        # The annotation is a name of this function, which LangGraph could not look up.
        answer.__annotations__.clear()
        graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
        return lambda: graph.astream({"messages": [("user", "x")]}, stream_mode=modes)

    return make


def pydantic_ai_agent(words: Sequence[str]) -> Stream:
    """`agent.run_stream_events`."""
    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel

    async def said(messages: Any, about: Any) -> AsyncIterator[str]:
        for word in words:
            yield word

    agent = Agent(FunctionModel(stream_function=said))

    async def stream() -> AsyncIterator[Any]:
        async with agent.run_stream_events("x") as events:
            async for event in events:
                yield event

    return stream


CASES: Final = (
    Case("openai-chat", "openai", openai_chat),
    Case("openai-responses", "openai", openai_responses),
    Case("anthropic", "anthropic", anthropic_messages),
    Case("langchain-openai", "langchain_openai", langchain_openai),
    Case("langchain-model", "langchain_core", langchain_model),
    Case("langchain-chain", "langchain_core", langchain_chain),
    Case("langchain-events", "langchain_core", langchain_events, "langchain_core"),
    Case("langgraph-messages", "langgraph", langgraph_modes("messages"), "langgraph"),
    Case("langgraph-several", "langgraph", langgraph_modes(["messages", "updates", "values"]), "langgraph"),
    Case("pydantic-ai", "pydantic_ai", pydantic_ai_agent),
)


if __name__ == "__main__":
    main()
