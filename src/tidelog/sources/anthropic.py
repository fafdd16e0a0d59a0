"""Anthropic's Messages API: the raw events of a stream, what `client.messages.stream()` makes of them, and whole messages.

The tricky rules first. Deltas name no message, so that the streams of one run must come one after the other; a message that
begins ends the one before. `client.messages.stream()` yields each raw delta and then its derived event (`text`, `thinking`,
`citation`, `input_json`): a derived one counts only where its raw one was not yielded. Text blocks that follow each other are
one part: an answer with citations comes in many.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.errors import SourceError
from tidelog.parts import Parts

log = logging.getLogger("tidelog")

LONGEST: Final = 16_384
"""Characters that are kept of a text in the result of a tool which the provider ran: a fetched page can be large."""

_REASONS: Final[dict[str, e.FinishReason]] = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "refusal",
}  # fmt: skip
_CODES: Final = {
    "rate_limit_error": "rate_limited", "overloaded_error": "overloaded", "invalid_request_error": "invalid_request",
    "request_too_large": "invalid_request", "timeout_error": "timed_out",
}  # fmt: skip
_RAW: Final = {"text": "text_delta", "thinking": "thinking_delta", "citation": "citations_delta"}
"""The derived events that may stand alone, by the raw delta that they repeat."""


class Anthropic:
    """Implements `seams.LibraryTranslator` for instances and dicts of both the API and its beta."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen: set[str] = set()
        """The messages of this run."""
        self._model: str | None = None
        self._text: str | None = None
        self._reasoning: str | None = None
        self._tools: dict[int, _Tool] = {}
        """The calls whose input still streams, by the index of their block."""
        self._calls: dict[str, str] = {}
        """The provider's ids and the calls of this run."""
        self._ended: set[str] = set()
        self._tokens = _Tokens()
        self._raw: str | None = None
        """The kind of the raw delta that the next derived event may repeat."""

    @staticmethod
    def takes(kind: type) -> bool:
        """The events of a stream, and the message that a call without streaming gives."""
        name = kind.__name__
        if kind.__module__.startswith("anthropic.lib.streaming."):
            return name.endswith("Event")
        name = name.removeprefix("Beta")
        raw = name.startswith("Raw") and name.endswith("Event")
        return kind.__module__.startswith("anthropic.types.") and (raw or name == "Message")

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk. Raises `SourceError` for an `error` event; kinds that are unknown give nothing."""
        if self._text is not None:  # text behind text, nearly always: there is nothing to decide
            delta: Any = getattr(chunk, "delta", None)
            if getattr(delta, "type", None) == "text_delta" and delta.text:
                self._raw = "text_delta"
                return (e.TextDelta(part=self._text, text=delta.text),)
        step = _STEPS.get(_get(chunk, "type"))
        return step(self, chunk) if step is not None else ()

    def end(self) -> Iterable[e.Event]:
        """What is open is ended, and what no usage was told for is estimated."""
        yield from self._close()

    def _message_start(self, chunk: Any) -> Iterator[e.Event]:
        yield from self._close()
        message = _get(chunk, "message")
        self._seen.add(_get(message, "id") or "")
        self._model = _get(message, "model")
        self._tokens = _Tokens()
        self._tokens.take(_get(message, "usage"))

    def _block_start(self, chunk: Any) -> Iterator[e.Event]:
        block = _get(chunk, "content_block")
        kind = _get(block, "type") or ""
        if kind == "text":
            yield from self._say(_get(block, "text"))
            for citation in _get(block, "citations") or ():
                yield _sources(citation)
        elif kind == "thinking":
            yield from self._think(_get(block, "thinking"))
        elif kind.endswith("tool_use"):
            yield from self._tool_start(_get(chunk, "index"), block)
        elif kind.endswith("tool_result"):
            yield from self._tool_result(block, kind.removesuffix("_tool_result"))

    def _block_delta(self, chunk: Any) -> Iterator[e.Event]:
        delta = _get(chunk, "delta")
        kind = self._raw = _get(delta, "type")
        if kind == "text_delta":
            yield from self._say(_get(delta, "text"))
        elif kind == "thinking_delta":
            yield from self._think(_get(delta, "thinking"))
        elif kind == "citations_delta":
            yield _sources(_get(delta, "citation"))
        elif kind == "input_json_delta" and (tool := self._tools.get(_get(chunk, "index"))) is not None:
            yield from tool.more(_get(delta, "partial_json"))

    def _block_stop(self, chunk: Any) -> Iterator[e.Event]:
        tool = self._tools.pop(_get(chunk, "index"), None)
        if tool is not None:
            yield tool.whole()
        else:
            yield from self._end_reasoning()

    def _message_delta(self, chunk: Any) -> Iterator[e.Event]:
        delta = _get(chunk, "delta")
        reason = _get(delta, "stop_reason")
        explanation = _get(_get(delta, "stop_details"), "explanation")
        if reason == "refusal" and explanation:
            yield from self._end_text()
            yield from self._say(explanation)
        yield from self._end_text()
        self._tokens.take(_get(chunk, "usage"))
        yield from self._tokens.whole(self._parts)
        if reason is not None:
            yield e.Finish(reason=_REASONS.get(reason, "other"), raw=reason, model=self._model)

    def _message_stop(self, chunk: Any) -> Iterator[e.Event]:
        return self._close()

    def _message(self, message: Any) -> Iterator[e.Event]:
        """A whole message means what its stream means; the final message of a stream that was fed repeats it."""
        if _get(message, "id") in self._seen:
            return
        yield from self._message_start({"message": message})
        for index, block in enumerate(_get(message, "content") or ()):
            yield from self._block_start({"index": index, "content_block": block})
            yield from self._block_stop({"index": index})
        yield from self._message_delta({"delta": message, "usage": _get(message, "usage")})
        yield from self._close()

    def _derived(self, chunk: Any) -> Iterator[e.Event]:
        kind = _get(chunk, "type")
        raw, self._raw = self._raw, None
        if raw == _RAW[kind]:
            return
        if kind == "citation":
            yield _sources(_get(chunk, "citation"))
        else:
            yield from (self._say if kind == "text" else self._think)(_get(chunk, kind))

    def _error(self, chunk: Any) -> Iterator[e.Event]:
        """The provider's own words, which may hold a prompt, go to the log alone."""
        error = _get(chunk, "error")
        kind = _get(error, "type") or "error"
        log.warning("Anthropic says in a stream: %s (%s)", _get(error, "message"), kind)
        raise SourceError(code=_CODES.get(kind))

    def _say(self, text: str | None) -> Iterator[e.Event]:
        if not text:
            return
        if self._text is None:
            yield from self._end_reasoning()
            yield from self._tokens.begin(self._parts)
            self._text = self._parts.text()
        yield e.TextDelta(part=self._text, text=text)

    def _think(self, text: str | None) -> Iterator[e.Event]:
        if not text:
            return
        if self._reasoning is None:
            yield from self._end_text()
            yield from self._tokens.begin(self._parts)
            self._reasoning = self._parts.reasoning()
        yield e.ReasoningDelta(part=self._reasoning, text=text)

    def _tool_start(self, index: int, block: Any) -> Iterator[e.Event]:
        yield from self._end_text()
        yield from self._end_reasoning()
        yield from self._tokens.begin(self._parts)
        call = self._name(_get(block, "id"))
        parent = self._calls.get(_get(_get(block, "caller"), "tool_id"))
        self._tools[index] = _Tool(call, _get(block, "input"))
        yield e.ToolStarted(call=call, name=_get(block, "name") or "", parent=parent)

    def _tool_result(self, block: Any, name: str) -> Iterator[e.Event]:
        """A result whose call came in another run is a call of its own."""
        yield from self._end_text()
        id = _get(block, "tool_use_id")
        call = self._calls.get(id)
        if call is None:
            call = self._name(id)
            yield e.ToolStarted(call=call, name=name)
        if call in self._ended:
            return
        self._ended.add(call)
        content = _get(block, "content")
        error = _get(content, "error_code") or (_get(block, "is_error") and (_text(content) or "failed"))
        if error:
            yield e.ToolEnded(call=call, outcome="failed", error=str(error))
        else:
            yield e.ToolEnded(call=call, output=_readable(content))

    def _name(self, id: str | None) -> str:
        call = id if id and id not in self._calls else self._parts.call()
        self._calls[id or call] = call
        return call

    def _close(self) -> Iterator[e.Event]:
        """End what is open. What a message said without telling its usage is estimated, lest the next one's usage hide it."""
        yield from self._end_reasoning()
        yield from self._end_text()
        for tool in self._tools.values():
            yield tool.whole()
        self._tools.clear()
        if self._tokens.owed:
            self._tokens.owed = False
            if (usage := self._parts.estimate()) is not None:
                yield usage

    def _end_text(self) -> Iterator[e.Event]:
        part, self._text = self._text, None
        if part is not None:
            yield e.TextEnded(part=part)

    def _end_reasoning(self) -> Iterator[e.Event]:
        part, self._reasoning = self._reasoning, None
        if part is not None:
            yield e.ReasoningEnded(part=part)


