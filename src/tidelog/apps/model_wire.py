"""The two wire formats that models speak: requests as dicts, and what is heard in the chunks of an answer. Pure.

The tricky rule first. Calls go into the log under the ids that the provider gives, and a log takes an id once: an id that is
missing, or that was used before in the run, is replaced in the chunk itself, before anybody else sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from tidelog import Tidelog
from tidelog.apps.tools import Call, Said, Tool

MAX_TOKENS: Final = 16_000
"""Of one answer of Anthropic's, its thinking included: there it must be said."""
ANTHROPIC_VERSION: Final = "2023-06-01"

Chunk = dict[str, Any]
Message = dict[str, Any]


class Asked(NamedTuple):
    """What a model is asked. `may_call` False: it has the tools and must answer without them."""

    system: str
    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    may_call: bool = True


class Hearing(Protocol):
    """Hears one answer, chunk by chunk."""

    @property
    def whole(self) -> bool:
        """Whether the model has said its last word."""
        ...

    @property
    def calls(self) -> list[Call]:
        """The tools that it called, in order."""
        ...

    def take(self, chunk: Chunk) -> None:
        """Take note of a chunk; the ids of its calls may be changed in it."""
        ...

    def after(self, said: Sequence[Said]) -> list[Message]:
        """What to add to the messages: this answer, and what its tools said."""
        ...


class Wire(Protocol):
    """One wire format."""

    path: str
    """Behind the base URL."""
    last: str
    """What the data of the last event of a stream is, or holds."""

    def headers(self, key: str | None) -> dict[str, str]:
        """The headers of a request."""
        ...

    def body(self, name: str, asked: Asked) -> dict[str, Any]:
        """The body of a request to the model of this name."""
        ...

    def hearing(self, used: set[str]) -> Hearing:
        """Ears for one answer. `used` holds the ids of the run's calls so far, and is added to."""
        ...

    def translated(self, tide: Tidelog, chunks: Any) -> Any:
        """The chunks, named for what they are."""
        ...


class OpenAIWire:
    """Chat completions, as OpenAI and all compatible servers speak them."""

    path = "/chat/completions"
    last = "[DONE]"

    def __init__(self, *, own: bool) -> None:
        """`own`: it is OpenAI's own server, whose newest models want to be told how much to think."""
        self._own = own

    def headers(self, key: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def body(self, name: str, asked: Asked) -> dict[str, Any]:
        messages = [{"role": "system", "content": asked.system}, *asked.messages]
        body: dict[str, Any] = {"model": name, "messages": messages, "stream": True}
        body["stream_options"] = {"include_usage": True}
        if asked.tools:
            body["tools"] = [{"type": "function", "function": _described(tool, "parameters")} for tool in asked.tools]
            body["tool_choice"] = "auto" if asked.may_call else "none"
            if self._own and _thinks_without_tools(name):
                body["reasoning_effort"] = "none"
        return body

    def hearing(self, used: set[str]) -> Hearing:
        return _OpenAIHearing(used)

    def translated(self, tide: Tidelog, chunks: Any) -> Any:
        return tide.openai(chunks)


class AnthropicWire:
    """Anthropic's Messages."""

    path = "/v1/messages"
    last = "message_stop"

    def headers(self, key: str | None) -> dict[str, str]:
        return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": key} if key else {})}

    def body(self, name: str, asked: Asked) -> dict[str, Any]:
        body: dict[str, Any] = {"model": name, "max_tokens": MAX_TOKENS, "stream": True}
        body |= {"system": asked.system, "messages": list(asked.messages)}
        if asked.tools:
            body["tools"] = [_described(tool, "input_schema") for tool in asked.tools]
            body["tool_choice"] = {"type": "auto" if asked.may_call else "none"}
        return body

    def hearing(self, used: set[str]) -> Hearing:
        return _AnthropicHearing(used)

    def translated(self, tide: Tidelog, chunks: Any) -> Any:
        return tide.anthropic(chunks)


class _Asking:
    """A call while its arguments come. `given` is the id that the server itself gave."""

    def __init__(self, id: str, name: str, given: Any = None) -> None:
        self.id, self.name, self.given = id, name, given
        self.pieces: list[str] = []

    @property
    def call(self) -> Call:
        try:
            found = json.loads("".join(self.pieces) or "{}")
        except (ValueError, RecursionError):
            found = None
        return Call(self.id, self.name, found if isinstance(found, dict) else None)


class _OpenAIHearing:
    def __init__(self, used: set[str]) -> None:
        self.whole = False
        self._used = used
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._asking: list[_Asking] = []
        self._by_index: dict[Any, _Asking] = {}
        self._latest: Any = None

    @property
    def calls(self) -> list[Call]:
        return [each.call for each in self._asking]

    def take(self, chunk: Chunk) -> None:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if isinstance(said := delta.get("content"), str):
                self._text.append(said)
            if isinstance(thought := delta.get("reasoning_content"), str):
                self._thoughts.append(thought)
            for fragment in delta.get("tool_calls") or ():
                self._fragment(fragment)
            self.whole = self.whole or bool(choice.get("finish_reason"))

    def after(self, said: Sequence[Said]) -> list[Message]:
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.input or {})},
            }
            for call in self.calls
        ]
        answer: Message = {"role": "assistant", "content": "".join(self._text), "tool_calls": calls}
        if self._thoughts:  # models that think between calls want their thoughts back, and only those send them
            answer["reasoning_content"] = "".join(self._thoughts)
        return [answer, *({"role": "tool", "tool_call_id": one.call.id, "content": one.text} for one in said)]

    def _fragment(self, fragment: Chunk) -> None:
        """Calls are told apart as the translator does it: by index, and by another id or name where that is the same."""
        index, given = fragment.get("index"), fragment.get("id")
        function = fragment.get("function") or {}
        name = function.get("name") or ""
        asking = self._by_index.get(self._latest if index is None else index)
        another = asking is not None and bool(
            (given and given != asking.given) or (index is None and name and asking.name)
        )
        if asking is None or another:
            asking = _Asking(_unused(given, self._used), "", given)
            index = ("unnumbered", len(self._asking)) if index is None else index
            self._by_index[index] = asking
            self._asking.append(asking)
            fragment["id"] = asking.id
        elif given:
            fragment["id"] = asking.id
        self._latest = self._latest if index is None else index
        asking.name = asking.name or name
        if piece := function.get("arguments"):
            asking.pieces.append(piece if isinstance(piece, str) else json.dumps(piece))


