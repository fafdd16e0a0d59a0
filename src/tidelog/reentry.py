"""Going on with a run that has no owner: it was parked for an answer or for a worker, or its producer outlives its server.

A parked run has no owner who would obey. So whoever posts to its control log looks at it next (`Reentry.wake`), and the keeper of
every process looks at those whose time has come. Of several that look at once one takes the log; the others find it taken.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from tidelog import control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.admission import Claim
from tidelog.adopting import adopt
from tidelog.declared import Declared, Functions
from tidelog.errors import Conflict, Gone
from tidelog.head import Head, Work
from tidelog.keeper import Keeper
from tidelog.launch import Launch
from tidelog.log import Tail, control_log, run_log
from tidelog.questions import UNANSWERED, Answer, decided, event_of, unanswered
from tidelog.replay import replay
from tidelog.seams import Parking, Store
from tidelog.taking import Again, take

log = logging.getLogger("tidelog")


NOT_TAKEN: Final = e.Error.of("overloaded", "No worker took the run in time.")
"""Why a run ends that waited for a worker for too long."""
UNKNOWN: Final = e.Error.of("internal", "The worker does not know this work.")


class Found(NamedTuple):
    """A run that nobody owns and that can go on; `answer`: what it waited for, if it waits for one that was given."""

    tail: Tail
    head: Head
    said: Sequence[control.AnyControl | None]
    answer: Answer | None


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
    """Obeys what is asked of parked runs, takes them up again, and adopts those that are fed.

    `again` is given what this process has taken. `works` are the functions of runs that are a worker's, and `send_again` has a
    run that was due then go on there, once for all processes; `pass_on` does where this process is a worker that goes. `replace`
    has a new run take the place of one, which then ends.
    """

    def __init__(
        self, store: Store, keeper: Keeper, *, again: Callable[[Again], None], works: Functions,
        pass_on: Callable[[str, Work | None], Awaitable[None]], send_again: Callable[[Head, float], Awaitable[None]],
        replace: Callable[[Head, float | None], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.resumes = Functions("resume=", "@tide.resumes")
        self.going = False
        """The process goes: it takes nothing."""
        self._missed: set[str | None] = set()
        """Functions that are not declared here, and that was told."""
        self._store = store
        self._keeper = keeper
        self._again = again
        self._works = works
        self._pass_on = pass_on
        self._send_again = send_again
        self._replace = replace

    async def wake(self, run: str, due: float | None = None) -> None:
        """Look whether something was asked of this run, and do it, if nobody owns it and it has not ended.

        `due`: the time at which it was due has come. Not to be cancelled: a log that was taken needs its writer.
        """
        found = await self._look(run)
        if found is None:
            return
        if found.head.replaced:
            if not self.going:
                await self._replace(found.head, due)
        elif found.head.for_a_worker and due is not None:
            await self._send_again(found.head, due)
        elif (
            found.answer is not None and found.head.work is not None
        ):  # as it was parked, unless somebody has sent it since
            await self._send_again(found.head, found.head.due if due is None else due)
        elif found.answer is not None and not self.going:
            await self._go_on(found, found.answer)

    async def work(
        self, run: str, claim: Claim, *, opening: Callable[[], Launch], given: Declared | None = None
    ) -> None:
        """Take a run that waits for a worker, in this process, which is one. `given` takes the place of its function.

        `claim` is released unless the run is ours then. Not to be cancelled.
        """
        try:
            found = await self._look(run)
            if found is None or found.head.work is None or found.head.replaced:
                return
            if self.going:
                await self._pass_on(run, found.head.work)
            elif found.head.for_a_worker:
                await self._begin(found, claim, opening().trace, given or self._works.get(found.head.work.name))
            elif found.answer is not None:
                await self._go_on(found, found.answer, claim)
        finally:
            if claim.kept_by is None:
                claim.release()

    async def adopt(self, tail: Tail, head: Head) -> None:
        """Go on with a fed run whose owner is dead. While the process goes, that is left to whoever starts next.

        Not to be cancelled: a log that was taken needs its writer.
        """
        if not self.going:
            with contextlib.suppress(Conflict, Gone):  # somebody else was first
                self._again(await adopt(self._store, tail, head))

    async def _look(self, run: str) -> Found | None:
        """What can go on, of a run that nobody owns; what ends it is done. None where there is nothing more to do."""
        tail = await self._store.tail(run_log(run))
        if tail is None or tail.ended or tail.owner:
            return None
        head = heads.decode(tail.head)
        if not head.parkable and not head.replaced:
            return None
        said = await controls(self._store, run)
        if head.replaced:
            return await self._unless_stopped(Found(tail, head, said, None))
        if head.for_a_worker:
            done = self._works.get(head.work.name if head.work is not None else None)
            on_end = done.on_end if done is not None else None
            if any(isinstance(one, control.Stop) for one in said):
                await self._keeper.end_unowned(run, "stopped", None, on_end=on_end)
            elif time.time() >= head.due:
                await self._keeper.end_unowned(run, "failed", NOT_TAKEN, on_end=on_end)
            else:
                return Found(tail, head, said, None)
            return None
        asked = head.questions[0]
        if decided(asked, said) is None and asked.expires is not None and time.time() >= asked.expires:
            await self._store.post(control_log(run), control.encode(control.Expired(question=asked.question)))
            said = await controls(self._store, run)
        answer = decided(asked, said)
        resume = self.resumes.get(head.resume)
        on_end = resume.on_end if resume is not None else None
        if answer is not None and answer.outcome == "withdrawn":
            await self._keeper.end_unowned(run, "stopped", None, on_end=on_end)
        elif answer is not None and unanswered(answer):
            before = (event_of(answer),)
            await self._keeper.end_unowned(run, "timed_out", UNANSWERED, before=before, on_end=on_end)
        else:
            return Found(tail, _turned(head, said), said, answer)
        return None

    async def _unless_stopped(self, found: Found) -> Found | None:
        """A run that is to be replaced, unless somebody has stopped it: then it ends, and no other run comes of it."""
        if not any(isinstance(one, control.Stop) for one in found.said):
            return found
        await self._keeper.end_unowned(found.head.run, "stopped", None)
        return None

    async def _begin(self, found: Found, claim: Claim, trace: str | None, how: Declared | None) -> None:
        """Take the log of a run that nobody has begun with, and hand it over."""
        tail, head, said, _ = found
        store, what = self._store, head.work
        assert isinstance(store, Parking) and what is not None
        if how is None:
            log.error("run %s: its worker does not know %s", head.run, what.name)
            await self._keeper.end_unowned(head.run, "failed", UNKNOWN)
            return
        turned = _turned(msgspec.structs.replace(head, state="running", asked=0), said)  # its last owner's may not hold
        state: e.RunningState = "paused" if turned.state == "paused" else "running"
        kept = what if what.restart else msgspec.structs.replace(what, args=None)
        now = msgspec.structs.replace(turned, position=None, work=kept, trace=trace)
        partial = await threads.text_of(store, head.of) if head.mode == "continue" and head.of is not None else ""
        written = await replay(store, run_log(head.run), heard=False)
        with contextlib.suppress(Conflict, Gone):  # somebody else was first
            taken = await take(store, tail, now, written, (e.RunState(state=state),))
            again = Again(taken, how.opener(what.args), how.limits, how.attempts, how.on_end, how.park_after)
            self._again(again._replace(partial=partial, claim=claim, first=True))

    async def _go_on(self, found: Found, answer: Answer, claim: Claim | None = None) -> None:
        """Take the log and hand it over to who goes on; without one declared here, leave it to another process."""
        tail, head, _, _ = found
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
            opener = resume.opener(head.keeps, answer)
            self._again(
                Again(taken, opener, resume.limits, resume.attempts, resume.on_end, resume.park_after, claim=claim)
            )


def _turned(head: Head, said: Sequence[control.AnyControl | None]) -> Head:
    """The head after the pauses and resumes that nobody has obeyed while the run was parked."""
    for number, one in enumerate(said, 1):
        if number > head.asked and isinstance(one, control.Pause | control.Resume):
            state: e.RunningState = "paused" if isinstance(one, control.Pause) else "running"
            head = msgspec.structs.replace(head, state=state, asked=number)
    return head
