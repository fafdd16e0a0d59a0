"""Answering a question, wherever its run is, and telling the truth of what came of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import msgspec

from tidelog import asking, control
from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Decided, Gone, InvalidRequest, NotFound, TooLarge
from tidelog.head import Head
from tidelog.log import control_log, run_log
from tidelog.questions import ANSWER_BYTES, Answer, check, decided
from tidelog.reentry import controls
from tidelog.seams import Store


class Answered(msgspec.Struct, frozen=True):
    """The answer counts. `answering`: the run has not gone on with it yet."""

    result: Literal["answered", "answering"]
    question: str
    value: Any
    by: str | None


def named(given: object) -> tuple[str, Any]:
    """The question and the value that somebody names in JSON. Raises `InvalidRequest`."""
    if not isinstance(given, dict) or not isinstance(given.get("question"), str) or "value" not in given:
        raise InvalidRequest('An answer is {"question": "…", "value": …}.')
    return given["question"], given["value"]


async def answer(
    store: Store, run: str, question: str, value: Any, *,
    by: str | None, wake: asking.Wake, patience: float = asking.PATIENCE,
) -> Answered:  # fmt: skip
    """Answer the question as `by`. The first answer counts; the same one again, by the same principal, is answered alike.

    Raises `Decided` where another answer was first, or none is wanted any more; `InvalidRequest` (`invalid_answer`) for a value
    that does not fit, `TooLarge`, `NotFound` for a question that was never asked, `Gone` for a run that is not there.
    """
    ours = Answer(question, "answered", value, by)
    if len(e.encode_json(value)) > ANSWER_BYTES:
        raise TooLarge(f"An answer may take {ANSWER_BYTES} bytes.")
    tail = await store.tail(run_log(run))
    if tail is None:
        raise Gone(code="not_found")
    asked = next((one for one in heads.decode(tail.head).questions if one.question == question), None)
    if asked is None:
        return _told(await _closed(store, run, question, 0), ours)
    check(asked, value)
    late = asked.expires is not None and time.time() >= asked.expires
    said = control.Expired(question=question) if late else control.Answer(question=question, value=value, by=by)
    before = decided(asked, await controls(store, run))
    if before is None:
        await store.post(control_log(run), control.encode(said))
    found = decided(asked, await controls(store, run)) or ours
    if found != ours:
        await wake(run)  # it may have died who had to
        raise _refusal(found)
    obeyed = await asking.seen(store, run, lambda head: _has_closed(head, question), wake=wake, patience=patience)
    if obeyed is None:
        return Answered("answering", question, value, by)
    return _told(await _closed(store, run, question, tail.last), ours)


def _has_closed(head: Head, question: str) -> bool:
    return all(one.question != question for one in head.questions)


async def _closed(store: Store, run: str, question: str, after: int) -> Answer:
    """How a question was closed, behind this record: the log tells, whatever was asked for. Raises `NotFound` if it was not."""
    more = True
    while more:
        page = await store.read(run_log(run), after)
        more = page.more
        for record in page.records:
            after = record.seq
            event = e.decode(record.data) if b"question.answered" in record.data else None
            if isinstance(event, e.QuestionAnswered) and event.question == question:
                return Answer(question, event.outcome, event.value, event.by)
        await asyncio.sleep(0)
    raise NotFound("There is no such question.")


def _told(found: Answer, ours: Answer) -> Answered:
    if found != ours:
        raise _refusal(found)
    return Answered("answered", ours.question, ours.value, ours.by)


def _refusal(found: Answer) -> Decided:
    codes = {"answered": "already_answered", "expired": "question_expired", "withdrawn": "question_closed"}
    told = {"question": found.question, "outcome": found.outcome, "value": found.value, "by": found.by}
    return Decided(code=codes[found.outcome], answer=told)
