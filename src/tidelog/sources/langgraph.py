"""LangGraph: what `graph.astream` gives, in one mode or several, of either version, with or without subgraphs.

The tricky rules first. With one mode of version 1 a chunk does not tell which mode it is of: its shape decides, and a dict that
could be anything is data. A message that streamed is passed over in `updates` and `values`; so is the history that `values`
begins with: all of a graph's first state, and whatever stands before a message of the user that is new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.langchain_calls import FAILED
from tidelog.sources.langchain_events import Events
from tidelog.sources.langchain_messages import Messages
from tidelog.sources.langchain_protocol import EVENTS, Protocol
from tidelog.sources.langchain_values import (
    documents_of,
    fields_of,
    get,
    is_message,
    messages_of,
    plain,
)

INTERRUPT: Final = "__interrupt__"
_METADATA: Final = "__metadata__"
_TOKENS: Final = ("messages",)


class Told(NamedTuple):
    """A chunk, its mode known; None for a dict that could be of several."""

    mode: str | None
    data: Any
    place: tuple[str, ...] = ()
    """The namespace: empty for the graph itself, longer for graphs inside."""
    interrupts: Any = ()


class LangGraph:
    """Implements `seams.LibraryTranslator`. LangChain's translator shares its messages with one of these."""

    def __init__(self, parts: Parts, messages: Messages | None = None) -> None:
        self._messages = messages or Messages(parts)
        self._events = Events(self._messages)
        self._protocol = Protocol(self._messages)
        self._states: dict[tuple[str, ...], dict[str, list[Any]]] = {}
        """The lists of messages in the last state of each graph."""
        self._steps = 0
        self._asked: set[bytes] = set()

    @staticmethod
    def takes(kind: type) -> bool:
        """An interrupt; everything else that a graph streams is a tuple, a dict, or LangChain's."""
        return kind.__module__.startswith("langgraph.") and kind.__name__ == "Interrupt"

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk. Raises `SourceError` for an `error` of `astream_events(version="v3")`."""
        if type(chunk) is tuple:  # a token of text, nearly always, in one mode or several
            pair = chunk[-1] if chunk[-2:-1] == _TOKENS else chunk
            if type(pair) is tuple and len(pair) == 2 and type(pair[0]).__name__ == "AIMessageChunk":
                return self._messages.chunk(pair[0])
        elif isinstance(chunk, dict) and str(chunk.get("event")).startswith("on_") and "data" in chunk:
            return self._events.feed(chunk)
        if type(chunk).__name__ == "Interrupt":
            return self._interrupts([chunk])
        told = _told(chunk)
        step = _STEPS.get(told.mode)
        if step is not None:
            return step(self, told)
        return self._custom(told) if told.mode is not None and told.mode.startswith("custom") else ()

    def end(self) -> Iterator[e.Event]:
        """What is open is ended, and what no usage was told for is estimated.

        A state that stayed the only one is no history: a functional graph gives its result that way.
        """
        if self._steps == 1:
            for messages in self._states[()].values():
                yield from self._since_the_user(messages)
        if self._asked:
            yield from self._messages.calls.interrupt()
        yield from self._messages.close()

    def _message(self, told: Told) -> Iterable[e.Event]:
        message, about = told.data
        if isinstance(message, dict) and message.get("event") in EVENTS:
            return self._protocol.feed(message, str(get(about, "run_id") or ""))
        return self._messages.feed(message)

    def _updates(self, told: Told) -> Iterator[e.Event]:
        """What each node adds to the state."""
        rest: dict[str, Any] = {}
        for node, update in fields_of(told.data).items():
            if node == INTERRUPT:
                yield from self._interrupts(update)
            elif node != _METADATA:
                listed = isinstance(update, list) and not messages_of(update)
                for each in update if listed else [update]:
                    yield from self._update(node, each, rest)
        if rest:
            yield e.Data(name=told.mode, data=plain(rest))

    def _update(self, node: str, update: Any, rest: dict[str, Any]) -> Iterator[e.Event]:
        """The messages and documents of one update; what is left of it goes to `rest`."""
        for name, value in (fields_of(update) or {node: update}).items():
            if found := messages_of(value):
                yield from self._since_the_user(found)
            elif documents_of(value):
                yield from self._messages.documents(value)
            elif value is not None and value != []:
                rest.setdefault(node, {})[name] = value

    def _values(self, told: Told) -> Iterator[e.Event]:
        """The whole state, once more after each step."""
        yield from self._interrupts(told.interrupts)
        rest: dict[str, Any] = {}
        before = self._states.get(told.place)
        self._states[told.place] = state = {}
        for name, value in fields_of(told.data).items():
            if name == INTERRUPT:
                yield from self._interrupts(value)
            elif found := messages_of(value):
                state[name] = found
                if before is not None:
                    yield from self._added(before.get(name, []), found)
            elif documents_of(value):
                yield from self._messages.documents(value)
            elif value is not None and value != []:
                rest[name] = value
        if not told.place:
            self._steps += 1
        if rest:
            yield e.Data(name=told.mode, data=plain(rest))

    def _added(self, before: list[Any], now: list[Any]) -> Iterator[e.Event]:
        """The messages that a step has added to a list. Those without an id are known by their place."""
        for message in before:
            self._messages.history(message)
        known = {get(message, "id") for message in before}
        new = [
            message
            for place, message in enumerate(now)
            if (get(message, "id") not in known if get(message, "id") else place >= len(before))
        ]
        yield from self._since_the_user(new, repeats=True)

    def _since_the_user(self, messages: list[Any], *, repeats: bool = False) -> Iterator[e.Event]:
        """The answers behind the last word of the user; what stands before it was told in another run."""
        users = [place for place, message in enumerate(messages) if get(message, "type") == "human"]
        for message in messages[: users[-1]] if users else ():
            self._messages.history(message)
        for message in messages[users[-1] + 1 :] if users else messages:
            yield from self._messages.whole(message, repeats=repeats)

    def _tools(self, told: Told) -> Iterator[e.Event]:
        """The tools at work."""
        calls, kind, id = self._messages.calls, get(told.data, "event"), get(told.data, "tool_call_id")
        call = calls.of(id) or calls.new(id)
        if kind == "tool-started":
            yield from call.begin(get(told.data, "tool_name") or "")
            yield from call.give(get(told.data, "input"))
        elif kind == "tool-output-delta":
            yield e.Data(name="tool.output", data=plain({"call": call.call, "delta": get(told.data, "delta")}))
        elif kind == "tool-finished":
            output = get(told.data, "output")
            yield from calls.result(output) if get(output, "tool_call_id") else call.end(output)
        elif kind == "tool-error":
            yield from call.end(error=FAILED)

    def _custom(self, told: Told) -> Iterator[e.Event]:
        """What the application wrote itself, and dicts that could be anything. An event is itself."""
        data = told.data
        yield data if isinstance(data, e.Event) else e.Data(name=told.mode, data=plain(data))

    def _interrupts(self, interrupts: Any) -> Iterator[e.Event]:
        """Questions to a person; each comes in several modes."""
        for one in interrupts if isinstance(interrupts, list | tuple) else [interrupts] if interrupts else ():
            data = plain({"id": get(one, "id"), "value": get(one, "value")})
            told = e.Data(name="interrupt", data=data)
            key = e.encode(told)
            if key not in self._asked:
                self._asked.add(key)
                yield told


def _told(chunk: Any) -> Told:
    """Which mode a chunk is of, by what it says or by its shape."""
    if isinstance(chunk, dict):
        return _told_by_dict(chunk)
    if isinstance(chunk, tuple | list) and len(chunk) == 3 and _is_mode(chunk[1]):
        return Told(chunk[1], chunk[2], tuple(chunk[0]))
    if isinstance(chunk, tuple | list) and len(chunk) == 2:
        first, second = chunk
        if _is_mode(first):
            return Told(first, second)
        if isinstance(first, tuple | list) and all(isinstance(name, str) for name in first):
            return _told(second)._replace(place=tuple(first))
        if is_message(first) or get(first, "event") in EVENTS:
            return Told("messages", chunk)
    return _shaped(chunk)


def _is_mode(value: Any) -> bool:
    return isinstance(value, str) and value in _STEPS


def _told_by_dict(chunk: dict[str, Any]) -> Told:
    if {"type", "ns", "data"} <= chunk.keys():
        return Told(chunk["type"], chunk["data"], tuple(chunk["ns"]), chunk.get("interrupts") or ())
    if chunk.get("type") == "event" and "method" in chunk:
        params = chunk.get("params") or {}
        return Told(
            chunk["method"], params.get("data"), tuple(params.get("namespace") or ()), params.get("interrupts") or ()
        )
    return _shaped(chunk)


def _shaped(data: Any) -> Told:
    """For the chunks of a single mode of version 1."""
    if is_message(data):
        return Told("messages", (data, {}))
    if not isinstance(data, Mapping):
        return Told(None, data)
    keys = data.keys()
    for mode, wanted in _SHAPES:
        if wanted <= keys:
            return Told(mode, data)
    if any(messages_of(value) or documents_of(value) for value in data.values()):
        return Told("values", data)
    inner = [each for value in data.values() for each in (value if isinstance(value, list) else [value])]
    told = any(messages_of(value) or documents_of(value) for each in inner for value in fields_of(each).values())
    return Told("updates" if told or INTERRUPT in keys else None, data)


_SHAPES: Final = (
    ("debug", {"step", "timestamp", "type", "payload"}),
    ("tasks", {"id", "name", "input", "triggers"}),
    ("tasks", {"id", "name", "result", "interrupts"}),
    ("checkpoints", {"config", "values", "next", "tasks"}),
    ("tools", {"event", "tool_call_id"}),
)
_STEPS: Final[dict[str | None, Callable[[LangGraph, Told], Iterable[e.Event]]]] = {
    "messages": LangGraph._message,
    "updates": LangGraph._updates,
    "values": LangGraph._values,
    "tools": LangGraph._tools,
    "custom": LangGraph._custom,
    "tasks": LangGraph._custom,
    "checkpoints": LangGraph._custom,
    "debug": LangGraph._custom,
    None: LangGraph._custom,
}
"""By mode. Others, of a later version, give nothing."""
