"""The transcript: the fold of a log into one document. Taking a record twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from tidelog import events as e
from tidelog.errors import TooLarge
from tidelog.log import Record

LIMIT_ITEMS: Final = 10_000
"""Data events that a transcript keeps; of more it keeps the last ones. The log has them all."""
MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
"""What the events of a run may hold that is to be one document, in memory: as much as `max_run_bytes` is by itself."""


class Part(msgspec.Struct, omit_defaults=True, tag_field="type"):
    """One part of the answer, in the order in which they began."""

    id: str
    done: bool = False


class TextPart(Part, tag="text"):
    """Text that the user reads."""

    text: str = ""


class ReasoningPart(Part, tag="reasoning"):
    """The model's reasoning."""

    text: str = ""


class ToolPart(Part, tag="tool"):
    """A tool call. `input` is known from `tool.input` on; `json` is the argument text so far."""

    name: str = ""
    parent: str | None = None
    json: str = ""
    input: Any = None
    outcome: e.ToolOutcome | None = None
    output: Any = None
    error: str | None = None


class QuestionPart(Part, tag="question"):
    """A question to a person; `done` once it has an `outcome`."""

    prompt: str = ""
    options: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    default: Any = None
    expires: float | None = None
    data: Any = None
    outcome: e.QuestionOutcome | None = None
    value: Any = None
    by: str | None = None


AnyPart = TextPart | ReasoningPart | ToolPart | QuestionPart


class Message(msgspec.Struct):
    """The answer."""

    id: str = ""
    parts: list[AnyPart] = []


class Transcript(msgspec.Struct):
    """A whole run as one document. `text` is all its text parts, joined."""

    run: str = ""
    thread: str = ""
    state: e.State = "running"
    outcome: e.Outcome | None = None
    error: e.Error | None = None
    usage: e.TokenUsage | None = None
    can: tuple[str, ...] = ()
    finish: e.FinishReason | None = None
    """Why the last message of a model ended, where it said so."""
    of: str | None = None
    mode: e.Mode | None = None
    text: str = ""
    message: Message = msgspec.field(default_factory=Message)
    sources: list[e.Source] = []
    data: list[e.Data] = []
    progress: dict[str, e.Progress] = {}
    questions: list[e.QuestionAsked] = []
    """Those that are open."""
    last_seq: int = 0


