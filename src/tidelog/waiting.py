"""The open questions of a live run: who waits for their answers, and when the run is parked instead of waiting on.

The tricky rule first. Nobody is answered here who only says so: what decides a question is its first record in the control log,
and the owner reads that in order. So even the expiry, which this process alone may know of, goes there and comes back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import msgspec

from tidelog import control
from tidelog import events as e
from tidelog.clocks import Clocks
from tidelog.errors import InvalidRequest
from tidelog.head import Head
from tidelog.questions import (
    OPEN_QUESTIONS,
    PARK_AFTER,
    Answer,
    Put,
    answer_of,
    event_of,
    unanswered,
)
from tidelog.writer import Writer

PARKED: Final = (None, None)
"""How a run concludes that has not ended: there is no outcome."""


class Open:
    """A question that somebody waits for."""

    __slots__ = ("asked", "expiry", "future")

    def __init__(self, asked: e.QuestionAsked, future: asyncio.Future[Answer]) -> None:
        self.asked = asked
        self.future = future
        self.expiry: asyncio.TimerHandle | None = None


class Questions:
    """Those of one run; while one is open, its clocks stand still. `asked` is called before each, `park` when nobody came for
    too long, `over` when one expired that has no default.
    """

    def __init__(
        self, writer: Writer, clocks: Clocks, *,
        asked: Callable[[], None], park: Callable[[], None], over: Callable[[], None],
    ) -> None:  # fmt: skip
        self.park_after = PARK_AFTER
        """Seconds for which a run that can be parked waits with its source open."""
        self._patience = PARK_AFTER
        """The `park_after` of the question that was asked last."""
        self.expire: Callable[[str], None] = _nothing
        """Called with the name of a question whose time has come: its expiry is to be posted."""
        self._writer = writer
        self._clocks = clocks
        self._asked = asked
        self._park = park
        self._over = over
        self._open: dict[str, Open] = {}
        self._closed = False
        self._hurried = False
        self._parking: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._open)

    async def ask(self, put: Put) -> Answer:
        """Ask, and wait for what is decided. Who cancels the wait withdraws the question, unless the run ends or is parked.

        Raises `InvalidRequest` for too many open questions and in a run that is ending, `TooLarge`.
        """
        self._asked()
        found = self._begin(put)
        try:
            return await found.future
        except asyncio.CancelledError:
            if not self._closed and self._open.pop(found.asked.question, None) is not None:
                self._tell(Answer(found.asked.question, "withdrawn"))
            raise
        finally:
            if found.expiry is not None:
                found.expiry.cancel()

    def decide(self, said: control.Answer | control.Expired) -> None:
        """The next record of the control log that names a question; it counts if the question is still open."""
        if self._closed or (found := self._open.pop(said.question, None)) is None:
            return
        answer = answer_of(found.asked, said)
        self._tell(answer)
        if unanswered(answer):
            self._over()
        elif not found.future.done():
            found.future.set_result(answer)

    def hurry(self) -> None:
        """The process goes: park what can be parked at once."""
        self._hurried = True
        self._watch(0.0)

    def resumed(self) -> None:
        """The run is not paused any more: from now on it may be parked again."""
        self._watch(self._patience)

    def close(self) -> None:
        """The run ends or is parked: whoever waits is cancelled, and says nothing more."""
        self._closed = True
        if self._parking is not None:
            self._parking.cancel()
        for found in self._open.values():
            found.future.cancel()
            if found.expiry is not None:
                found.expiry.cancel()

    def _begin(self, put: Put) -> Open:
        if self._closed or self._writer.finished:
            raise InvalidRequest("the run is ending")
        if len(self._open) >= OPEN_QUESTIONS:
            raise InvalidRequest(f"A run may have {OPEN_QUESTIONS} questions open at once.")
        asked = msgspec.structs.replace(put.asked, question=f"q{self._writer.asked + 1}")
        head = self._writer.head
        waits = (e.RunState(state="waiting"),) if head.state == "running" else ()
        questions = (*head.questions, asked)
        self._writer.tell(
            asked, *waits,
            head=msgspec.structs.replace(
                head, state="waiting" if waits else head.state, questions=questions,
                keeps=put.state if len(questions) == 1 else None,
            ),
        )  # fmt: skip
        found = self._open[asked.question] = Open(asked, self._loop.create_future())
        if asked.expires is not None:
            left = max(0.0, asked.expires - time.time())
            found.expiry = self._loop.call_later(left, self._expired, asked.question)
        self._clocks.hold(bool(self._open))
        self._patience = self.park_after if put.park_after is None else put.park_after
        self._watch(self._patience)
        return found

    def _tell(self, answer: Answer) -> None:
        """Close the question in the log; with the last one the run goes on."""
        head = self._writer.head
        left = tuple(one for one in head.questions if one.question != answer.question)
        goes_on = not left and head.state == "waiting"
        state = (e.RunState(state="running"),) if goes_on and not unanswered(answer) else ()
        self._writer.tell(event_of(answer), *state, head=_without(head, left, goes_on), must=True)
        self._clocks.hold(bool(self._open))
        self._watch(self.park_after)

    def _watch(self, after: float) -> None:
        """Park the run so many seconds from now, if nothing happens to its questions."""
        if self._parking is not None:
            self._parking.cancel()
            self._parking = None
        if not self._closed and self._writer.head.parkable:
            self._parking = self._loop.call_later(0.0 if self._hurried else after, self._park)

    def _expired(self, question: str) -> None:
        if question in self._open:
            self.expire(question)


def _without(head: Head, left: tuple[e.QuestionAsked, ...], goes_on: bool) -> Head:
    return msgspec.structs.replace(head, state="running" if goes_on else head.state, questions=left, keeps=None)


def _nothing(_: str) -> None:
    pass
