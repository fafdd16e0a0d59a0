"""pydantic-ai's agent events, as `agent.run_stream_events()` and the streams of `agent.iter()` yield them.

The tricky rules first. An event names a part by its index within one response of the model, so that the agents of one run must
come one after the other. Deltas of a part may come behind its `PartEndEvent`, so that the input of a call is complete only when
the call is made. Text parts that follow each other are one part: an answer with citations comes in many. The final result
repeats what was streamed: of it count the usage, why the model ended, and an output that is not the text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from tidelog import events as e
from tidelog.parts import Parts

_REASONS: Final[dict[str, e.FinishReason]] = {
    "stop": "stop", "length": "length", "content_filter": "content_filter", "tool_call": "tool_calls",
}  # fmt: skip
_OUTCOMES: Final[dict[str, e.ToolOutcome]] = {"success": "completed", "interrupted": "stopped"}
_ENVELOPE: Final = frozenset({"name", "event_kind", "tool_call_id", "tool_name"})
"""Fields of a custom event that are none of its payload."""


class PydanticAI:
    """Implements `seams.LibraryTranslator` for instances, and for the dicts that pydantic makes of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._text: str | None = None
        self._reasoning: str | None = None
        self._streams: dict[int, _Call] = {}
        """The calls of the response that streams, by index."""
        self._calls: dict[str, _Call] = {}
        """The last call with each of the provider's ids."""
        self._cited: set[e.Source] = set()
        self._usages: dict[int, tuple[Any, int, int]] = {}

    @staticmethod
    def takes(kind: type) -> bool:
        """Every event: they alone have a kind. An application's own have `CustomEvent` as a base."""
        return kind.__module__.startswith("pydantic_ai.") and hasattr(kind, "event_kind")

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk; kinds that are unknown, and those that concern the library alone, give nothing."""
        step = _STEPS.get(_get(chunk, "event_kind"))
        return step(self, chunk) if step is not None else ()

    def end(self) -> Iterable[e.Event]:
        """What is open is ended, and what no usage was told for is estimated."""
        yield from self._close()
        if (usage := self._parts.estimate()) is not None:
            yield usage

    def _part_start(self, chunk: Any) -> Iterator[e.Event]:
        part, index = _get(chunk, "part"), _get(chunk, "index")
        kind = _get(part, "part_kind")
        self._streams.pop(index, None)
        if kind != "text" or _get(chunk, "previous_part_kind") != "text":
            yield from self._end_text()
        yield from self._end_reasoning()
        if kind == "text":
            yield from self._say(_get(part, "content"))
            yield from self._cite(_get(part, "citations"))
        elif kind == "thinking":
            yield from self._think(_get(part, "content"))
        elif kind in ("tool-call", "builtin-tool-call"):
            yield from self._call_start(part)
            self._streams[index] = call = self._calls[_get(part, "tool_call_id")]
            yield from call.more(_get(part, "args"))
        elif kind == "builtin-tool-return":
            yield from self._returned(part)
        elif kind == "file":
            yield e.Data(name="file", data=_plain(_get(part, "content")))

    def _part_delta(self, chunk: Any) -> Iterator[e.Event]:
        delta = _get(chunk, "delta")
        kind = _get(delta, "part_delta_kind")
        if kind == "text":
            yield from self._say(_get(delta, "content_delta"))
            yield from self._cite(_get(delta, "citations_delta"))
        elif kind == "thinking":
            yield from self._think(_get(delta, "content_delta"))
        elif kind == "tool_call" and (call := self._streams.get(_get(chunk, "index"))) is not None:
            yield from call.more(_get(delta, "args_delta"))

    def _part_end(self, chunk: Any) -> Iterator[e.Event]:
        part = _get(chunk, "part")
        kind = _get(part, "part_kind")
        if kind == "text" and _get(chunk, "next_part_kind") != "text":
            yield from self._end_text()
        elif kind == "thinking":
            yield from self._end_reasoning()
        elif (
            kind in ("tool-call", "builtin-tool-call") and (call := self._streams.get(_get(chunk, "index"))) is not None
        ):
            self._calls[_get(part, "tool_call_id")] = call  # the provider may have told its id late
            if kind == "builtin-tool-call":
                yield from call.given(_get(part, "args"))

    def _tool_call(self, chunk: Any) -> Iterator[e.Event]:
        """The call is made. One that no response of this run has streamed begins here."""
        part = _get(chunk, "part")
        call = self._calls.get(_get(part, "tool_call_id"))
        if call is None or call.ended:
            yield from self._call_start(part)
            call = self._calls[_get(part, "tool_call_id")]
        yield from call.given(_get(part, "args"))

    def _tool_result(self, chunk: Any) -> Iterator[e.Event]:
        return self._returned(_get(chunk, "part"))

    def _result(self, chunk: Any) -> Iterator[e.Event]:
        yield from self._close()
        result = _get(chunk, "result")
        response = _last_response(result)
        output = _get(result, "output")
        if output is not None and output != _text_of(response):
            yield e.Data(name="output", data=_plain(output))
        yield from self._used(_get(result, "usage"))
        if (reason := _get(response, "finish_reason")) is not None:
            raw = _get(_get(response, "provider_details"), "finish_reason")
            yield e.Finish(
                reason=_REASONS.get(reason, "other"), raw=str(raw or reason), model=_get(response, "model_name")
            )

    def _custom(self, chunk: Any) -> Iterator[e.Event]:
        """An application's own event is data, unless it says that it is not for those who watch."""
        if _get(chunk, "ui") is False:
            return
        fields = chunk if isinstance(chunk, dict) else [field.name for field in dataclasses.fields(chunk)]
        data = {name: _plain(_get(chunk, name)) for name in fields if name not in _ENVELOPE}
        yield e.Data(name=_get(chunk, "name") or None, data=data)

    def _used(self, usage: Any) -> Iterator[e.Event]:
        """The usage of an agent's run, which may be shared with, and then includes that of, runs before it."""
        read, written = _get(usage, "input_tokens") or 0, _get(usage, "output_tokens") or 0
        _, read_before, written_before = self._usages.get(id(usage), (None, 0, 0))
        self._usages[id(usage)] = usage, read, written
        if read or written:
            yield self._parts.used(read - read_before, written - written_before)
        elif (estimate := self._parts.estimate()) is not None:
            yield estimate

    def _say(self, text: str | None) -> Iterator[e.Event]:
        if text:
            if self._text is None:
                self._text = self._parts.text()
            yield e.TextDelta(part=self._text, text=text)

    def _think(self, text: str | None) -> Iterator[e.Event]:
        if text:
            if self._reasoning is None:
                self._reasoning = self._parts.reasoning()
            yield e.ReasoningDelta(part=self._reasoning, text=text)

    def _cite(self, citations: Any) -> Iterator[e.Event]:
        """A delta repeats the citations before it."""
        sources = [_source(each) for citation in citations or () for each in _get(citation, "sources")]
        new = [source for source in dict.fromkeys(sources) if source not in self._cited]
        self._cited.update(new)
        if new:
            yield e.Sources(new)

    def _call_start(self, part: Any) -> Iterator[e.Event]:
        id = _get(part, "tool_call_id")
        call = _Call(id if id and id not in self._calls else self._parts.call())
        self._calls[id] = call
        yield e.ToolStarted(call=call.name, name=_get(part, "tool_name"))

    def _returned(self, part: Any) -> Iterator[e.Event]:
        call = self._calls.get(_get(part, "tool_call_id"))
        if call is None:
            yield from self._call_start(part)
            call = self._calls[_get(part, "tool_call_id")]
        if call.ended:
            return
        yield from call.given()
        call.ended = True
        content, outcome = _plain(_get(part, "content")), _get(part, "outcome") or "failed"
        if outcome == "success":
            yield e.ToolEnded(call=call.name, output=content)
        else:
            error = content if isinstance(content, str) else e.encode_json(content).decode()
            yield e.ToolEnded(call=call.name, outcome=_OUTCOMES.get(outcome, "failed"), error=error)

    def _close(self) -> Iterator[e.Event]:
        yield from self._end_reasoning()
        yield from self._end_text()
        for call in self._streams.values():
            yield from call.given()
        self._streams.clear()

    def _end_text(self) -> Iterator[e.Event]:
        part, self._text = self._text, None
        if part is not None:
            yield e.TextEnded(part=part)

    def _end_reasoning(self) -> Iterator[e.Event]:
        part, self._reasoning = self._reasoning, None
        if part is not None:
            yield e.ReasoningEnded(part=part)


