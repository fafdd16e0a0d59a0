"""The runs that live in this process: started, told what others ask of them, waited for when the process goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, NoReturn, Protocol

from tidelog import control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.bell import Bell, Turn, Waiter
from tidelog.endings import Ending, Endings, OnEnd
from tidelog.errors import Conflict, Gone, Mismatch, Refused, StoreError
from tidelog.head import Head
from tidelog.keeper import Keeper
from tidelog.launch import Launch as Launch
from tidelog.launch import Launched as Launched
from tidelog.launch import begin
from tidelog.live import Live, Watching
from tidelog.log import Lease, Record, Tail, control_log, new_id, run_log
from tidelog.run import Run
from tidelog.seams import Leasing, Store
from tidelog.sources.values import Values

log = logging.getLogger("tidelog")

STOP_TIMEOUT: Final = 5.0
"""How long `stop` waits for the owner to obey."""
RETRY_ENDING: Final = 1.0
"""Seconds between attempts to store an ending that the store refused."""
RETRY_CONTROL: Final = 0.25
"""Seconds after which a control log that could not be read is read again."""
OPEN_TRIES: Final = 3
"""How often a start is tried again whose idempotency key found a run that was dropped meanwhile."""
INTERRUPT_TIMEOUT: Final = 1.25
"""How long the runs that did not drain may take to end as `interrupted`."""
LEAVE_TIMEOUT: Final = 0.5
"""How long `aclose` waits for its tasks, such as a source that swallows its cancellation."""


class Observer(Protocol):
    """Hears of every run of this process, on the loop. Must not raise, and must be quick."""

    def started(self, run: Run) -> None:
        """The first record of a run is stored; its source is not at work yet."""
        ...

    def ended(self, run: Run) -> None:
        """The ending of a run is stored, or its log is somebody else's."""
        ...


