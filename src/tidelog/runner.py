"""The runs that live in this process: started, told what others ask of them, waited for when the process goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from tidelog import control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.bell import Bell, Turn, Waiter
from tidelog.errors import Conflict, Gone, Refused, StoreError
from tidelog.head import Head, StoredRequest
from tidelog.keeper import Keeper
from tidelog.limits import Limits
from tidelog.log import Lease, Record, Tail, control_log, new_id, run_log
from tidelog.run import Opener, Run
from tidelog.seams import Leasing, Store
from tidelog.sources.values import Values

log = logging.getLogger("tidelog")

STOP_TIMEOUT: Final = 5.0
"""How long `stop` waits for the owner to obey."""
RETRY_ENDING: Final = 1.0
"""Seconds between attempts to store an ending that the store refused."""
RETRY_CONTROL: Final = 0.25
"""Seconds after which a control log that could not be read is read again."""
INTERRUPT_TIMEOUT: Final = 1.25
"""How long the runs that did not drain may take to end as `interrupted`."""
LEAVE_TIMEOUT: Final = 0.5
"""How long `aclose` waits for its tasks, such as a source that swallows its cancellation."""


class Launch(NamedTuple):
    """What a new run is to be."""

    opener: Opener
    thread: str | None = None
    principal: str | None = None
    route: str | None = None
    request: StoredRequest | None = None
    key: str | None = None
    fingerprint: bytes | None = None
    cancel_after: float | None = None
    limits: Limits = Limits()
    of: str | None = None
    mode: e.Mode | None = None
    message: str | None = None
    partial: str = ""
    """The text of the run that this one continues."""


class Launched(NamedTuple):
    """A run that was started, or found by its idempotency key (`run` is None unless it lives here)."""

    id: str
    thread: str
    run: Run | None
    repeated: bool


class _Live:
    """A live run, its control log's bell and how far that log was read."""

    __slots__ = ("bell", "cancel", "cancel_after", "elsewhere", "rang", "run", "seen")

    def __init__(self, run: Run, cancel_after: float | None, bell: Bell, rang: Callable[[], None]) -> None:
        self.run = run
        self.cancel_after = cancel_after
        self.bell = bell
        self.rang = rang
        bell.add(rang)
        self.seen = 0
        self.elsewhere: dict[str, int] = {}
        self.cancel: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> bool:
        """Whether anybody watches, in whatever process."""
        return len(self.run.viewers) > 0 or any(self.elsewhere.values())