class Fold:
    """Folds records into a transcript. Text is gathered in pieces, so that a long answer costs linear time.

    `events` says where a run can be read that is over `most` bytes (MAX_DOCUMENT_BYTES).
    """

    def __init__(self, most: int | None = None, *, events: str = "its events") -> None:
        self._out = Transcript()
        self._left = self._most = MAX_DOCUMENT_BYTES if most is None else most
        self._events = events
        self._parts: dict[tuple[str, str], AnyPart] = {}
        self._pieces: dict[tuple[str, str], list[str]] = {}

    @property
    def position(self) -> int:
        """The last record that was taken."""
        return self._out.last_seq

    def take(self, records: Iterable[Record]) -> None:
        """Fold these records in; those at or before `position` are passed over. Raises `TooLarge`."""
        for record in records:
            if record.seq > self._out.last_seq:
                self._out.last_seq = record.seq
                self._left -= len(record.data)
                if self._left < 0:
                    raise TooLarge(
                        f"The run is over max_document_bytes ({self._most}), too large for one document: read {self._events}."
                    )
                event = e.decode(record.data)
                if event is not None and (fold := _FOLDS.get(type(event))) is not None:
                    fold(self, event)

    def result(self) -> Transcript:
        """The transcript so far."""
        for key, pieces in self._pieces.items():
            part = self._parts[key]
            if isinstance(part, ToolPart):
                part.json = "".join(pieces)
                pieces[:] = [part.json]
            elif isinstance(part, TextPart | ReasoningPart):
                part.text = "".join(pieces)
                pieces[:] = [part.text]
        self._out.text = "".join(part.text for part in self._out.message.parts if isinstance(part, TextPart))
        return self._out

    def _started(self, event: e.RunStarted) -> None:
        out = self._out
        out.run, out.thread, out.message.id = event.run, event.thread, event.message
        out.of, out.mode = event.of, event.mode

    def _state(self, event: e.RunState) -> None:
        self._out.state = event.state

    def _text(self, event: e.TextDelta | e.TextSnapshot) -> None:
        self._add(("text", event.part), TextPart, event.text)

    def _reasoning(self, event: e.ReasoningDelta) -> None:
        self._add(("reasoning", event.part), ReasoningPart, event.text)

    def _add(self, key: tuple[str, str], kind: type[TextPart] | type[ReasoningPart], text: str) -> None:
        if key not in self._parts:
            self._open(key, kind(key[1]))
        self._pieces[key].append(text)

    def _open(self, key: tuple[str, str], part: AnyPart) -> None:
        self._parts[key] = part
        self._pieces[key] = []
        self._out.message.parts.append(part)

    def _text_ended(self, event: e.TextEnded) -> None:
        self._parts["text", event.part].done = True

    def _reasoning_ended(self, event: e.ReasoningEnded) -> None:
        self._parts["reasoning", event.part].done = True

    def _tool_started(self, event: e.ToolStarted) -> None:
        self._open(("call", event.call), ToolPart(event.call, name=event.name, parent=event.parent))

    def _tool_input_delta(self, event: e.ToolInputDelta) -> None:
        self._pieces["call", event.call].append(event.json)

    def _tool_input(self, event: e.ToolInput) -> None:
        self._tool(event.call).input = event.input

    def _tool_ended(self, event: e.ToolEnded) -> None:
        part = self._tool(event.call)
        part.done, part.outcome, part.output, part.error = True, event.outcome, event.output, event.error

    def _tool(self, call: str) -> ToolPart:
        part = self._parts["call", call]
        assert isinstance(part, ToolPart)
        return part

    def _sources(self, event: e.Sources) -> None:
        self._out.sources.extend(event.sources)

    def _data(self, event: e.Data) -> None:
        self._out.data.append(event)
        del self._out.data[:-LIMIT_ITEMS]

    def _progress(self, event: e.Progress) -> None:
        self._out.progress[event.task] = event

    def _asked(self, event: e.QuestionAsked) -> None:
        part = QuestionPart(
            event.question, prompt=event.prompt, options=event.options, schema=event.schema, default=event.default,
            expires=event.expires, data=event.data,
        )  # fmt: skip
        self._parts["question", event.question] = part
        self._out.message.parts.append(part)
        self._out.questions.append(event)

    def _answered(self, event: e.QuestionAnswered) -> None:
        part = self._parts["question", event.question]
        assert isinstance(part, QuestionPart)
        part.done, part.outcome, part.value, part.by = True, event.outcome, event.value, event.by
        self._out.questions = [one for one in self._out.questions if one.question != event.question]

    def _usage(self, event: e.Usage) -> None:
        self._out.usage = e.TokenUsage(event.input, event.output, event.source)

    def _finish(self, event: e.Finish) -> None:
        self._out.finish = event.reason

    def _ended(self, event: e.RunEnded) -> None:
        out = self._out
        out.state, out.outcome, out.error, out.usage, out.can = (
            "ended", event.outcome, event.error, event.usage, event.can,
        )  # fmt: skip


_FOLDS: Final[dict[type[e.Event], Callable[[Fold, Any], None]]] = {
    e.RunStarted: Fold._started,
    e.RunState: Fold._state,
    e.TextDelta: Fold._text,
    e.TextSnapshot: Fold._text,
    e.TextEnded: Fold._text_ended,
    e.ReasoningDelta: Fold._reasoning,
    e.ReasoningEnded: Fold._reasoning_ended,
    e.ToolStarted: Fold._tool_started,
    e.ToolInputDelta: Fold._tool_input_delta,
    e.ToolInput: Fold._tool_input,
    e.ToolEnded: Fold._tool_ended,
    e.Sources: Fold._sources,
    e.Data: Fold._data,
    e.Progress: Fold._progress,
    e.QuestionAsked: Fold._asked,
    e.QuestionAnswered: Fold._answered,
    e.Usage: Fold._usage,
    e.Finish: Fold._finish,
    e.RunEnded: Fold._ended,
}


def encode(transcript: Transcript) -> bytes:
    """The transcript as JSON; lone surrogates survive as escapes."""
    return e.encode_json(transcript)
