"""Work elsewhere: a run is opened here, parked as queued, and only its id goes through somebody's job queue to a worker.

The tricky rule first. The queue is trusted with nothing: a job may come twice, late or never. What is true of a run is in its
log: a worker that takes it raises the epoch, whoever comes second finds the lease or the ending, and a run that nobody has
taken in time ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any, Final

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog import threads
from tidelog.admission import Admission, Claim
from tidelog.attempts import TASK
from tidelog.declared import Functions
from tidelog.errors import Conflict, Gone, Overloaded, StoreError
from tidelog.head import Head, Work
from tidelog.keeper import RETRY_ENDING, Keeper
from tidelog.launch import Launch, Launched
from tidelog.log import Lease, Tail, run_log
from tidelog.opening import Opened, announce, open_run
from tidelog.patience import patiently
from tidelog.replay import replay
from tidelog.seams import Carrier, Parking, Store
from tidelog.source import Opener
from tidelog.taking import number
from tidelog.tasks import Tasks

log = logging.getLogger("tidelog")

WORK_BYTES: Final = 256 * 1024
"""The most that the arguments of a function may take, which stand in the head of its run."""
WORKER_TIMEOUT: Final = 3600.0
"""Seconds for which a run may wait for a worker."""
RESTARTS: Final = 3
"""How often a run is begun again whose worker died: its work may be what killed it."""
SEND_AGAIN: Final = 30.0
"""Seconds after which a run that no worker has taken is sent to them once more, then each time after twice as long: as a rule its
job was lost with the process that had it.
"""
SEND_TIMEOUT: Final = 5.0
"""Seconds for which a job queue that does not answer is waited for."""


def work(name: str | None, args: Any, *, restart: bool = False, patience: float = WORKER_TIMEOUT) -> Work:
    """What a worker is to do, from now on."""
    return Work(name, args, patience, time.time() + patience, restart)


class Elsewhere:
    """Hands runs on to workers, again where one died, and lets a worker in. `carrier` None: there is no job queue."""

    def __init__(self, store: Store, keeper: Keeper, admission: Admission, tasks: Tasks) -> None:
        self.carrier: Carrier | None = None
        self.functions = Functions('on="worker"', "@tide.on_worker")
        self.owner = ""
        """The process, as the store knows it."""
        self._store = store
        self._keeper = keeper
        self._admission = admission
        self._tasks = tasks
        self._waiting: set[asyncio.Future[bool]] = set()
        self._in_hand: set[str] = set()
        """Runs for which a job waits here: it needs no second one."""
        self._going = False

    async def hand_on(self, launch: Launch, claim: Claim | None) -> Launched:
        """Open the run's log, park it, and send its id to a worker. `claim` is kept until one has taken it.

        Raises what `open_run` raises, and `StoreError`. Where the queue does not take it there is no run, and `Overloaded` is
        raised; without a `claim` nobody waits for it, and it is sent again later.
        """
        opened = await open_run(self._store, launch, refused=claim.refused if claim is not None else None)
        if isinstance(opened, Head):
            return Launched(opened.run, opened.thread, None, True)
        head = opened.head
        await self._park(opened)
        if launch.of is not None:
            self._tasks.spawn(announce(self._store, launch, head.run))
        if claim is not None:
            _Waiting(self._store, head, claim, self._tasks)
        if not await self.send(head.run, head.work) and claim is not None:
            await self._store.drop(run_log(head.run))
            raise Overloaded("The job queue cannot be reached.", reason="job_queue")
        return Launched(head.run, head.thread, None, False)

    async def send(self, run: str, what: Work | None) -> bool:
        """Send the run to a worker; whether the queue took it. A run without a function is sent by whoever opened it."""
        if what is None or what.name is None:
            return True
        try:
            if self.carrier is None:
                raise RuntimeError("this Tidelog has no worker=")
            async with asyncio.timeout(SEND_TIMEOUT):
                await self.carrier.send(run)
        except Exception as error:
            log.error("run %s: the job queue did not take it: %r", run, error)
            return False
        return True

    async def send_again(self, head: Head, due: float) -> None:
        """Send a run that nobody owns, and that was due at this time: as a rule its job went with whoever had it.

        Of all that see it at once only that one sends it which moves the time. If it dies over that, the run is due again.
        """
        assert isinstance(self._store, Parking), "else nobody could have parked it"
        with contextlib.suppress(Conflict, Gone):
            await self._store.defer(
                run_log(head.run), due, _due(head) if head.for_a_worker else time.time() + SEND_AGAIN
            )
            await self.send(head.run, head.work)

    async def pass_on(self, run: str, what: Work | None) -> None:
        """This worker goes: another one is to have its job. The job of a queue in memory has nobody else to go to."""
        if self.carrier is not None and self.carrier.here:
            await self.send(run, what)

    async def slot(self, run: str) -> Claim | None:
        """Wait until this process has room for a run that waits; None where there is none to take, where a job waits here for it
        already, or the process goes.
        """
        if run in self._in_hand:
            return None
        self._in_hand.add(run)
        try:
            return await self._slot(run)
        finally:
            self._in_hand.discard(run)

    async def _slot(self, run: str) -> Claim | None:
        while True:
            tail = await self._store.tail(run_log(run))
            head = heads.decode(tail.head) if tail is not None and not tail.ended and not tail.owner else None
            if head is None or head.work is None:
                return None
            declared = self.functions.get(head.work.name)
            most = declared.max_runs if declared is not None else None
            try:
                claim = self._admission.run(head.principal, endpoint=head.work.name, most=most)
                if not self._going and await self._granted(claim):
                    return claim
            except Overloaded as full:
                await asyncio.sleep(full.retry_after or RETRY_ENDING)
                continue
            claim.release()
            await self.pass_on(run, head.work)
            return None

    async def _granted(self, claim: Claim) -> bool:
        """Wait until it has its slots; False where the process goes before."""
        if claim.state == "in":
            return True
        waits: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        claim.granted = lambda: None if waits.done() else waits.set_result(True)
        self._waiting.add(waits)
        try:
            return await waits
        except asyncio.CancelledError:
            claim.release()
            raise
        finally:
            self._waiting.discard(waits)

    def close(self) -> None:
        """The process goes: those that wait for a slot here are passed on."""
        self._going = True
        for waits in self._waiting:
            if not waits.done():
                waits.set_result(False)

    async def again(self, tail: Tail, head: Head) -> None:
        """A process died that had opened this run for a worker, or was that worker: have it begun, or begun again."""
        assert head.work is not None and isinstance(self._store, Parking), "else it could not have been handed on"
        if head.for_a_worker:  # it may be that nobody was sent
            with contextlib.suppress(Conflict, Gone):  # somebody else was first
                await self._store.take(run_log(head.run), tail.last, (), ended=False, due=_due(head), orphan=True)
                await self.send(head.run, head.work)
            return
        next_ = msgspec.structs.replace(
            head.work, restarts=head.work.restarts + 1, until=time.time() + head.work.patience
        )
        written = await replay(self._store, run_log(head.run), heard=True)
        if next_.restarts <= RESTARTS and not written.told:
            await self._queue_again(tail, head, next_)
            return
        if next_.restarts <= RESTARTS and next_.name is not None:
            await self._give_up(tail, head, next_)
        else:
            await self._keeper.end_unowned(head.run, "interrupted", e.Error.of("interrupted"))

    async def replace(self, head: Head, due: float | None) -> None:
        """Have a new run take the place of this one, which nobody owns, and end it then. Many times are as once.

        The new run goes on where this one was to go on, and else begins anew. Where the store fails it is begun when this one is
        due again: of all that see that the one does it which moves the time, with `due`.
        """
        what = head.work
        assert what is not None and isinstance(self._store, Parking), "else nobody could have parked it"
        if due is not None:
            try:
                await self._store.defer(run_log(head.run), due, time.time() + SEND_AGAIN)
            except (Conflict, Gone):
                return  # somebody else is at it
        if time.time() < what.until and not await self._is_replaced(head, what):
            return
        await self._keeper.end_unowned(head.run, "interrupted", e.Error.of("interrupted"))

    async def _is_replaced(self, head: Head, what: Work) -> bool:
        """Begin the new run; False if that may come to pass later."""
        try:
            launched = await self.hand_on(await self._in_place_of(head, what), None)
            log.warning("run %s: its worker is gone; run %s takes its place", head.run, launched.id)
        except StoreError as error:
            log.warning("run %s: it cannot be begun again, will try again: %r", head.run, error)
            return False
        except Exception as error:
            log.warning("run %s: it could not be begun again: %r", head.run, error)
        return True

    async def _give_up(self, tail: Tail, head: Head, what: Work) -> None:
        """It has said what must not be said twice: the log is nobody's from here on, and due until another run has its place."""
        assert isinstance(self._store, Parking)
        now = msgspec.structs.replace(head, work=msgspec.structs.replace(what, replaced=True))
        with contextlib.suppress(Conflict, Gone):  # it has ended, or goes on elsewhere
            due = time.time() + SEND_AGAIN
            await self._store.take(run_log(head.run), tail.last, (), head=heads.encode(now), ended=False, due=due)
            await self.replace(now, None)

    async def _queue_again(self, tail: Tail, head: Head, what: Work) -> None:
        """Nothing was said that would be said twice: the same run waits for another worker."""
        assert isinstance(self._store, Parking)
        why = e.Error.of("interrupted").message
        told = e.Progress(task=TASK, done=what.restarts + 1, total=RESTARTS + 1, note=why)
        records = number(tail, tail.epoch + 1, (e.RunState(state="queued"), told))
        now = msgspec.structs.replace(head, state="queued", position=None, questions=(), keeps=None, work=what)
        with contextlib.suppress(Conflict, Gone):  # somebody else was first
            await self._store.take(
                run_log(head.run), tail.last, records, head=heads.encode(now), ended=False, due=_due(now)
            )
            log.warning("run %s: its worker is gone; it waits for another one", head.run)
            await self.send(head.run, what)

    async def _in_place_of(self, head: Head, what: Work) -> Launch:
        """The new run. Its key lets it begin once, whoever tries."""
        goes_on, now = head.mode == "continue", time.time()
        entries = await threads.entries(self._store, head.thread, head.principal)
        return Launch(
            _nothing_here, head.thread, head.principal, head.route, head.request, cancel_after=head.cancel_after,
            of=head.run, mode=head.mode if goes_on else "retry", message=head.message if goes_on else None,
            said=head.said, resume=head.resume, key=f"in the place of {head.run}",
            work=msgspec.structs.replace(what, replaced=False, until=now + what.patience),
            concurrent=any(entry.concurrent for entry in entries if entry.run == head.run),
        )  # fmt: skip

    async def _park(self, opened: Opened) -> None:
        """Nobody's from here on. A log that stays ours is ended, as soon as that can be stored."""
        try:
            if opened.unjoined is not None:
                raise opened.unjoined
            await self._parked(opened.head)
        except StoreError:
            error = e.Error.of("store_unavailable")
            self._tasks.spawn(self._keeper.end_owed(opened.head.run, error, lease=Lease(self.owner)))
            raise

    async def _parked(self, head: Head) -> None:
        """Park it, once the store takes that. Its key leads to this run from now on: a moment without the store must not fail it.

        Where the store gave no answer it may have been parked even so, and taken since: who goes on with it is found by its log.
        """
        store, due, tries = self._store, _due(head), 0
        assert isinstance(store, Parking), "else nobody hands a run on"

        async def park() -> None:
            nonlocal tries
            tries += 1
            try:
                await store.park(run_log(head.run), 2, lease=Lease(self.owner), due=due)
            except Conflict:
                if tries == 1:
                    raise

        await patiently(store, park, f"run {head.run}")


