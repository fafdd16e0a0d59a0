"""The Responses API: the events of a stream, and whole responses.

The tricky rules first. Deltas name their item, not their response, so that several responses may stream at once. A `done` event
repeats what its deltas have told and counts where there were none, but only for an item that began in this run: a response
that is re-attached in the middle of an item must not say again what an earlier run has said. What the provider runs by itself
(it has no `call_id`) ends with its item; all other calls are the application's to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.openai_shapes import Call, Calls, Cited, ended, failure, get, parsed, readable

_INCOMPLETE: Final[dict[str | None, e.FinishReason]] = {
    "max_output_tokens": "length", "max_messages": "length", "content_filter": "content_filter",
}  # fmt: skip
_AROUND: Final = {"custom_tool_call": ('"', '"'), "code_interpreter_call": ('{"code":"', '"}')}
"""Calls whose input streams as bare text, and the JSON around it."""
_INPUT: Final = ("queries", "code", "action", "operation")

Key = tuple[str, str, int]
"""A part: the item, its kind, and its index in the item."""


class Responses:
    """Translates the events of any number of responses."""

    def __init__(self, parts: Parts, *, calls: Calls, cited: Cited) -> None:
        self._parts = parts
        self._names = calls
        self._cited = cited
        self._turn = 0
        self._live: set[str] = set()
        self._over: set[str] = set()
        """Ids of the responses that were told to their end."""
        self._begun: set[str] = set()
        """Items that began in this run."""
        self._open: dict[Key, str] = {}
        self._heard: set[Key] = set()
        self._annotated: dict[Key, int] = {}
        self._calls: dict[str, Call] = {}
        """The calls whose items are not done, by item."""
        self._done: set[str] = set()
        self._given: dict[str, str] = {}
        """The calls that a later item may end, by the provider's `call_id`."""

    def feed(self, event: Any) -> Iterable[e.Event]:
        """The events of an event. Raises `SourceError` for one that tells of an error or of a response that failed."""
        step = _STEPS.get(get(event, "type"))
        return step(self, event) if step is not None else ()

    def whole(self, response: Any) -> Iterator[e.Event]:
        """A response that did not stream, or one that repeats what its stream has told."""
        status = get(response, "status") or "completed"
        if get(response, "id") in self._over or status in ("queued", "in_progress"):
            return
        yield from self._created({"response": response})
        for index, item in enumerate(get(response, "output") or ()):
            event = {"item": item, "output_index": index}
            yield from self._item_added(event)
            yield from self._item_done(event)
        yield from self._ended({"response": response})

    def end(self) -> Iterator[e.Event]:
        """What is open is ended."""
        for key in list(self._open):
            yield from self._end_part(key)
        yield from ended(self._calls.values())
        self._calls.clear()

    def _created(self, event: Any) -> Iterator[e.Event]:
        self._turn += 1
        self._live.add(get(get(event, "response"), "id") or "")
        yield from ()

    def _item_added(self, event: Any) -> Iterator[e.Event]:
        item = get(event, "item")
        place = self._item(event, get(item, "id"))
        self._begun.add(place)
        if _is_call(item) and place not in self._calls:
            call = self._call(item)
            self._calls[place] = call
            yield from call.start(_tool(item))

    def _item_done(self, event: Any) -> Iterator[e.Event]:
        item = get(event, "item")
        place = self._item(event, get(item, "id"))
        if place in self._done:
            return
        self._done.add(place)
        kind = get(item, "type") or ""
        if kind.endswith("_call_output"):
            yield from self._result(item)
        elif _is_call(item):
            yield from self._call_done(place, item)
        else:
            yield from self._message_done(place, item)
        yield from self._end_item(place)

    def _call_done(self, place: str, item: Any) -> Iterator[e.Event]:
        call = self._calls.pop(place, None) or self._call(item)
        yield from call.start(_tool(item))
        yield from call.give(_input(item))
        if get(item, "call_id"):
            self._given[get(item, "call_id")] = call.call
            return
        error = get(item, "error")
        if error or get(item, "status") in ("failed", "incomplete"):
            said = get(error, "message") or (error if isinstance(error, str) else get(item, "status"))
            yield e.ToolEnded(call=call.call, outcome="failed", error=str(said or "failed"))
        else:
            yield e.ToolEnded(call=call.call, output=_output(item))

    def _result(self, item: Any) -> Iterator[e.Event]:
        """What came out of a call that has an item of its own for it."""
        call = self._given.pop(get(item, "call_id") or "", None)
        if call is not None:
            yield e.ToolEnded(call=call, output=readable(get(item, "output")))

    def _message_done(self, place: str, item: Any) -> Iterator[e.Event]:
        for index, piece in enumerate(get(item, "summary") or ()):
            yield from self._rest((place, "summary", index), get(piece, "text"))
        for index, piece in enumerate(get(item, "content") or ()):
            yield from self._piece_done(place, index, piece)

    def _piece_done(self, place: str, index: int, piece: Any) -> Iterator[e.Event]:
        kind = {"refusal": "refusal", "reasoning_text": "reasoning"}.get(get(piece, "type"), "text")
        key = (place, kind, index)
        yield from self._rest(key, get(piece, "refusal") or get(piece, "text"))
        annotations = get(piece, "annotations") or []
        yield from self._cited.tell(annotations[self._annotated.get(key, 0) :])
        self._annotated[key] = max(len(annotations), self._annotated.get(key, 0))

    def _part_done(self, event: Any) -> Iterator[e.Event]:
        place = self._item(event, get(event, "item_id"))
        yield from self._piece_done(place, get(event, "content_index") or 0, get(event, "part"))

    def _delta(self, event: Any) -> Iterable[e.Event]:
        key = self._key(event)
        self._heard.add(key)
        text = get(event, "delta")
        return (self._said(key, text),) if text else ()

    def _text_done(self, event: Any) -> Iterator[e.Event]:
        yield from self._rest(self._key(event), get(event, "text") or get(event, "refusal"))

    def _annotation(self, event: Any) -> Iterator[e.Event]:
        key = self._key(event)
        self._annotated[key] = self._annotated.get(key, 0) + 1
        yield from self._cited.tell([get(event, "annotation")])

    def _input_delta(self, event: Any) -> Iterator[e.Event]:
        """One that belongs to an item which began in an earlier run waits for the end of its item, which tells all."""
        call = self._calls.get(self._item(event, get(event, "item_id")))
        if call is not None:
            yield from call.more(get(event, "delta"))

    def _input_done(self, event: Any) -> Iterator[e.Event]:
        call = self._calls.get(self._item(event, get(event, "item_id")))
        if call is None:
            return
        if (arguments := get(event, "arguments")) is not None:
            yield from call.give(parsed(arguments))
        elif call.streamed:
            yield from call.whole()

    def _ended(self, event: Any) -> Iterator[e.Event]:
        """The end of a response. Where others still stream, only the items that it lists are known to be its own."""
        response = get(event, "response")
        id = get(response, "id") or ""
        if id and id in self._over:
            return
        self._over.add(id)
        self._live.discard(id)
        if not self._live:
            yield from self.end()
        for item in get(response, "output") or ():
            yield from self._end_item(str(get(item, "id")))
        yield from self._used(get(response, "usage"))
        status = get(response, "status") or (get(event, "type") or "").removeprefix("response.")
        if status == "failed":
            raise failure(get(response, "error"))
        yield _finish(response, status)

    def _end_item(self, place: str) -> Iterator[e.Event]:
        for key in [key for key in self._open if key[0] == place]:
            yield from self._end_part(key)
        if (call := self._calls.pop(place, None)) is not None:
            yield from call.whole()

    def _used(self, usage: Any) -> Iterator[e.Event]:
        read, wrote = get(usage, "input_tokens") or 0, get(usage, "output_tokens") or 0
        told = self._parts.used(read, wrote) if read or wrote else self._parts.estimate()
        if told is not None:
            yield told

    def _error(self, event: Any) -> Iterator[e.Event]:
        raise failure(get(event, "error") or event)

    def _call(self, item: Any) -> Call:
        id = get(item, "call_id") or get(item, "id")
        return Call(self._names.name(id), id, _AROUND.get(get(item, "type")))

    def _rest(self, key: Key, text: Any) -> Iterator[e.Event]:
        """The part is told to its end; its text is, where no delta has told it."""
        if text and key not in self._heard and key[0] in self._begun:
            self._heard.add(key)
            yield self._said(key, text)
        yield from self._end_part(key)

    def _said(self, key: Key, text: str) -> e.Event:
        thought = key[1] in ("summary", "reasoning")
        part = self._open.get(key)
        if part is None:
            part = self._open[key] = self._parts.reasoning() if thought else self._parts.text()
        return e.ReasoningDelta(part=part, text=text) if thought else e.TextDelta(part=part, text=text)

    def _end_part(self, key: Key) -> Iterator[e.Event]:
        part = self._open.pop(key, None)
        if part is not None:
            yield e.ReasoningEnded(part=part) if key[1] in ("summary", "reasoning") else e.TextEnded(part=part)

    def _key(self, event: Any) -> Key:
        kind = _KINDS.get(get(event, "type").rpartition(".")[0], "text")
        index = get(event, "summary_index" if kind == "summary" else "content_index") or 0
        return self._item(event, get(event, "item_id")), kind, index

    def _item(self, event: Any, id: Any) -> str:
        """The item, by its id; where a server gives none, by its place in the latest response."""
        return str(id) if id else f"{self._turn}.{get(event, 'output_index')}"


