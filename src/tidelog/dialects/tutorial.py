"""`simple` and `sse-text`: the two wires of the usual FastAPI streaming tutorials, so that their pages run unchanged (spec §6).

Both are in band: what fails after validation is an `error` event, and `done` comes last, always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from tidelog import events as e
from tidelog.frame import Frame, Why, safe_name, utf8
from tidelog.log import Record


class Simple:
    """Implements `seams.Dialect`: text is `{"type":"content","data":…}` in an unnamed frame."""

    in_band: ClassVar[bool] = True
    stateless: ClassVar[bool] = False
    verbatim: ClassVar[bool] = False
    broken = False

    def __init__(self, run: str) -> None:
        self._run = run.encode()
        self._id: bytes | None = None
        self._names: dict[str, str] = {}
        self._told: set[str] = set()

    def encode(self, record: Record) -> Iterable[Frame]:
        """The named frames of an event; only the last carries the id."""
        event = e.decode(record.data)
        frames = list(self._frames(event)) if event is not None else []
        if frames or self._id is None:
            self._id = b"%b.%d.%d" % (self._run, record.epoch, record.seq)
        if not frames:
            return (Frame(None, None, self._id),) if isinstance(event, e.RunStarted) else ()
        frames[-1] = msgspec.structs.replace(frames[-1], id=self._id)
        return frames

    def prelude(self) -> Iterable[Frame]:
        """The id, since no frame may come for long."""
        return (Frame(None, None, self._id),)

    def farewell(self, retry: int, why: Why) -> Iterable[Frame]:
        """Nothing: these wires have no word for it, and EventSource comes back by itself."""
        return ()

    def text(self, text: str) -> Frame:
        """The frame of a piece of text."""
        return _frame(None, {"type": "content", "data": text})

    def _frames(self, event: e.AnyEvent) -> Iterable[Frame]:
        match event:
            case e.TextDelta() | e.TextSnapshot():
                if event.text:
                    yield self.text(event.text)
            case e.Sources():
                yield _frame("retrieval_done", {"docs": event.sources})
            case e.ToolStarted():
                self._names[event.call] = event.name
            case e.ToolInput():
                yield self._tool_start(event.call, event.input)
            case e.ToolEnded():
                if event.call not in self._told:
                    yield self._tool_start(event.call, None)
                output = event.output if event.outcome == "completed" else event.error
                yield _frame("tool_end", {"name": self._names.get(event.call, ""), "output": output})
            case e.Data():
                name = safe_name(event.name or "", "data")
                yield _frame("data" if name in _RESERVED else name, event.data)
            case e.RunEnded():
                if event.error is not None:
                    yield _frame("error", {"type": "error", "message": event.error.message, "code": event.error.code})
                yield _frame("done", {"type": "done"})

    def _tool_start(self, call: str, given: Any) -> Frame:
        self._told.add(call)
        return _frame("tool_start", {"name": self._names.get(call, ""), "input": given})


class SseText(Simple):
    """Implements `seams.Dialect`: text is bare, so that `textContent += event.data` works."""

    def text(self, text: str) -> Frame:
        """The text itself. A CR in it reaches the page as LF: SSE has no way to carry it."""
        return Frame(utf8(text), bare=True)


_RESERVED = frozenset({"error", "done", "retrieval_done", "tool_start", "tool_end", "message", "open"})
"""Names that a page already listens to for something else; a data event of such a name is called `data`."""


def _frame(event: str | None, value: Any) -> Frame:
    return Frame(e.encode_json(value), event)
