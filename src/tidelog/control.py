"""What others ask of a run: the records of its control log, which many write and its owner obeys."""

from __future__ import annotations

from typing import Any

import msgspec


class Control(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """One request to the owner of a run, or one fact about it that only others know."""


class Stop(Control, frozen=True, kw_only=True, tag="stop"):
    """End the run as stopped."""


class Pause(Control, frozen=True, kw_only=True, tag="pause"):
    """Pull the source no more."""


class Resume(Control, frozen=True, kw_only=True, tag="resume"):
    """Pull it again."""


class Watched(Control, frozen=True, kw_only=True, tag="watched"):
    """The process `by` has `viewers` of this run. It counts for runs with `on_leave=cancel_after(...)` or `lockstep`."""

    by: str
    viewers: int


class Succeeded(Control, frozen=True, kw_only=True, tag="succeeded"):
    """The run `by` continues or retries this one."""

    by: str
    mode: str


class Answer(Control, frozen=True, kw_only=True, tag="answer"):
    """This is the answer, unless the question was decided before: of all answers and expiries the first one counts."""

    question: str
    value: Any = None
    by: str | None = None


class Expired(Control, frozen=True, kw_only=True, tag="expired"):
    """Nobody answered in time, unless the question was decided before."""

    question: str


AnyControl = Stop | Pause | Resume | Watched | Succeeded | Answer | Expired

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyControl] = msgspec.json.Decoder(AnyControl)


def encode(control: Control) -> bytes:
    """The control record as JSON."""
    return _encoder.encode(control)


def decode(data: bytes) -> AnyControl | None:
    """The control record, or None for a kind that this version does not know."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        return None