class _AnthropicHearing:
    def __init__(self, used: set[str]) -> None:
        self.whole = False
        self._used = used
        self._blocks: dict[int, Chunk] = {}
        self._pieces: dict[int, list[str]] = {}

    @property
    def calls(self) -> list[Call]:
        return [self._call(index) for index, block in sorted(self._blocks.items()) if block.get("type") == "tool_use"]

    def take(self, chunk: Chunk) -> None:
        kind, index = chunk.get("type"), chunk.get("index", 0)
        if kind == "content_block_start":
            block = chunk.get("content_block") or {}
            if block.get("type") == "tool_use":
                block["id"] = _unused(block.get("id"), self._used)
            self._blocks[index], self._pieces[index] = dict(block), []
        elif kind == "content_block_delta" and index in self._blocks:
            self._delta(index, chunk.get("delta") or {})
        self.whole = self.whole or kind == "message_stop"

    def after(self, said: Sequence[Said]) -> list[Message]:
        blocks = [found for index in sorted(self._blocks) if (found := self._block(index)) is not None]
        results = [
            {"type": "tool_result", "tool_use_id": one.call.id, "content": one.text, "is_error": one.failed}
            for one in said
        ]
        return [{"role": "assistant", "content": blocks}, {"role": "user", "content": results}]

    def _delta(self, index: int, delta: Chunk) -> None:
        for name in ("text", "thinking", "partial_json"):
            if isinstance(piece := delta.get(name), str):
                self._pieces[index].append(piece)
        if signature := delta.get("signature"):
            self._blocks[index]["signature"] = signature

    def _block(self, index: int) -> Chunk | None:
        """The block as it goes back: thoughts as they came, which their signature seals; None for what cannot go back."""
        block, text = self._blocks[index], "".join(self._pieces[index])
        match block.get("type"):
            case "text":
                whole = block.get("text", "") + text
                return {"type": "text", "text": whole} if whole.strip() else None
            case "thinking":
                return {**block, "thinking": block.get("thinking", "") + text}
            case "redacted_thinking":
                return block
            case "tool_use":
                call = self._call(index)
                return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input or {}}
        return None

    def _call(self, index: int) -> Call:
        block = self._blocks[index]
        asking = _Asking(block["id"], str(block.get("name") or ""))
        asking.pieces = self._pieces[index] or [json.dumps(block.get("input") or {})]
        return asking.call


def _described(tool: Tool, schema: str) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, schema: tool.schema}


def _unused(id: Any, used: set[str]) -> str:
    """The id, or another one where there is none or where it was used."""
    found = str(id) if id else ""
    number = len(used)
    while not found or found in used:
        number += 1
        found = f"call_{number}"
    used.add(found)
    return found


def _thinks_without_tools(name: str) -> bool:
    """Whether this model of OpenAI's takes tools here only if it is told not to think: those since GPT-5.1."""
    version: Mapping[str, str] | None = (
        found := re.match(r"gpt-(?P<whole>\d+)(?:\.(?P<part>\d+))?", name)
    ) and found.groupdict()
    return version is not None and (int(version["whole"]), int(version["part"] or 0)) >= (5, 1)