class Runner:
    """Owns the runs of this process. `start` it on the loop that it is used on."""

    def __init__(self, store: Store, *, keeper: Keeper | None = None) -> None:
        self.store = store
        self.owner = new_id()
        self.turn = Turn()
        """Shared by the cursors of this process."""
        self.draining = Bell()
        """Rung when the process begins to go: no starts, and viewers are sent away."""
        self._keeper = keeper or Keeper(store)
        self._live: dict[str, _Live] = {}
        self._starting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watched: dict[str, int] = {}
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
        if self._started:
            self._started = False
            await self.store.aclose()

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

        Raises `Refused` (`overloaded`) while draining, `Mismatch` for an idempotency key of another request.
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

    @contextlib.contextmanager
    def watch(self, head: Head, viewer: object, position: int) -> Iterator[None]:
        """While the block lasts, `viewer` watches the run: it counts for `on_leave` and `lockstep`, wherever the owner is."""
        live = self._live.get(head.run)
        if live is not None:
            live.run.viewers.add(viewer, position)
            self._count(live)
        elif head.cancel_after is not None and head.ended is None:
            self._watch_elsewhere(head.run, 1)
        try:
            yield
        finally:
            if live is not None:
                live.run.viewers.remove(viewer)
                self._count(live)
            elif head.cancel_after is not None and head.ended is None:
                self._watch_elsewhere(head.run, -1)

    async def _launch(self, launch: Launch) -> Launched:
        self._starting += 1
        self._idle.clear()
        try:
            return await self._open(launch)
        finally:
            self._starting -= 1
            self._rest()

    async def _open(self, launch: Launch) -> Launched:
        made, first = _begin(launch)
        name, record = run_log(made.run), Record(1, made.created, e.encode(first))
        live_bell = self.store.changed(control_log(made.run))
        won = await self.store.open(
            name, heads.encode(made), records=(record,), principal=launch.principal or "",
            key=launch.key, fingerprint=launch.fingerprint,
        )  # fmt: skip
        if won != name:
            return await self._found(won.partition("/")[2])
        run = Run(self.store, made, Lease(self.owner), values=Values(), limits=launch.limits, first=first)
        self._adopt(run, launch, live_bell)
        self._spawn(threads.add(self.store, made.thread, made.principal, threads.Entry(made.run, made.of, made.mode)))
        if launch.of is not None and launch.mode is not None:
            succeeded = control.encode(control.Succeeded(by=made.run, mode=launch.mode))
            self._spawn(self.store.post(control_log(launch.of), succeeded))
        self._spawn(run.work(launch.opener))
        return Launched(made.run, made.thread, run, False)

    def _adopt(self, run: Run, launch: Launch, bell: Bell) -> None:
        live = self._live[run.id] = _Live(run, launch.cancel_after, bell, partial(self._rang, run.id))
        run.done.add_done_callback(lambda _: self._settle(live))
        if launch.partial:
            run.partial = launch.partial
            run.start_with((e.TextSnapshot(text=launch.partial),))
        if self._going:
            run.interrupt()

    def _settle(self, live: _Live) -> None:
        """The run is done; an ending that the store refused is owed, unless somebody else owns the log."""
        if live.run.lost is None or isinstance(live.run.lost, Conflict):
            self._forget(live)
        else:
            self._spawn(self._end_lost(live))

    async def _end_lost(self, live: _Live) -> None:
        run = live.run
        error = run.error or e.Error.of("store_unavailable")
        try:
            while self._started and not await self._keeper.end_lost(run.id, error, lease=Lease(self.owner)):  # noqa: ASYNC110
                await asyncio.sleep(RETRY_ENDING)
        finally:
            self._forget(live)

    def _forget(self, live: _Live) -> None:
        self._live.pop(live.run.id, None)
        live.bell.discard(live.rang)
        if live.cancel is not None:
            live.cancel.cancel()
        self._rest()
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

    def _rang(self, run: str) -> None:
        live = self._live.get(run)
        if live is not None and self._started:
            self._spawn(self._obey(live))

    async def _obey(self, live: _Live) -> None:
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

    def _obey_one(self, live: _Live, asked: control.AnyControl | None) -> None:
        match asked:
            case control.Stop():
                live.run.stop()
            case control.Watched(by=by, viewers=viewers):
                live.elsewhere[by] = viewers
                self._count(live)
            case _:
                pass

    def _count(self, live: _Live) -> None:
        """Arm or disarm `on_leave` by the number of viewers everywhere."""
        if live.cancel_after is None or live.run.id not in self._live:
            return
        if live.watched and live.cancel is not None:
            live.cancel.cancel()
            live.cancel = None
        elif not live.watched and live.cancel is None:
            live.cancel = asyncio.get_running_loop().call_later(live.cancel_after, self._leave_alone, live)

    def _leave_alone(self, live: _Live) -> None:
        live.cancel = None
        if self._started:
            self._spawn(self._stop_unwatched(live))

    async def _stop_unwatched(self, live: _Live) -> None:
        """Nobody here watches: look once more whether anybody does elsewhere, whose word may not have reached us."""
        await self._obey(live)
        if not live.watched:
            live.run.stop()

    def _watch_elsewhere(self, run: str, change: int) -> None:
        before = self._watched.get(run, 0)
        now = self._watched[run] = before + change
        if not now:
            del self._watched[run]
        if bool(before) != bool(now):
            self._spawn(self._tell_owner(run))

    async def _tell_owner(self, run: str) -> None:
        """How many watch here now. Only while the run lives: a post would make the control log of a dropped run anew."""
        with contextlib.suppress(Gone):
            if (await self.head(run)).ended is None:
                said = control.Watched(by=self.owner, viewers=self._watched.get(run, 0))
                await self.store.post(control_log(run), control.encode(said))

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

    async def _found(self, run: str) -> Launched:
        head = await self.head(run)
        return Launched(run, head.thread, self.live(run), True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reaped)

    def _reaped(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("tidelog: a background task failed", exc_info=error)


def _begin(launch: Launch) -> tuple[Head, e.RunStarted]:
    """The head and the first event of a new run."""
    run = new_id()
    thread, message = launch.thread or new_id(), launch.message or new_id()
    first = e.RunStarted(
        v=e.PROTOCOL_VERSION, run=run, thread=thread, message=message, attempt=1, of=launch.of, mode=launch.mode
    )
    head = Head(
        run=run, thread=thread, message=message, created=time.time(), principal=launch.principal, route=launch.route,
        request=launch.request, cancel_after=launch.cancel_after, of=launch.of, mode=launch.mode,
    )  # fmt: skip
    return head, first
