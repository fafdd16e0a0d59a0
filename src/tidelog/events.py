"""The events of a run: frozen facts, named for what happened. Their fields are those of spec/PROTOCOL.md §2.

An event is encoded once, when it is appended. `encode` and `decode` are that one place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from tidelog.errors import RETRYABLE, SENTENCES, InvalidEvent

PROTOCOL_VERSION = 1

Outcome = Literal["completed", "failed", "stopped", "timed_out", "interrupted"]
ToolOutcome = Literal["completed", "failed", "stopped"]
Mode = Literal["retry", "continue"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "other"]
RunningState = Literal["queued", "running", "paused", "waiting"]
QuestionOutcome = Literal["answered", "expired", "withdrawn"]
State = Literal["queued", "running", "paused", "waiting", "ended"]
"""What a run is doing. It is `running` from its start on, unless it says otherwise."""
UsageSource = Literal["provider", "estimated", "unknown"]


class Event(msgspec.Struct, frozen=True, tag_field="type", kw_only=True, omit_defaults=False):
    """One fact in a run's log."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an answer comes from. `score` is 0 to 1; `heading` is the path of headings above the quote."""

    id: str
    title: str
    url: str | None = None
    heading: tuple[str, ...] = ()
    quote: str | None = None
    score: float | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens taken in and given out. `source` tells how they are known; `unknown` means that nobody counted."""

    input: int = 0
    output: int = 0
    source: UsageSource = "unknown"


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a run did not complete. `message` is safe to show; `retry_after` is in seconds."""

    code: str
    message: str
    retryable: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, code: str, message: str | None = None, *, retry_after: float | None = None) -> Error:
        """The error of this code, with the code's own sentence unless `message` is given."""
        after = _seconds(retry_after)
        return cls(str(code), str(message or SENTENCES.get(code, code)), code in RETRYABLE, after)


def _seconds(value: object) -> float | None:
    """What an application gave as a time; None for what is none: an ending must never fail for it."""
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) else None


class RunStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run.started"):
    """The first event of every log."""

    v: int
    run: str
    thread: str
    message: str
    attempt: int
    of: str | None = None
    mode: Mode | None = None


class RunState(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run.state"):
    """The run is in another state from here on: written by the run itself, never by its source.

    `queued`: it waits for its turn; `position` is its place, from 1. `paused`: its source is not pulled.
    `waiting`: for the answer to a question. `running`: it goes on.
    """

    state: RunningState
    position: int | None = None


class TextDelta(Event, frozen=True, kw_only=True, tag="text.delta"):
    """Text to append to a part; the first one opens the part."""

    part: str = "p1"
    text: str


class TextSnapshot(Event, frozen=True, kw_only=True, tag="text.snapshot"):
    """Opens a part with text that an earlier run produced."""

    part: str = "p1"
    text: str


class TextEnded(Event, frozen=True, kw_only=True, tag="text.ended"):
    """Closes a text part."""

    part: str = "p1"


class ReasoningDelta(Event, frozen=True, kw_only=True, tag="reasoning.delta"):
    """Reasoning to append to a part; the first one opens the part."""

    part: str = "r1"
    text: str


class ReasoningEnded(Event, frozen=True, kw_only=True, tag="reasoning.ended"):
    """Closes a reasoning part."""

    part: str = "r1"


class ToolStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="tool.started"):
    """Opens a tool call. `parent` is the call that made it, if any."""

    call: str
    name: str
    parent: str | None = None


class ToolInputDelta(Event, frozen=True, kw_only=True, tag="tool.input.delta"):
    """A piece of the JSON text of a call's arguments."""

    call: str
    json: str


class ToolInput(Event, frozen=True, kw_only=True, tag="tool.input"):
    """The whole arguments of a call."""

    call: str
    input: Any = None


class ToolEnded(Event, frozen=True, kw_only=True, tag="tool.ended"):
    """Closes a tool call."""

    call: str
    outcome: ToolOutcome = "completed"
    output: Any = None
    error: str | None = None


class Sources(Event, frozen=True, tag="sources"):
    """What the answer rests on; `Sources([...])` takes `Source` values or dicts of their fields."""

    sources: Sequence[Source]

    def __post_init__(self) -> None:
        found = tuple(one if isinstance(one, Source) else msgspec.convert(one, Source) for one in self.sources)
        msgspec.structs.force_setattr(self, "sources", found)