def _is_call(item: Any) -> bool:
    return str(get(item, "type") or "").endswith("_call")


def _tool(item: Any) -> str:
    return get(item, "name") or str(get(item, "type")).removesuffix("_call")


def _input(item: Any) -> Any:
    """Arguments as they are; of what the provider runs, the fields that say what was asked."""
    arguments = get(item, "arguments")
    if arguments is not None:
        return parsed(arguments)
    if get(item, "type") == "custom_tool_call":
        return get(item, "input")
    found = {name: readable(get(item, name)) for name in _INPUT if get(item, name) is not None}
    for name in ("action", "operation"):
        if isinstance(found.get(name), Mapping):
            return {field: value for field, value in found[name].items() if field != "sources"}
    return found


def _output(item: Any) -> Any:
    """What came out: an image is left out, it would fill the log."""
    for owner, name in ((item, "output"), (item, "outputs"), (item, "results"), (get(item, "action"), "sources")):
        found = get(owner, name)
        if found is not None:
            return readable(found)
    return None


def _finish(response: Any, status: str) -> e.Finish:
    model = get(response, "model")
    if status != "completed":
        raw = get(get(response, "incomplete_details"), "reason") or status
        return e.Finish(reason=_INCOMPLETE.get(raw, "other"), raw=raw, model=model)
    output = get(response, "output") or ()
    pieces = [piece for item in output if get(item, "type") == "message" for piece in get(item, "content") or ()]
    reason: e.FinishReason = "stop"
    if any(get(piece, "type") == "refusal" for piece in pieces):
        reason = "refusal"
    elif any(get(item, "type") in ("function_call", "custom_tool_call") for item in output):
        reason = "tool_calls"
    return e.Finish(reason=reason, raw=status, model=model)


