"""LangChain's `astream_events`, versions 1 and 2: every step of a chain tells of itself, and of what its own steps told before.

The tricky rule first. The text of a model nested in chains comes again from every chain around it, down to the root. A model's
own events count; the root's text counts only while no model has said anything in its stream. Of the root's dicts count the
documents and the messages that were not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.sources.langchain_messages import Messages
from tidelog.sources.langchain_values import (
    field,
    get,
    is_chunk,
    is_message,
    messages_of,
    plain,
)

TEXTS: Final = ("answer", "output", "output_text", "result", "response", "text")
"""The keys under which chains give the text that they are there for."""


class Events:
    """Feeds the events of such streams to the messages of the run. The streams of a run may be interleaved."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._roots: set[str] = set()
        """The runs that are open and have no parent."""
        self._spoke = False
        """A model has said something since the root began."""
        self._written: set[str] = set()
        """The roots whose own text was told."""

    def feed(self, event: Any) -> Iterable[e.Event]:
        """The events of this event; kinds that are unknown, and chains inside chains, give none."""
        kind: str = event["event"]
        run = str(event.get("run_id") or "")
        if kind.endswith("_stream"):
            return self._piece(kind, run, event)
        ended = kind.endswith(("_end", "_error"))
        root = run in self._roots
        if ended:
            self._roots.discard(run)
        elif kind.endswith("_start") and not self._roots and not get(event, "parent_ids"):
            self._roots.add(run)
            self._spoke = False
        if kind.startswith("on_chain_"):
            return self._chain(run, event, ended=ended) if root else ()
        step = _STEPS.get(kind)
        return step(self, run, event) if step is not None else ()

    def _piece(self, kind: str, run: str, event: Any) -> Iterable[e.Event]:
        """A token comes from its model, and again from each step around it, which is nearly all that there is."""
        if kind == "on_chain_stream":
            if run not in self._roots or (self._spoke and type(get(event["data"], "chunk")) is str):
                return ()
            return self._chain(run, event, ended=False)
        return self._chunk(run, event) if kind in _PIECES else ()

    def _chunk(self, run: str, event: Any) -> Iterable[e.Event]:
        chunk = get(event["data"], "chunk")
        self._spoke = True
        if type(chunk).__name__ == "AIMessageChunk" or is_message(chunk):
            return self._messages.chunk(chunk, run)
        if (message := get(chunk, "message")) is not None:
            return self._messages.chunk(message, run)
        text = chunk if isinstance(chunk, str) else get(chunk, "text")
        self._messages.begin(run, None)
        return self._messages.text(run, text) if text else ()

    def _model_end(self, run: str, event: Any) -> Iterator[e.Event]:
        """The whole answer, as a message or among the generations of a result."""
        output = field(event, "data", "output")
        self._spoke = True
        for each in (one for generation in get(output, "generations") or [[output]] for one in generation):
            message = each if is_message(each) else get(each, "message")
            if message is not None:
                yield from self._messages.whole(message, beside=run)
            elif not self._messages.streamed(run) and (text := get(each, "text")):
                yield from self._messages.text(run, text)
        if (usage := field(output, "llm_output", "token_usage")) and get(usage, "prompt_tokens") is not None:
            counts = {"input_tokens": get(usage, "prompt_tokens"), "output_tokens": get(usage, "completion_tokens")}
            yield from self._messages.told(run, counts, None)
        yield from self._messages.finish(run)

    def _tool_start(self, run: str, event: Any) -> Iterable[e.Event]:
        parents = tuple(get(event, "parent_ids") or ())
        given = field(event, "data", "input")
        return self._messages.calls.started(run, get(event, "name") or "", given, parents=parents)

    def _tool_end(self, run: str, event: Any) -> Iterable[e.Event]:
        return self._messages.calls.finished(run, field(event, "data", "output"))

    def _tool_error(self, run: str, event: Any) -> Iterable[e.Event]:
        data = get(event, "data")
        return self._messages.calls.failed(run, get(data, "error"), id=get(data, "tool_call_id"))

    def _retriever_end(self, run: str, event: Any) -> Iterable[e.Event]:
        output = field(event, "data", "output")
        return self._messages.documents(get(output, "documents") or output)

    def _custom(self, run: str, event: Any) -> Iterator[e.Event]:
        data = get(event, "data")
        yield data if isinstance(data, e.Event) else e.Data(name=get(event, "name"), data=plain(data))

    def _chain(self, run: str, event: Any, *, ended: bool) -> Iterator[e.Event]:
        """What the root gives, piece by piece and, at its end, once more as a whole."""
        value = field(event, "data", "output" if ended else "chunk")
        mute = self._spoke or (ended and run in self._written)
        if isinstance(value, str):
            yield from self._say(run, "" if mute else value)
        elif is_chunk(value) and not ended:
            yield from self._messages.chunk(value, run) if not mute else ()
        elif is_message(value):
            yield from self._messages.whole(value, beside=run)
        elif isinstance(value, dict):
            yield from self._fields(run, value, mute=mute)
        else:
            yield from self._messages.documents(value)
        if ended:
            yield from self._messages.finish(run)

    def _fields(self, run: str, value: dict[str, Any], *, mute: bool) -> Iterator[e.Event]:
        """Of a dict: documents, the answer, and what the nodes of a graph add to its messages."""
        for key, each in value.items():
            if key in TEXTS and isinstance(each, str):
                yield from self._say(run, "" if mute else each)
            elif isinstance(each, dict):
                for message in messages_of(each.get("messages")):
                    yield from self._messages.whole(message)
            else:
                yield from self._messages.documents(each)

    def _say(self, run: str, text: str) -> Iterable[e.Event]:
        if not text:
            return ()
        self._written.add(run)
        return self._messages.text(run, text)


_PIECES: Final = frozenset({"on_chat_model_stream", "on_llm_stream"})
_STEPS: Final[dict[str, Callable[[Events, str, Any], Iterable[e.Event]]]] = {
    "on_chat_model_end": Events._model_end,
    "on_llm_end": Events._model_end,
    "on_tool_start": Events._tool_start,
    "on_tool_end": Events._tool_end,
    "on_tool_error": Events._tool_error,
    "on_retriever_end": Events._retriever_end,
    "on_custom_event": Events._custom,
}