class Runner:
    """Owns the runs of this process. `start` it on the loop that it is used on."""

    def __init__(self, store: Store, *, keeper: Keeper | None = None, on_end: OnEnd | None = None) -> None:
        """`on_end` hears of every run that ends here, those that were ended for dead processes included."""
        self.store = store
        self.owner = new_id()
        self.turn = Turn()
        """Shared by the cursors of this process."""
        self.draining = Bell()
        """Rung when the process begins to go: no starts, and viewers are sent away."""
        self.observers: list[Observer] = []
        self._on_end = on_end
        self._endings = Endings()
        self._keeper = keeper or Keeper(store)
        self._keeper.reaped = partial(self._tell, None)
        self._live: dict[str, Live] = {}
        self._starting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching = Watching(store, self.owner, self._live, obey=self._obey, spawn=self._spawn_if_open)
        self._started = False
        self._going = False

    async def start(self) -> None:
        """Open the store and begin to look after what dead processes left."""
        await self.store.start(self.owner)
        self._started = True
        self._spawn(self._keeper.work())

    async def aclose(self, drain_timeout: float = 0.0) -> None:
        """Let live runs drain, end the rest as `interrupted`, close the store."""
        self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout):
                await self._idle.wait()
        self._going = True
        for live in tuple(self._live.values()):
            live.run.interrupt()
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
        """Begin to go: refuse starts and send viewers away. Live runs go on."""
        if not self.draining.rung:
            self.draining.ring()

    def live(self, run: str) -> Run | None:
        """The run, if it lives in this process."""
        found = self._live.get(run)
        return found.run if found is not None else None

    def __len__(self) -> int:
        return len(self._live)

    async def launch(self, launch: Launch) -> Launched:
        """Store `run.started` and set the source to work.

        Raises `Refused` (`overloaded`) while draining, `Mismatch` for an idempotency key of another request, and for a thread
        in which another run is at work (`thread_busy`).
        """
        if self.draining.rung:
            raise Refused(code="overloaded")
        # In a task of its own: whoever waits for it may be cancelled, and a log that is open needs its writer.
        task = asyncio.get_running_loop().create_task(self._launch(launch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def stop(self, run: str) -> str:
        """Ask the owner, wherever it is, to stop the run; tell what came of it: `stopped`, `already_ended` or `stopping`.

        Raises `Gone` for a run that is not there.
        """
        if (head := await self.head(run)).ended is not None:
            return "already_ended"
        await self.store.post(control_log(run), control.encode(control.Stop()))
        head = await self._ended(run, STOP_TIMEOUT)
        if head.outcome is None:
            return "stopping"
        return "stopped" if head.outcome == "stopped" else "already_ended"

    async def owner_age(self, tail: Tail) -> float | None:
        """Seconds since the owner of a live log was last seen alive, 0 for this process; None where nobody owns it."""
        if tail.ended or not tail.owner:
            return None
        if tail.owner == self.owner or not isinstance(self.store, Leasing):
            return 0.0
        return await self.store.age(tail.owner)

    async def head(self, run: str) -> Head:
        """The head of a run. Raises `Gone` for one that is not there."""
        tail = await self.store.tail(run_log(run))
        if tail is None:
            raise Gone(code="not_found")
        return heads.decode(tail.head)

    async def drop(self, run: str) -> None:
        """Stop the run if it lives; then every byte of it is gone."""
        with contextlib.suppress(Gone):
            await self.stop(run)
        await self.store.drop(run_log(run))
        await self.store.drop(control_log(run))

    def watch(self, head: Head, viewer: object, position: int) -> contextlib.AbstractContextManager[None]:
        """While the block lasts, `viewer` watches the run, wherever the owner is: for `on_leave`, and for `lockstep`."""
        return self._watching.watch(head, viewer, position)

    async def _launch(self, launch: Launch) -> Launched:
        self._starting += 1
        self._idle.clear()
        try:
            return await self._open(launch)
        finally:
            self._starting -= 1
            self._rest()

    async def _open(self, launch: Launch, tries: int = OPEN_TRIES) -> Launched:
        if (
            launch.thread is not None and not launch.concurrent and launch.key is None
        ):  # a key may find the run that is at work
            _refuse(await threads.busy(self.store, launch.thread, launch.principal))
        made, first = begin(launch)
        name, record = run_log(made.run), Record(1, made.created, e.encode(first))
        live_bell = self.store.changed(control_log(made.run))
        won = await self.store.open(
            name, heads.encode(made), records=(record,), principal=launch.principal or "",
            key=launch.key, fingerprint=launch.fingerprint,
        )  # fmt: skip
        if won != name:
            return await self._found(won.partition("/")[2], launch, tries)
        opener = launch.opener
        if launch.thread is not None:
            try:
                await self._join(made, launch)
            except StoreError as error:  # the log is open: it must have its ending
                opener = partial(_raise, error)
        run = Run(
            self.store, made, Lease(self.owner), values=Values(), limits=launch.limits, first=first, attempts=launch.attempts
        )  # fmt: skip
        self._adopt(run, launch, live_bell)
        if launch.of is not None and launch.mode is not None:
            succeeded = control.encode(control.Succeeded(by=made.run, mode=launch.mode))
            self._spawn(self.store.post(control_log(launch.of), succeeded))
        for observer in self.observers:
            observer.started(run)
        self._spawn(run.work(opener))
        if launch.thread is None:  # nobody else knows this thread yet: the source need not wait
            with contextlib.suppress(StoreError):
                await threads.add(self.store, made.thread, made.principal, threads.entry_of(made))
        return Launched(made.run, made.thread, run, False)

    async def _join(self, made: Head, launch: Launch) -> None:
        """Put the run into its thread. Raises `Mismatch` (`thread_busy`) where another one is at work, and forgets this one.

        Everybody posts first and reads then, so of two that start at once, in whatever processes, both see the one that the
        store put first, and only that one goes on. A run whose process died is at work until it is reaped.
        """
        place = await threads.add(
            self.store, made.thread, made.principal, threads.entry_of(made, concurrent=launch.concurrent)
        )
        if launch.concurrent:
            return
        other = await threads.busy(self.store, made.thread, made.principal, before=place)
        if other is not None:
            await self.store.drop(run_log(made.run))
            _refuse(other)

    def _adopt(self, run: Run, launch: Launch, bell: Bell) -> None:
        rang = partial(self._rang, run.id)
        live = self._live[run.id] = Live(run, bell, rang, cancel_after=launch.cancel_after, on_end=launch.on_end)
        run.done.add_done_callback(lambda _: self._settle(live))
        if launch.partial:
            run.partial = launch.partial
            run.start_with((e.TextSnapshot(text=launch.partial),))
        if self._going:
            run.interrupt()

    def _settle(self, live: Live) -> None:
        """The run is done; an ending that the store refused is owed, unless somebody else owns the log."""
        run = live.run
        if run.lost is None:
            self._tell(live.on_end, _ending(run))
            self._forget(live)
        elif isinstance(run.lost, Conflict):
            self._forget(live)
        else:
            self._spawn(self._end_lost(live))

    async def _end_lost(self, live: Live) -> None:
        error = live.run.error or e.Error.of("store_unavailable")
        try:
            while self._started:
                try:
                    ended = await self._keeper.end_lost(live.run.id, error, lease=Lease(self.owner))
                except StoreError:
                    await asyncio.sleep(RETRY_ENDING)
                    continue
                if ended is not None:
                    self._tell(live.on_end, ended)
                break
        finally:
            self._forget(live)

    def _tell(self, on_end: OnEnd | None, ending: Ending) -> None:
        """Tell those who asked to hear of it. Once for each run: whoever stores an ending calls this."""
        for each in (on_end, self._on_end):
            if each is not None:
                self._endings.tell(each, ending)

    def _forget(self, live: Live) -> None:
        self._live.pop(live.run.id, None)
        live.close()
        self._rest()
        for observer in self.observers:
            observer.ended(live.run)
        if not self.observers:
            log.info("run %s ended: %s, %d records", live.run.id, live.run.outcome, live.run.last)

    def _rest(self) -> None:
        if not self._live and not self._starting:
            self._idle.set()

    async def _leave(self) -> None:
        """End all tasks, and leave those behind that do not end."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=LEAVE_TIMEOUT)
            if stuck:
                log.warning("tidelog: %d tasks do not end and are left behind: %s", len(stuck), stuck)
        ending = [live.run.done for live in self._live.values() if live.run.outcome is not None]
        if ending:  # the sources of these closed late: their endings are on their way to the store
            await asyncio.wait(ending, timeout=LEAVE_TIMEOUT)

    def _rang(self, run: str) -> None:
        live = self._live.get(run)
        if live is not None and self._started:
            self._spawn(self._obey(live))

    async def _obey(self, live: Live) -> None:
        """Read what was asked since, and do it."""
        name, more = control_log(live.run.id), True
        try:
            while more:
                page = await self.store.read(name, live.seen)
                more = page.more
                for record in page.records:
                    if record.seq > live.seen:
                        live.seen = record.seq
                        self._obey_one(live, control.decode(record.data))
        except Gone:
            pass
        except StoreError as error:
            log.warning("run %s: its control log could not be read, will try again: %s", live.run.id, error)
            asyncio.get_running_loop().call_later(RETRY_CONTROL, live.rang)

    def _obey_one(self, live: Live, asked: control.AnyControl | None) -> None:
        match asked:
            case control.Stop():
                live.run.stop()
            case control.Watched(by=by, viewers=viewers):
                live.told(by, viewers)
                self._watching.count(live)
            case _:
                pass

    async def _ended(self, run: str, timeout: float) -> Head:
        """The head of a run that any process owns: once it has ended, or as it is after `timeout` seconds."""
        loop, waiter = asyncio.get_running_loop(), Waiter()
        until, bell = loop.time() + timeout, self.store.changed(run_log(run))
        bell.add(waiter.wake)
        try:
            while True:
                waiter.woken = False
                head = await self.head(run)
                left = until - loop.time()
                if head.ended is not None or left <= 0:
                    return head
                await waiter.wait(left)
        finally:
            waiter.close()
            bell.discard(waiter.wake)

    async def _found(self, run: str, launch: Launch, tries: int) -> Launched:
        """The run of this key. One that its thread does not let in is dropped any moment, and its key is free again."""
        try:
            head = await self.head(run)
            if launch.thread is not None and not launch.concurrent and head.ended is None:
                _refuse(await threads.kept_out(self.store, head.thread, head.principal, run))
                head = await self.head(run)
        except Gone as gone:
            if gone.code != "not_found" or not tries:
                raise
            return await self._open(launch, tries - 1)
        return Launched(run, head.thread, self.live(run), True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)

    def _spawn_if_open(self, work: Coroutine[Any, Any, Any]) -> None:
        """For timers and viewers, which may come after the end."""
        if self._going and not self._started:
            work.close()
        else:
            self._spawn(work)

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tidelog: a background task failed", exc_info=error)


def _ending(run: Run) -> Ending:
    """How a run of ours ended; its ending is stored."""
    return Ending(
        run=run.id, thread=run.thread, principal=run.head.principal, route=run.head.route, of=run.head.of, mode=run.mode,
        outcome=run.outcome or "failed", error=run.error, usage=run.usage, records=run.last,
        created=run.head.created, ended=time.time(),
    )  # fmt: skip


def _refuse(busy: str | None) -> None:
    if busy is not None:
        raise Mismatch(code="thread_busy", run=busy)


def _raise(error: Exception) -> NoReturn:
    raise error
