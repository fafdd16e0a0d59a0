"""The runs that live in this process: started, told what others ask of them, waited for when the process goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final

from tidelog import answering, asking
from tidelog import events as e
from tidelog.admission import Admission, Bounds, Claim
from tidelog.answering import Answered
from tidelog.bell import Bell
from tidelog.declared import Declared
from tidelog.elsewhere import Elsewhere, nothing_here
from tidelog.endings import Ending, Endings, OnEnd
from tidelog.errors import Conflict, Gone, Overloaded, StoreError
from tidelog.head import Head
from tidelog.keeper import RETRY_ENDING, Keeper
from tidelog.launch import Launch as Launch
from tidelog.launch import Launched as Launched
from tidelog.live import Live, Watching
from tidelog.log import Lease, Tail, control_log, feed_log, new_id, run_log
from tidelog.memory import MemoryWatch
from tidelog.observer import Observer as Observer
from tidelog.opening import announce, open_run
from tidelog.queue import Queue
from tidelog.reentry import Reentry
from tidelog.replay import begun
from tidelog.run import Run
from tidelog.seams import Leasing, Parking, Store
from tidelog.shedding import shed
from tidelog.sources.values import Values
from tidelog.taking import Again
from tidelog.tasks import LEAVE_TIMEOUT, Tasks
from tidelog.turn import Turn
from tidelog.writer import HandedOver

log = logging.getLogger("tidelog")

INTERRUPT_TIMEOUT: Final = 1.25
"""How long the runs that did not drain may take to end as `interrupted`."""


class Runner:
    """Owns the runs of this process. `start` it on the loop that it is used on."""

    def __init__(
        self, store: Store, *, keeper: Keeper | None = None, on_end: OnEnd | None = None,
        bounds: Bounds = Bounds(), memory: MemoryWatch | None = None,
    ) -> None:  # fmt: skip
        """`on_end` hears of every run that ends here, those that were ended for dead processes included."""
        self.store = store
        self.admission = Admission(bounds)
        self.owner = ""
        """This process, as the store knows it, from `start` on: who is forked before that is another one."""
        self.turn = Turn()
        """Shared by the cursors of this process."""
        self.draining = Bell()
        """Rung when the process begins to go: no starts, and viewers are sent away."""
        self.preludes: list[Callable[[Launch], Launch]] = []
        """Called with each launch, in a task whose context the source inherits."""
        self.observers: list[Observer] = []
        self.endpoint_of: Callable[[Head], Hashable] = lambda head: None
        """Whose `max_runs` counts a run that goes on here, wherever it was started."""
        self._on_end = on_end
        self._endings = Endings()
        self._keeper = keeper or Keeper(store)
        self._keeper.reaped = self._tell
        self._keeper.wake = self.wake
        self._keeper.adopt = self._adopt_fed
        self._tasks = Tasks()
        self._spawn, self._whole = self._tasks.spawn, self._tasks.whole
        self.elsewhere = Elsewhere(store, self._keeper, self.admission, self._tasks)
        self._keeper.again = self.elsewhere.again
        self._reentry = Reentry(
            store, self._keeper, again=self._go_on, works=self.elsewhere.functions,
            pass_on=self.elsewhere.pass_on, send_again=self.elsewhere.send_again,
            replace=self.elsewhere.replace,
        )  # fmt: skip
        self.resumes = self._reentry.resumes
        self._live: dict[str, Live] = {}
        self._queue = Queue(
            self.admission.runs, timeout=bounds.queue_timeout, spawn=self._spawn, send_off=self._send_off
        )
        self._memory = memory
        self._tasks.changed = self._rest
        self._idle = asyncio.Event()
        self._idle.set()
        self._watching = Watching(store, self._live, self._spawn_if_open)
        self._keeper.reaping = self._watching.forget_dead
        self._started = False
        self._going = False

    async def start(self) -> None:
        """Open the store and begin to look after what dead processes left."""
        self.owner = self.elsewhere.owner = self._watching.owner = new_id()
        await self.store.start(self.owner)
        self._started = True
        self._spawn(self._keeper.work())
        if self._memory is not None:
            self._spawn(shed(self._memory, self.admission, lambda: [live.run for live in self._live.values()]))

    async def aclose(self, drain_timeout: float = 0.0) -> None:
        """Let live runs drain, end the rest as `interrupted`, close the store."""
        self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout):
                await self._idle.wait()
        self._going = True
        for live in tuple(self._live.values()):
            self._cut(live)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT):
                await self._idle.wait()
        await self._leave()
        await self._endings.aclose()  # an `on_end` may still read the store
        try:
            if self._started:
                self._started = False
                await self.store.aclose()
        finally:
            await self._endings.aclose()  # of endings that were stored by closing it

    def drain(self) -> None:
        """Begin to go: refuse starts and send viewers away. Live runs go on; who is paused or queued would only be waited for."""
        if not self.draining.rung:
            self.draining.ring()
            self._queue.close()
            self.elsewhere.close()
            for live in tuple(self._live.values()):
                if live.run.paused:
                    self._send_off(live.run)
                live.run.questions.hurry()
            self._reentry.going = True
            self._rest()

    def live(self, run: str) -> Run | None:
        """The run, if it lives in this process."""
        found = self._live.get(run)
        return found.run if found is not None else None

    def __len__(self) -> int:
        return len(self._live)

    async def launch(self, launch: Launch) -> Launched:
        """Store `run.started` and set the source to work, once there is a slot for it.

        Raises `Overloaded` while draining, short of memory, or over the limits with a full queue; `Mismatch` for an idempotency
        key of another request, and for a thread in which another run is at work (`thread_busy`).
        """
        try:
            return await self._launched(launch)
        except Overloaded as refused:
            self.admission.refused[refused.reason] += 1
            raise

    async def _launched(self, launch: Launch) -> Launched:
        if self.draining.rung:
            raise Overloaded(reason="draining")
        return await self._whole(self._launch(launch))

    async def owner_age(self, tail: Tail) -> float | None:
        """Seconds since the owner of a live log was last seen alive, 0 for this process; None where nobody owns it."""
        if tail.ended or not tail.owner:
            return None
        if tail.owner == self.owner or not isinstance(self.store, Leasing):
            return 0.0
        return await self.store.age(tail.owner)

    async def drop(self, run: str) -> None:
        """Stop the run if it lives; then every byte of it is gone."""
        with contextlib.suppress(Gone):
            await asking.stop(self.store, run, wake=self.wake)
        await self.store.drop(run_log(run))
        await self.store.drop(control_log(run))
        await self.store.drop(feed_log(run))

    async def answer(self, run: str, question: str, value: Any, *, by: str | None = None) -> Answered:
        """Answer a question of a run, wherever it is: see `answering.answer`, of which this raises all errors.

        Raises `Refused` (`overloaded`) for a parked run while draining: another process must go on with it.
        """
        if self.draining.rung:
            tail = await self.store.tail(run_log(run))
            if tail is not None and not tail.owner:
                raise Overloaded(reason="draining")
        return await answering.answer(self.store, run, question, value, by=by, wake=self.wake)

    async def wake(self, run: str, due: float | None = None) -> None:
        """Look at a run that may be parked, and do what was asked of it. `due`: the time at which it was due has come."""
        if run not in self._live and self._started:
            await self._whole(self._reentry.wake(run, due))

    async def take(self, run: str, given: Declared | None = None) -> Run | None:
        """Take a run that waits for a worker: this process is one. None where there is none to take: it is at work, or is over.

        Waits for a slot. `given` takes the place of the function that was declared for it.
        """
        claim = await self.elsewhere.slot(run)
        if claim is None:
            return None
        opening = partial(self._opening, Launch(nothing_here))
        await self._whole(self._reentry.work(run, claim, opening=opening, given=given))
        return self.live(run) if claim.kept_by is not None else None

    def _opening(self, launch: Launch) -> Launch:
        """Called in a task whose context the source inherits."""
        for prelude in self.preludes:
            launch = prelude(launch)
        return launch

    async def _adopt_fed(self, tail: Tail, head: Head) -> None:
        await self._whole(self._reentry.adopt(tail, head))

    def watch(self, head: Head, viewer: object, position: int) -> contextlib.AbstractContextManager[None]:
        """While the block lasts, `viewer` watches the run, wherever the owner is: for `on_leave`, and for `lockstep`."""
        return self._watching.watch(head, viewer, position)

    async def _launch(self, launch: Launch) -> Launched:
        keyed = launch.key is not None
        if launch.work is not None:
            claim = self.admission.hand_on(launch.principal, keyed=keyed)
        else:
            claim = self.admission.run(launch.principal, endpoint=launch.endpoint, most=launch.max_runs, keyed=keyed)
        try:
            if launch.work is not None:
                return await self.elsewhere.hand_on(launch, claim)
            return await self._open(launch, claim)
        finally:
            if claim.kept_by is None:  # no run came of it
                claim.release()

    async def _open(self, launch: Launch, claim: Claim) -> Launched:
        launch = self._opening(launch)
        if launch.resume is not None and not isinstance(self.store, Parking):
            launch = launch._replace(resume=None)
        opened = await open_run(self.store, launch, refused=claim.refused)
        if isinstance(opened, Head):
            return Launched(opened.run, opened.thread, self.live(opened.run), True)
        made = opened.head
        run = Run(
            self.store, made, Lease(self.owner), values=Values(), limits=launch.limits,
            written=begun(opened.first), attempts=launch.attempts, turn=self.turn,
        )  # fmt: skip
        run.questions.park_after = launch.park_after
        live = self._adopt(run, opened.bell, claim, launch.on_end)
        if launch.partial:
            run.partial = launch.partial
            run.start_with(e.TextSnapshot(text=launch.partial))
        if launch.of is not None:
            self._spawn(announce(self.store, launch, made.run))
        for observer in self.observers:
            observer.started(run)
        self._spawn(self._queue.work(run, opened.opener, claim))
        if opened.bell.rung:
            live.hear()  # what was asked before it had ears: its thread has announced it, or its id was the client's
        return Launched(made.run, made.thread, run, False)

    def _adopt(self, run: Run, bell: Bell, claim: Claim, on_end: OnEnd | None) -> Live:
        live = self._live[run.id] = Live(
            run, bell, self.store, self._spawn_if_open,
            claim=claim, cancel_after=run.head.cancel_after, on_end=on_end,
        )  # fmt: skip
        claim.kept_by = run.id
        run.done.add_done_callback(lambda _: self._settle(live))
        if self._going:
            self._cut(live)
        return live

    def _cut(self, live: Live) -> None:
        """The process goes: end the run, or let go of a log with which another process goes on."""
        if self._outlives_us(live.run) or self._restarts(live.run):
            live.run.writer.let_go()
        else:
            live.run.interrupt()

    def _go_on(self, again: Again) -> None:
        """A run that was begun elsewhere, or was parked, is ours: set the source to work that goes on with it."""
        head, lease, written = again.taken
        run = Run(
            self.store, head, lease, values=Values(written.parts), limits=again.limits,
            written=written, attempts=again.attempts, turn=self.turn,
        )  # fmt: skip
        run.questions.park_after = again.park_after
        self._idle.clear()
        if again.partial:
            run.partial = again.partial
            run.start_with(e.TextSnapshot(text=again.partial))
        bell, claim = self.store.changed(control_log(run.id)), again.claim
        claim = claim or self.admission.again(head.principal, self.endpoint_of(head))
        live = self._adopt(run, bell, claim, again.on_end)
        for observer in self.observers:
            (observer.started if again.first else observer.again)(run)
        self._spawn(run.work(again.opener))
        live.hear()  # what was asked while nobody owned it
        self._rest()

    def _settle(self, live: Live) -> None:
        """The run is done; an ending that the store refused is owed, unless somebody else owns the log."""
        run = live.run
        if run.parked and run.writer.lost is None:
            self._spawn(self._park(live))
        elif run.writer.lost is None:
            if live.on_end is not None or self._on_end is not None:
                self._tell(live.on_end, live.ending())
            self._forget(live)
        elif isinstance(run.writer.lost, Conflict):
            self._forget(live, parked=isinstance(run.writer.lost, HandedOver))
        else:
            self._spawn(self._end_lost(live))

    async def _park(self, live: Live) -> None:
        """Give the log up, whose source is closed; what was asked meanwhile is done by whoever takes it then."""
        run, store = live.run, self.store
        assert isinstance(store, Parking), "else it could not be parked"
        parked = False
        try:
            while self._started and not parked:
                try:
                    await store.park(run_log(run.id), run.last, lease=run.writer.lease, due=run.head.due)
                    parked = True
                except Conflict:
                    break  # it was dropped, or we were declared dead
                except StoreError:
                    await asyncio.sleep(RETRY_ENDING)
        finally:
            self._forget(live, parked=parked)
        if parked:
            await self.wake(run.id)

    async def _end_lost(self, live: Live) -> None:
        error = live.run.error or e.Error.of("store_unavailable")
        try:
            ended = await self._keeper.end_owed(live.run.id, error, lease=live.run.writer.lease)
            if ended is not None:
                self._tell(live.on_end, ended)
        finally:
            self._forget(live)

    def _tell(self, on_end: OnEnd | None, ending: Ending) -> None:
        """Tell those who asked to hear of it. Once for each run: whoever stores an ending calls this."""
        for each in (on_end, self._on_end):
            if each is not None:
                self._endings.tell(each, ending)

    def _forget(self, live: Live, *, parked: bool = False) -> None:
        self._live.pop(live.run.id, None)
        live.close()
        self._rest()
        for observer in self.observers:
            if parked:
                observer.parked(live.run)
            else:
                observer.ended(live.run)
        if not self.observers and not parked:
            log.info("run %s ended: %s, %d records", live.run.id, live.run.outcome, live.run.last)

    def _rest(self) -> None:
        ours = (live for live in self._live.values() if not (self.draining.rung and self._outlives_us(live.run)))
        if self._tasks.beginning or next(ours, None) is not None:
            self._idle.clear()
        else:
            self._idle.set()

    def _send_off(self, run: Run) -> None:
        """The process goes, and nothing is under way in this run: it ends now, unless another process goes on with it."""
        if self._restarts(run):
            run.writer.let_go()
        elif not self._outlives_us(run):
            run.interrupt()

    def _outlives_us(self, run: Run) -> bool:
        """Whether the run's source goes on elsewhere, and another process can take the log over."""
        return run.head.producer is not None and isinstance(self.store, Leasing)

    def _restarts(self, run: Run) -> bool:
        """Whether another worker begins the run again."""
        work = run.head.work
        return work is not None and work.restart and isinstance(self.store, Leasing)

    async def _leave(self) -> None:
        """End all tasks, and leave those behind that do not end."""
        await self._tasks.end()
        ending = [live.run.done for live in self._live.values() if live.run.outcome is not None]
        if ending:  # the sources of these closed late: their endings are on their way to the store
            await asyncio.wait(ending, timeout=LEAVE_TIMEOUT)

    def _spawn_if_open(self, work: Coroutine[Any, Any, Any]) -> None:
        """For timers and viewers, which may come after the end."""
        if self._going and not self._started:
            work.close()
        else:
            self._spawn(work)