class _Call:
    """A call and its arguments: JSON text that streams, or a dict that comes whole or is merged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self._given = False
        self._pieces: list[str] = []
        self._fields: dict[str, Any] = {}

    def more(self, args: Any) -> Iterator[e.Event]:
        if isinstance(args, dict):
            self._fields |= args
        elif args and not self._given:
            self._pieces.append(args)
            yield e.ToolInputDelta(call=self.name, json=args)

    def given(self, args: Any = None) -> Iterator[e.Event]:
        """The call's input, once: `args`, or what has streamed."""
        if self._given:
            return
        self._given = True
        if not args:
            args = "".join(self._pieces) or self._fields
        try:
            yield e.ToolInput(call=self.name, input=json.loads(args) if isinstance(args, str) else _plain(args))
        except ValueError:
            yield e.ToolInput(call=self.name, input=args)


def _last_response(result: Any) -> Any:
    messages = _get(result, "messages")
    if messages is None:
        every = _get(result, "all_messages")
        messages = every() if callable(every) else ()
    return next((message for message in reversed(messages) if _get(message, "kind") == "response"), None)


def _text_of(response: Any) -> str:
    parts = _get(response, "parts") or ()
    return "".join(_get(part, "content") for part in parts if _get(part, "part_kind") == "text")


def _source(source: Any) -> e.Source:
    url, title = _get(source, "url"), _get(source, "title")
    id = url or _get(source, "document_id") or title or "document"
    quote = "\n".join(_get(source, "excerpts") or ()) or None
    return e.Source(id, title or id, url=url, quote=quote)


def _plain(value: Any) -> Any:
    """As JSON has it. Files are named by kind and size: a log is no place for their bytes."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(getattr(value, "data", None), bytes):
        return {"media_type": getattr(value, "media_type", None), "bytes": len(value.data)}
    return msgspec.to_builtins(value, enc_hook=_foreign)


def _foreign(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else str(value)


def _get(value: Any, name: str) -> Any:
    """A field of an instance or a dict; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


_STEPS: Final[dict[str | None, Callable[[PydanticAI, Any], Iterator[e.Event]]]] = {
    "part_start": PydanticAI._part_start,
    "part_delta": PydanticAI._part_delta,
    "part_end": PydanticAI._part_end,
    "function_tool_call": PydanticAI._tool_call,
    "output_tool_call": PydanticAI._tool_call,
    "function_tool_result": PydanticAI._tool_result,
    "output_tool_result": PydanticAI._tool_result,
    "agent_run_result": PydanticAI._result,
    "custom": PydanticAI._custom,
}
