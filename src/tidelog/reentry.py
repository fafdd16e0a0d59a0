"""Going on with a run that has lost its owner: with the function that was declared for it, once it is answered, or its producer.

A parked run has no owner who would obey. So whoever posts to its control log looks at it next (`Reentry.wake`), and the keeper of
every process looks at those whose time has come. Of several that look at once one takes the log; the others find it taken.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from tidelog import control
from tidelog import events as e
from tidelog import head as heads
from tidelog.adopting import adopt
from tidelog.attempts import ATTEMPTS
from tidelog.endings import OnEnd
from tidelog.errors import Conflict, Gone, InvalidRequest
from tidelog.head import Head
from tidelog.keeper import Keeper
from tidelog.limits import Limits
from tidelog.log import Tail, control_log, run_log
from tidelog.questions import PARK_AFTER, UNANSWERED, Answer, decided, event_of, unanswered
from tidelog.replay import replay
from tidelog.seams import Parking, Store
from tidelog.source import Opener
from tidelog.taking import Again, take

log = logging.getLogger("tidelog")


class Resume(NamedTuple):
    """What was declared for parked runs: `opener(state, answer)` opens the source that goes on."""

    opener: Callable[[Any, Answer], Opener]
    limits: Limits = Limits()
    attempts: int = ATTEMPTS
    on_end: OnEnd | None = None
    park_after: float = PARK_AFTER


class Resumes:
    """The functions by name. The name outlives the process: it must be declared when the application is imported."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Callable[..., Any], Resume]] = {}

    def declare(self, function: Callable[..., Any], resume: Resume) -> str:
        """Know the function from now on; its name. Declared again, the options given last hold.

        Raises `InvalidRequest` where another function has its name.
        """
        name = name_of(function)
        known = self._known.get(name)
        if known is not None and known[0] != function:
            raise InvalidRequest(
                f"two functions for resume= are called {name}: a parked run could not tell them apart."
            )
        self._known[name] = function, resume
        return name

    def name(self, function: Callable[..., Any]) -> str:
        """The name of a function that was declared. Raises `InvalidRequest` for any other."""
        name = name_of(function)
        if name not in self._known or self._known[name][0] != function:
            raise InvalidRequest(
                f"resume={name}: nobody would find it after a restart. Declare it at import: put @tide.resumes above it."
            )
        return name

    def get(self, name: str | None) -> Resume | None:
        """What was declared under this name."""
        found = self._known.get(name or "")
        return found[1] if found is not None else None


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in the logs of parked runs: its module and its place in it."""
    owner = getattr(function, "__self__", None)
    inner = getattr(owner, "name", None) if owner is not None else None
    place = f"{function.__module__}:{function.__qualname__}"
    return f"{place}[{inner}]" if isinstance(inner, str) else place


async def controls(store: Store, run: str) -> Sequence[control.AnyControl | None]:
    """What stands in the control log of a run."""
    found, more = list[control.AnyControl | None](), True
    try:
        while more:
            page = await store.read(control_log(run), len(found))
            more = page.more
            found += [control.decode(record.data) for record in page.records]
    except Gone:
        pass
    return found


class Reentry:
    """Obeys what is asked of parked runs, and adopts those that are fed. `again` is given what this process has taken."""

    def __init__(self, store: Store, keeper: Keeper, *, again: Callable[[Again], None]) -> None:
        self.resumes = Resumes()
        self.going = False
        """The process goes: it takes nothing."""
        self._missed: set[str | None] = set()
        """Functions that are not declared here, and that was told."""
        self._store = store
        self._keeper = keeper
        self._again = again

    async def wake(self, run: str) -> None:
        """Look whether something was asked of this run, and do it, if nobody owns it and it has not ended.

        Not to be cancelled: a log that was taken needs its writer.
        """
        tail = await self._store.tail(run_log(run))
        if tail is None or tail.ended or tail.owner:
            return
        head = heads.decode(tail.head)
        if not head.parkable:
            return
        asked = head.questions[0]
        said = await controls(self._store, run)
        if decided(asked, said) is None and asked.expires is not None and time.time() >= asked.expires:
            await self._store.post(control_log(run), control.encode(control.Expired(question=asked.question)))
            said = await controls(self._store, run)
        answer = decided(asked, said)
        if answer is None:
            return
        resume = self.resumes.get(head.resume)
        on_end = resume.on_end if resume is not None else None
        if answer.outcome == "withdrawn":
            await self._keeper.end_unowned(run, "stopped", None, on_end=on_end)
        elif unanswered(answer):
            before = (event_of(answer),)
            await self._keeper.end_unowned(run, "timed_out", UNANSWERED, before=before, on_end=on_end)
        elif not self.going:
            await self._go_on(tail, _turned(head, said), answer)

    async def adopt(self, tail: Tail, head: Head) -> None:
        """Go on with a fed run whose owner is dead. While the process goes, that is left to whoever starts next.

        Not to be cancelled: a log that was taken needs its writer.
        """
        if not self.going:
            with contextlib.suppress(Conflict, Gone):  # somebody else was first
                self._again(await adopt(self._store, tail, head))

    async def _go_on(self, tail: Tail, head: Head, answer: Answer) -> None:
        """Take the log and hand it over to who goes on; without one declared here, leave it to another process.

        `head` tells in which state it goes on.
        """
        resume, store = self.resumes.get(head.resume), self._store
        if resume is None or not isinstance(store, Parking):
            if head.resume not in self._missed:  # it is looked at every few seconds
                self._missed.add(head.resume)
                log.warning(
                    "run %s is answered, and %s, which would go on with it, is not declared here", head.run, head.resume
                )
            return
        written = await replay(store, run_log(head.run), heard=False)
        state: e.RunningState = "paused" if head.state == "paused" else "running"
        events = (event_of(answer), *written.grammar.closing_text(), e.RunState(state=state))
        now = msgspec.structs.replace(head, state=state, questions=(), keeps=None)
        with contextlib.suppress(Conflict, Gone):  # somebody else was first
            taken = await take(store, tail, now, written, events)
            opener, limits, attempts, on_end, park_after = resume
            self._again(Again(taken, opener(head.keeps, answer), limits, attempts, on_end, park_after))


def _turned(head: Head, said: Sequence[control.AnyControl | None]) -> Head:
    """The head after the pauses and resumes that nobody has obeyed while the run was parked."""
    for number, one in enumerate(said, 1):
        if number > head.asked and isinstance(one, control.Pause | control.Resume):
            state: e.RunningState = "paused" if isinstance(one, control.Pause) else "running"
            head = msgspec.structs.replace(head, state=state, asked=number)
    return head
