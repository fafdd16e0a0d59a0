"""The content-block events of LangChain's `astream_events(version="v3")`: one message, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.errors import SourceError
from tidelog.sources.langchain_content import Piece, pieces_of
from tidelog.sources.langchain_messages import Messages
from tidelog.sources.langchain_values import get

EVENTS: Final = frozenset(
    {
        "message-start", "content-block-start", "content-block-delta", "content-block-finish", "message-finish", "error",
    }
)  # fmt: skip
_CODES: Final = {"rate_limit": "rate_limited", "rate_limited": "rate_limited", "overloaded": "overloaded"}
_CALLS: Final = frozenset(
    {"tool_call_chunk", "tool_call", "invalid_tool_call", "server_tool_call", "server_tool_call_chunk"}
)


class Protocol:
    """Feeds the events of such streams to the messages of the run. `key` names the stream where several are interleaved."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._started = 0
        self._open = 0
        self._heard: set[tuple[str, Any]] = set()
        """The blocks of which something has streamed."""

    @property
    def open(self) -> bool:
        """Whether a message is on its way."""
        return self._open > 0

    def feed(self, event: Any, key: str | None = None) -> Iterable[e.Event]:
        """The events of this event. Raises `SourceError` for an `error`."""
        name = get(event, "event")
        if name == "message-start":
            self._started += 1
            self._open += 1
        key = key or f"message {self._started}"
        if name == "message-start":
            self._messages.begin(key, get(event, "id"))
            return ()
        if name == "message-finish":
            return self._finish(event, key)
        if name == "error":
            raise SourceError(code=_CODES.get(get(event, "code") or "")) from RuntimeError(str(get(event, "message")))
        return self._block(event, key)

    def _block(self, event: Any, key: str) -> Iterator[e.Event]:
        place = key, get(event, "index")
        delta = get(event, "delta")
        if delta is not None:
            self._heard.add(place)
            yield from self._delta(delta, key, place[1])
            return
        content = get(event, "content")
        if get(content, "type") in _CALLS:
            yield from self._call(content, key, place[1], final=get(event, "event") == "content-block-finish")
            return
        heard = place in self._heard
        for piece in pieces_of([content]):
            if piece.kind not in ("text", "reasoning", "refusal"):
                yield from self._messages.piece(key, piece)
            elif not heard:  # a block that has streamed ends with all of its text once more
                self._heard.add(place)
                yield from self._messages.piece(key, piece)

    def _delta(self, delta: Any, key: str, index: Any) -> Iterable[e.Event]:
        kind = get(delta, "type")
        if kind == "text-delta":
            return self._said(key, Piece("text", get(delta, "text")))
        if kind == "reasoning-delta":
            return self._said(key, Piece("reasoning", get(delta, "reasoning"), index))
        if kind == "tool-call-delta":
            return self._messages.call(key, {"args": get(delta, "args"), "index": index})
        if kind == "block-delta":
            return self._fields(get(delta, "fields") or {}, key, index)
        return ()

    def _fields(self, fields: Any, key: str, index: Any) -> Iterator[e.Event]:
        if get(fields, "type") in _CALLS:
            yield from self._call(fields, key, index, final=False)
            return
        for piece in pieces_of([fields]):
            yield from self._messages.piece(key, piece)

    def _said(self, key: str, piece: Piece) -> Iterable[e.Event]:
        return self._messages.piece(key, piece) if piece.value else ()

    def _call(self, content: Any, key: str, index: Any, *, final: bool) -> Iterator[e.Event]:
        """A call begins, or ends with all of its arguments."""
        id, args = get(content, "id"), get(content, "args")
        known = self._messages.calls.of(id)
        if not final or known is None:
            args = None if final else args
            yield from self._messages.call(key, {"id": id, "name": get(content, "name"), "args": args, "index": index})
            known = self._messages.calls.of(id)
        if final and known is not None:
            yield from known.give(get(content, "args"))

    def _finish(self, event: Any, key: str) -> Iterator[e.Event]:
        self._open -= 1
        about = get(event, "metadata")
        reason = get(event, "reason")
        yield from self._messages.told(
            key, get(event, "usage"), about or ({"finish_reason": reason} if reason else None)
        )
        yield from self._messages.finish(key)
        self._heard = {place for place in self._heard if place[0] != key}