_KINDS: Final = {
    "response.output_text": "text", "response.output_text.annotation": "text", "response.refusal": "refusal",
    "response.reasoning_summary_text": "summary", "response.reasoning_text": "reasoning",
    "response.reasoning": "reasoning",
}  # fmt: skip

_Step = Callable[[Responses, Any], Iterable[e.Event]]
_STEPS: Final[dict[str | None, _Step]] = {
    "response.created": Responses._created,
    "response.output_item.added": Responses._item_added,
    "response.output_item.done": Responses._item_done,
    "response.content_part.done": Responses._part_done,
    "response.output_text.annotation.added": Responses._annotation,
    **{f"{name}.delta": Responses._delta for name in _KINDS if "annotation" not in name},
    **{f"{name}.done": Responses._text_done for name in _KINDS if "annotation" not in name},
    "response.function_call_arguments.delta": Responses._input_delta,
    "response.function_call_arguments.done": Responses._input_done,
    "response.mcp_call_arguments.delta": Responses._input_delta,
    "response.mcp_call_arguments.done": Responses._input_done,
    "response.custom_tool_call_input.delta": Responses._input_delta,
    "response.custom_tool_call_input.done": Responses._input_done,
    "response.code_interpreter_call_code.delta": Responses._input_delta,
    "response.code_interpreter_call_code.done": Responses._input_done,
    "response.completed": Responses._ended,
    "response.incomplete": Responses._ended,
    "response.failed": Responses._ended,
    "response.cancelled": Responses._ended,
    "error": Responses._error,
}