class _Waiting:
    """A run that was handed on, and the claim that it keeps until a worker has taken it, or it has ended."""

    def __init__(self, store: Store, head: Head, claim: Claim, tasks: Tasks) -> None:
        self._store = store
        self._log = run_log(head.run)
        self._claim = claim
        self._tasks = tasks
        claim.kept_by = head.run
        self._rang = self._ring  # one object, so that it can be taken back
        self._bell = store.changed(self._log)
        self._bell.add(self._rang)
        assert head.work is not None
        self._timer = asyncio.get_running_loop().call_later(head.work.patience, self._release)

    def _ring(self) -> None:
        self._tasks.spawn(self._look())

    async def _look(self) -> None:
        try:
            tail = await self._store.tail(self._log)
        except Gone:
            tail = None
        except StoreError:
            return  # until it rings again, or it is time
        if tail is None or tail.owner or tail.ended:
            self._release()

    def _release(self) -> None:
        self._bell.discard(self._rang)
        self._timer.cancel()
        self._claim.release()


def _due(head: Head) -> float:
    """When somebody must look at a run that waits for a worker: to send it again, or to end it."""
    if head.work is None or head.work.name is None:  # it is sent by whoever opened it
        return head.due
    now = time.time()
    waited = now - (head.work.until - head.work.patience)
    return min(head.due, now + max(SEND_AGAIN, waited))


def _nothing_here() -> Any:
    raise AssertionError("a run that was handed on is opened by whoever takes it")


nothing_here: Final[Opener] = _nothing_here
"""The opener of a run that is to be handed on."""
