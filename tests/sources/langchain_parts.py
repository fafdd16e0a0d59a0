"""What the tests of LangChain and LangGraph share: models that answer as recorded, and recorded chunks as instances."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    message_chunk_to_message,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tracers.log_stream import RunLogPatch
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from tests.upstream.aimock import KEY

from tidelog import events as e
from tidelog.grammar import Grammar
from tidelog.sources.values import Values

CLASSES = {"AIMessageChunk": AIMessageChunk, "ai": AIMessage, "tool": ToolMessage, "human": HumanMessage}


def told(chunks: Iterable[Any]) -> list[Any]:
    """The events of these chunks as JSON. The grammar must accept them all."""
    values, grammar = Values(), Grammar()
    grammar.accept(e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1))
    found: list[Any] = []
    for event in _events(values, chunks):
        grammar.accept(event)
        found.append(json.loads(e.encode(event)))
    return found


def _events(values: Values, chunks: Iterable[Any]) -> Iterator[e.Event]:
    for chunk in chunks:
        yield from values.feed(chunk)
    yield from values.end()


def rebuilt(value: Any) -> Any:
    """A recorded chunk as the library gives it: messages, documents and patches are instances, pairs are tuples."""
    if isinstance(value, list):
        return [rebuilt(each) for each in value]
    if not isinstance(value, dict):
        return value
    fields = {name: each if name in ("content", "tool_calls") else rebuilt(each) for name, each in value.items()}
    if (kind := CLASSES.get(value.get("type"))) is not None and "content" in value:
        return kind(**fields)
    if "page_content" in value:
        return Document(**fields)
    if list(value) == ["ops"]:
        return RunLogPatch(*fields["ops"])
    return fields


def split(value: Any) -> list[Any]:
    """A recorded chunk as two, where it is a piece of text, or holds one, and nothing else."""
    if isinstance(value, list):
        return (
            [[*value[:-1], piece] for piece in split(value[-1])]
            if value and isinstance(value[-1], list)
            else _pair(value)
        )
    if not isinstance(value, dict):
        return [value]
    if value.get("type") == "AIMessageChunk" and isinstance(value["content"], str) and len(value["content"]) > 1:
        return [{**value, "content": value["content"][:1]}, {**value, "content": value["content"][1:]}]
    delta = value.get("delta")
    for name in ("text", "reasoning", "args") if isinstance(delta, dict) else ():
        if len(text := delta.get(name, "")) > 1:
            return [{**value, "delta": {**delta, name: text[:1]}}, {**value, "delta": {**delta, name: text[1:]}}]
    if value.get("type") == "messages":
        return [{**value, "data": piece} for piece in split(value["data"])]
    return [value]


def _pair(value: list[Any]) -> list[Any]:
    return [[piece, value[1]] for piece in split(value[0])] if len(value) == 2 else [value]


class Recorded(BaseChatModel):
    """A chat model that streams recorded chunks, one list for each call."""

    replies: list[list[AIMessageChunk]]

    @property
    def _llm_type(self) -> str:
        return "recorded"

    def bind_tools(self, tools: Any, **more: Any) -> Any:
        return self

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: Any = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **more: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self.replies.pop(0):
            generation = ChatGenerationChunk(message=chunk)
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.text), chunk=generation)
            yield generation

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **more: Any
    ) -> ChatResult:
        first, *rest = self.replies.pop(0)
        for chunk in rest:
            first += chunk
        return ChatResult(generations=[ChatGeneration(message=message_chunk_to_message(first))])


def calling(id: str = "m1") -> list[AIMessageChunk]:
    """An answer that asks for two calls whose arguments stream at once."""
    return [
        AIMessageChunk("Both.", id=id),
        _call(id, (0, "add", "", "t1")),
        _call(id, (0, None, '{"a": 1,', None)),
        _call(id, (1, "add", '{"a": ', "t2")),
        _call(id, (0, None, ' "b": 2}', None), (1, None, '3, "b": 4}', None)),
        AIMessageChunk("", id=id, response_metadata={"finish_reason": "tool_calls", "model_name": "recorded"}),
        AIMessageChunk("", id=id, usage_metadata={"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}),
    ]


def answer(id: str = "m2", text: str = "Three and seven.") -> list[AIMessageChunk]:
    """An answer in words."""
    return [
        *(AIMessageChunk(text[at : at + 6], id=id) for at in range(0, len(text), 6)),
        AIMessageChunk(
            "", id=id, response_metadata={"finish_reason": "stop", "model_name": "recorded"},
            usage_metadata={"input_tokens": 20, "output_tokens": 6, "total_tokens": 26},
        ),
    ]  # fmt: skip


def _call(id: str, *pieces: tuple[int, str | None, str, str | None]) -> AIMessageChunk:
    chunks: Any = [
        {"type": "tool_call_chunk", "index": index, "name": name, "args": args, "id": call}
        for index, name, args, call in pieces
    ]
    return AIMessageChunk("", id=id, tool_call_chunks=chunks)


def openai_of(url: str, client: httpx2.AsyncClient, *, key: str = KEY, **more: Any) -> Any:
    """ChatOpenAI with a client of the test's own: LangChain keeps one for all loops.

    Its own limit for gaps is off: it waits by `asyncio.wait_for`, which on Python 3.11 may swallow a stop.
    """
    fields: dict[str, Any] = {"use_responses_api": False, "max_retries": 0, "stream_chunk_timeout": None, **more}
    return ChatOpenAI(model="gpt-5", base_url=f"{url}/v1", api_key=SecretStr(key), http_async_client=client, **fields)
