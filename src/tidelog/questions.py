"""Questions to a person: how they are put, what fits as an answer, and which of several answers counts.

Answers and expiries are records of the run's control log, which the store numbers: of those that name a question the first one
decides, in whatever process it was posted. Nothing else is needed for one winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from tidelog import control, shape
from tidelog import events as e
from tidelog.errors import InvalidRequest, TooLarge

OPEN_QUESTIONS: Final = 16
"""Questions that one run may have open at once."""
QUESTION_BYTES: Final = 32 * 1024
"""The most that one question may take, as it is stored."""
ANSWER_BYTES: Final = 64 * 1024
LONGEST: Final = 10 * 366 * 24 * 3600.0
"""The longest time, in seconds, for which a question with an expiry may wait."""
STATE_BYTES: Final = 64 * 1024
"""The most that a parked run may keep."""
UNANSWERED: Final = e.Error.of("timed_out", "Nobody answered the question in time.")
"""Why a run ends whose question expired, where there is no default."""
PARK_AFTER: Final = 60.0
"""Seconds for which a run that can be parked waits with its source open."""


class Answer(NamedTuple):
    """How a question was decided. `expired`: nobody answered, `value` is the default. `by`: the principal who answered."""

    question: str
    outcome: e.QuestionOutcome
    value: Any = None
    by: str | None = None


class Put(NamedTuple):
    """A question as the application puts it; `state` is kept (JSON) for whoever goes on with a parked run."""

    asked: e.QuestionAsked
    state: Any = None
    park_after: float | None = None
    """Instead of the run's own."""


def put(
    question: str, prompt: str, *, now: float, options: Sequence[str] | None = None, schema: dict[str, Any] | None = None,
    default: Any = None, expires: float | None = None, data: Any = None, state: Any = None, park_after: float | None = None,
) -> Put:  # fmt: skip
    """The question of this name. `expires` and `park_after` are in seconds from `now`, which is Unix time.

    Raises `ValueError` for what makes no sense, `TooLarge` over QUESTION_BYTES and STATE_BYTES.
    """
    if options is not None and schema is not None:
        raise ValueError("A question has options= or a type, not both.")
    if options is not None and (
        isinstance(options, str) or not options or len(set(options)) < len(options) or not _are_text(options)
    ):
        raise ValueError("options= are one or more strings, each of them once.")
    if expires is not None and not 0 < expires <= LONGEST:
        raise ValueError(f"expires= is a time in seconds, more than 0 and at most {LONGEST:g}.")
    if default is not None and expires is None:
        raise ValueError("default= is what counts when nobody answers in time: it needs expires=.")
    asked = e.QuestionAsked(
        question=question, prompt=prompt, options=None if options is None else tuple(options), schema=schema,
        default=default, expires=None if expires is None else now + expires, data=data,
    )  # fmt: skip
    if default is not None:
        _check_default(asked)
    if len(e.encode(asked)) > QUESTION_BYTES:
        raise TooLarge(f"A question may take {QUESTION_BYTES} bytes.")
    return Put(asked, _kept(state), park_after)


def check(asked: e.QuestionAsked, value: Any) -> None:
    """Raise `InvalidRequest` (`invalid_answer`) for a value that is no answer to this question."""
    if asked.options is not None:
        wrong = None if value in asked.options else f"The answer must be one of: {', '.join(asked.options)}."
    elif asked.schema is not None:
        wrong = shape.misfit(asked.schema, value)
    else:
        wrong = None if isinstance(value, str) and value.strip() else "The answer must be text."
    if wrong is not None:
        raise InvalidRequest(wrong, code="invalid_answer")


def decided(asked: e.QuestionAsked, controls: Iterable[control.AnyControl | None]) -> Answer | None:
    """What the control log says of a question that is open, read from its start; None while nobody has decided it.

    A run that was stopped first has withdrawn its questions.
    """
    for one in controls:
        if isinstance(one, control.Stop):
            return Answer(asked.question, "withdrawn")
        if isinstance(one, control.Answer | control.Expired) and one.question == asked.question:
            return answer_of(asked, one)
    return None


def answer_of(asked: e.QuestionAsked, said: control.Answer | control.Expired) -> Answer:
    """The answer that this record gives, if it is the first."""
    if isinstance(said, control.Answer):
        return Answer(asked.question, "answered", said.value, said.by)
    return Answer(asked.question, "expired", asked.default)


def unanswered(answer: Answer) -> bool:
    """Whether the run ends with this: its question expired, and there is no default."""
    return answer.outcome == "expired" and answer.value is None


def event_of(answer: Answer) -> e.QuestionAnswered:
    """The event that closes the question."""
    return e.QuestionAnswered(question=answer.question, outcome=answer.outcome, value=answer.value, by=answer.by)


def _check_default(asked: e.QuestionAsked) -> None:
    try:
        check(asked, asked.default)
    except InvalidRequest as wrong:
        raise ValueError(f"default= is no answer to this question. {wrong}") from None


def _kept(state: Any) -> Any:
    """As it will come back from the store."""
    try:
        data = msgspec.json.encode(state)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"state= must be JSON: {error}.") from error
    if len(data) > STATE_BYTES:
        raise TooLarge(f"state= may take {STATE_BYTES} bytes.")
    return msgspec.json.decode(data)


def _are_text(values: Sequence[Any]) -> bool:
    return all(isinstance(one, str) and one for one in values)