class _Tool:
    """A call whose input streams as JSON text; without any, `given` is its input."""

    def __init__(self, call: str, given: Any) -> None:
        self._call = call
        self._given = given
        self._pieces: list[str] = []

    def more(self, piece: str | None) -> Iterator[e.Event]:
        if piece:
            self._pieces.append(piece)
            yield e.ToolInputDelta(call=self._call, json=piece)

    def whole(self) -> e.Event:
        text = "".join(self._pieces)
        try:
            found = json.loads(text) if text else self._given or {}
        except ValueError:
            found = text
        return e.ToolInput(call=self._call, input=found)


class _Tokens:
    """The tokens of one message. All counts are totals: one that is told again replaces what was told before.

    Input is all that the model read: `input_tokens` are only what no cache had, so that tokens read from a cache and those
    written to one are added. The counts at the start, whose output is no more than a beginning, go out with the first content:
    a run that is cut has paid for its input, and one that fails before has not begun.
    """

    def __init__(self) -> None:
        self.owed = False
        """Whether something was said and its output is not told."""
        self._counts: dict[str, int] = {}
        self._out = (0, 0)

    def take(self, usage: Any) -> None:
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"):
            if (count := _get(usage, name)) is not None:
                self._counts[name] = count

    def begin(self, parts: Parts) -> Iterator[e.Event]:
        if not self.owed:
            self.owed = True
            yield from self._tell(parts, self._out[1])

    def whole(self, parts: Parts) -> Iterator[e.Event]:
        """Counts that are all zero tell nothing: servers that do not count send them."""
        output = self._counts.get("output_tokens", 0)
        yield from self._tell(parts, output)
        self.owed = self.owed and not output

    def _tell(self, parts: Parts, output: int) -> Iterator[e.Event]:
        read = sum(count for name, count in self._counts.items() if name != "output_tokens")
        (read_before, output_before), self._out = self._out, (read, output)
        if (read, output) != (read_before, output_before):
            yield parts.used(read - read_before, output - output_before)