class Progress(Event, frozen=True, kw_only=True, omit_defaults=False, tag="progress"):
    """How far a named task has come; `total` is None where it is unknown."""

    task: str
    done: float = 0
    total: float | None = None
    note: str | None = None


class Data(Event, frozen=True, kw_only=True, omit_defaults=True, tag="data"):
    """Anything of the application's own. `name` tells kinds apart; a pydantic model's is its class name."""

    data: Any
    name: str | None = None


class Usage(Event, frozen=True, kw_only=True, tag="usage"):
    """Tokens of the run so far; a later one replaces an earlier one."""

    input: int = 0
    output: int = 0
    source: UsageSource = "provider"


class Finish(Event, frozen=True, kw_only=True, omit_defaults=True, tag="finish"):
    """Why a model ended its message, where it said so; `raw` is the provider's own word. Informs, closes nothing."""

    reason: FinishReason
    raw: str | None = None
    model: str | None = None


class QuestionAsked(Event, frozen=True, kw_only=True, omit_defaults=True, tag="question.asked"):
    """Opens a question to a person: written by the run itself, for `tide.ask`.

    With `options` the answer is one of them; with `schema` (JSON Schema) any JSON that fits; with neither it is text.
    `expires` is Unix time in seconds, at which `default` counts as the answer; without a default the run ends then.
    `data` is what the person should see beside the prompt.
    """

    question: str
    prompt: str
    options: tuple[str, ...] | None = None
    schema: dict[str, Any] | None = None
    default: Any = None
    expires: float | None = None
    data: Any = None


class QuestionAnswered(Event, frozen=True, kw_only=True, omit_defaults=False, tag="question.answered"):
    """Closes a question. `expired`: nobody answered in time, `value` is the default. `withdrawn`: nobody waits for it any longer.

    `by` is the principal who answered.
    """

    question: str
    outcome: QuestionOutcome = "answered"
    value: Any = None
    by: str | None = None


class RunEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run.ended"):
    """The last event of every log."""

    outcome: Outcome
    error: Error | None = None
    usage: TokenUsage
    can: tuple[str, ...]


AnyEvent = (
    RunStarted | RunState | TextDelta | TextSnapshot | TextEnded | ReasoningDelta | ReasoningEnded | ToolStarted | ToolInputDelta
    | ToolInput | ToolEnded | Sources | Progress | Data | Usage | Finish | QuestionAsked | QuestionAnswered | RunEnded
)  # fmt: skip
"""Every event there is: the union from which decoding and the JSON schema come."""

_encoder = msgspec.json.Encoder()
encode_plain = _encoder.encode
"""`encode_json` for what holds no lone surrogates; it raises `UnicodeEncodeError` for these."""
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_surrogate = re.compile("[\ud800-\udfff]")


def encode(event: Event) -> bytes:
    """The event as JSON in UTF-8, on one line. Raises `InvalidEvent` for a payload that JSON cannot hold."""
    try:
        data = encode_json(event)
        if (
            b"\n" in data or b"\r" in data
        ):  # a msgspec.Raw is written as it came, and would break every framing of lines
            data = msgspec.json.format(data, indent=-1)
        return data
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidEvent(f"{type(event).__name__} cannot be written as JSON: {error}") from error


def delta_prefix(delta: TextDelta | ReasoningDelta) -> bytes:
    """How every delta of this kind and part begins, up to its text, behind which there is only a brace."""
    kind = b"text" if type(delta) is TextDelta else b"reasoning"
    return b'{"type":"%b.delta","part":%b,"text":' % (kind, encode_json(delta.part))


def encode_json(value: Any) -> bytes:
    """JSON in UTF-8 of anything that msgspec knows. Lone surrogates, which UTF-8 cannot hold, survive as JSON escapes."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return _surrogate.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def decode(data: bytes) -> AnyEvent | None:
    """The event that `encode` wrote; None for a type that this version does not know, and for what cannot be read."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        pass
    except RecursionError:
        return None
    return _decode_leniently(data)


def _decode_leniently(data: bytes) -> AnyEvent | None:
    """For what the fast decoder refuses: escaped lone surrogates, and types of a later version."""
    try:
        event: AnyEvent = msgspec.convert(json.loads(data), AnyEvent)
    except (msgspec.ValidationError, ValueError, RecursionError):
        return None
    return event
