"""LangChain: what models, chains, agents and retrievers stream, in whichever of its ways an application asks for it.

The tricky rules first. A dict that a chain adds up (`{"context": […]}`, `{"answer": "…"}`) comes in pieces; the dict of a
`JsonOutputParser` comes whole each time and grows: yield that one without a wrapper, as data. Messages that a dict lists are a
history that the application has, and are not told. A `Document` is a source, alone as well as in a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.langchain_events import TEXTS, Events
from tidelog.sources.langchain_log import Log
from tidelog.sources.langchain_messages import Messages
from tidelog.sources.langchain_protocol import EVENTS, Protocol
from tidelog.sources.langchain_values import (
    documents_of,
    get,
    is_message,
    messages_of,
    plain,
)
from tidelog.sources.langgraph import LangGraph

_CHUNKS: Final = frozenset(
    {
        "AIMessage", "AIMessageChunk", "ToolMessage", "ToolMessageChunk", "FunctionMessage", "FunctionMessageChunk",
        "GenerationChunk", "ChatGenerationChunk", "RunLogPatch", "RunLog", "AddableDict", "Document",
    }
)  # fmt: skip


class LangChain:
    """Implements `seams.LibraryTranslator` for instances, and for the dicts of those streams that have them."""

    def __init__(self, parts: Parts) -> None:
        self._messages = Messages(parts)
        self._events = Events(self._messages)
        self._log = Log(self._events)
        self._protocol = Protocol(self._messages)
        self._graph = LangGraph(parts, self._messages)
        self._steps: dict[tuple[str, str], list[str]] = {}
        """The calls of an `AgentExecutor` that have no id, by tool and arguments."""
        self._taken = 0

    @staticmethod
    def takes(kind: type) -> bool:
        """Messages of models and tools, generations, patches of a log, dicts that add up, and documents."""
        return kind.__module__.startswith("langchain_core.") and kind.__name__ in _CHUNKS

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk. Raises `SourceError` for an `error` of `astream_events(version="v3")`."""
        if type(chunk).__name__ == "AIMessageChunk":
            return self._messages.chunk(chunk)
        if isinstance(chunk, str):
            return self._messages.text("text", chunk) if chunk else ()
        if isinstance(chunk, dict):
            return self._dict(chunk)
        if isinstance(chunk, tuple):
            return self._graph.feed(chunk)
        if is_message(chunk):
            return self._messages.feed(chunk)
        return self._object(chunk)

    def end(self) -> Iterable[e.Event]:
        """What is open is ended, and what no usage was told for is estimated."""
        return self._graph.end()

    def _dict(self, chunk: dict[str, Any]) -> Iterable[e.Event]:
        kind = chunk.get("event")
        if isinstance(kind, str) and kind.startswith("on_") and "data" in chunk:
            return self._events.feed(chunk)
        if kind in EVENTS:
            return self._protocol.feed(chunk)
        if isinstance(kind, str) and self._protocol.open:
            return ()
        if (chunk.get("type") == "event" and "method" in chunk) or {"type", "ns", "data"} <= chunk.keys():
            return self._graph.feed(chunk)
        if isinstance(chunk.get("ops"), list):
            return self._log.feed(chunk)
        if is_message(chunk):
            return self._messages.feed(chunk)
        return self._object(chunk) if "page_content" in chunk else self._fields(chunk)

    def _object(self, chunk: Any) -> Iterator[e.Event]:
        """Anything else that a stream may yield."""
        if isinstance(get(chunk, "ops"), list):
            yield from self._log.feed(chunk)
        elif (message := get(chunk, "message")) is not None and is_message(message):
            yield from self._messages.feed(message)
        elif type(chunk).__name__ == "GenerationChunk":
            yield from self._messages.text("text", get(chunk, "text")) if get(chunk, "text") else ()
        elif documents_of(chunk):
            yield from self._messages.documents(chunk)
        elif chunk is not None:
            name = type(chunk).__name__ if hasattr(chunk, "model_dump") else None
            yield e.Data(name=name, data=plain(chunk))

    def _fields(self, chunk: dict[str, Any]) -> Iterator[e.Event]:
        """A dict of a chain, or of an `AgentExecutor`: what is known by its key or its kind, and the rest as data."""
        rest: dict[str, Any] = {}
        for key, value in chunk.items():
            if key in TEXTS and isinstance(value, str):
                yield from self._messages.text(f"key {key}", value) if value else ()
            elif is_message(value):
                yield from self._messages.feed(value)
            elif documents_of(value):
                yield from self._messages.documents(value)
            elif key == "actions":
                for action in value:
                    yield from self._asked(action)
            elif key in ("steps", "intermediate_steps"):
                for step in value:
                    yield from self._done(step)
            elif key != "messages" and not messages_of(value):
                rest[key] = value
        if rest:
            yield e.Data(data=plain(rest))

    def _asked(self, action: Any) -> Iterator[e.Event]:
        """An agent wants a tool to be called."""
        self._taken += 1
        run = f"action {self._taken}"
        self._steps.setdefault(_place(action), []).append(run)
        id = get(action, "tool_call_id")
        if id and self._messages.calls.of(id) is None:
            call = self._messages.calls.new(id)
            yield from call.begin(get(action, "tool") or "")
            yield from call.give(get(action, "tool_input"))
        yield from self._messages.calls.started(run, get(action, "tool") or "", get(action, "tool_input"))

    def _done(self, step: Any) -> Iterator[e.Event]:
        """A tool has answered; steps are pairs in `intermediate_steps`. One whose action did not stream was not told."""
        action, observation = step if isinstance(step, tuple) else (get(step, "action"), get(step, "observation"))
        waiting = self._steps.get(_place(action))
        if waiting:
            yield from self._messages.calls.finished(waiting.pop(0), observation)


def _place(action: Any) -> tuple[str, str]:
    return get(action, "tool_call_id") or get(action, "tool") or "", str(get(action, "tool_input"))