def _sources(citation: Any) -> e.Event:
    """A source is known by its address, else by its place among the documents of the request."""
    address = _get(citation, "url") or _get(citation, "source")
    title = _get(citation, "title") or _get(citation, "document_title")
    place = _get(citation, "document_index")
    id = address or (f"document-{place + 1}" if place is not None else title) or "source"
    url = address if address and "://" in address else None
    return e.Sources([e.Source(id, title or id, url=url, quote=_get(citation, "cited_text") or None)])


def _readable(value: Any) -> Any:
    """What a person could read of a tool's result: without encrypted fields, which are large, and with long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    if isinstance(value, dict):
        shown = {key: each for key, each in value.items() if each is not None and not key.startswith("encrypted_")}
        return {key: _readable(each) for key, each in shown.items()}
    if isinstance(value, list | tuple):
        return [_readable(each) for each in value]
    dump = getattr(value, "model_dump", None)
    return _readable(dump(mode="json", warnings=False)) if callable(dump) else value


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(_get(block, "text") or "" for block in content) if isinstance(content, list) else ""


def _get(value: Any, name: str) -> Any:
    """A field of an instance or a dict; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


_STEPS: Final[dict[str | None, Callable[[Anthropic, Any], Iterator[e.Event]]]] = {
    "message_start": Anthropic._message_start,
    "content_block_start": Anthropic._block_start,
    "content_block_delta": Anthropic._block_delta,
    "content_block_stop": Anthropic._block_stop,
    "message_delta": Anthropic._message_delta,
    "message_stop": Anthropic._message_stop,
    "message": Anthropic._message,
    "text": Anthropic._derived,
    "thinking": Anthropic._derived,
    "citation": Anthropic._derived,
    "error": Anthropic._error,
}
