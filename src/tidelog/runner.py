"""The runs that live in this process: started, told what others ask of them, waited for when the process goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from tidelog import control, threads
from tidelog import events as e
from tidelog import head as heads
from tidelog.bell import Bell
from tidelog.errors import Conflict, Gone, Refused
from tidelog.head import Head, StoredRequest
from tidelog.keeper import Keeper
from tidelog.limits import Limits
from tidelog.log import Lease, Record, control_log, new_id, run_log
from tidelog.run import Opener, Run
from tidelog.seams import Store
from tidelog.sources.values import Values

log = logging.getLogger("tidelog")

STOP_TIMEOUT: Final = 5.0
"""How long `stop` waits for the owner to obey."""
RETRY_ENDING: Final = 1.0
"""Seconds between attempts to store an ending that the store refused."""


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

    __slots__ = ("bell", "cancel", "cancel_after", "elsewhere", "run", "seen")

    def __init__(self, run: Run, cancel_after: float | None) -> None:
        self.run = run
        self.cancel_after = cancel_after
        self.bell = Bell()
        self.seen = 0
        self.elsewhere: dict[str, int] = {}
        self.cancel: asyncio.TimerHandle | None = None


class Runner:
    """Owns the runs of this process. `start` it on the loop that it is used on."""

    def __init__(self, store: Store, *, keeper: Keeper | None = None) -> None:
        self.store = store
        self.owner = new_id()
        self.draining = Bell()
        """Rung when the process begins to go: no starts, and viewers are sent away."""
        self._keeper = keeper or Keeper(store)
        self._live: dict[str, _Live] = {}
        self._idle = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watched: dict[str, int] = {}
        self._started = False

    async def start(self) -> None:
        """Open the store and begin to look after what dead processes left."""
        await self.store.start(self.owner)
        self._started = True
        self._idle.set()
        self._spawn(self._keeper.work())

    async def aclose(self, drain_timeout: float = 0.0) -> None:
        """Let live runs drain, end the rest as `interrupted`, close the store."""
        self.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_timeout):
                await self._idle.wait()
        left = list(self._live.values())
        for live in left:
            live.run.interrupt()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self._idle.wait()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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
        live = self._live[made.run] = _Live(run, launch.cancel_after)
        self._idle.clear()
        self._listen(live, live_bell)
        if launch.partial:
            run.partial = launch.partial
            run.start_with((e.TextSnapshot(text=launch.partial),))
        self._spawn(threads.add(self.store, made.thread, made.principal, threads.Entry(made.run, made.of, made.mode)))
        if launch.of is not None and launch.mode is not None:
            succeeded = control.encode(control.Succeeded(by=made.run, mode=launch.mode))
            self._spawn(self.store.post(control_log(launch.of), succeeded))
        self._spawn(self._work(live, launch.opener))
        return Launched(made.run, made.thread, run, False)

    async def stop(self, run: str) -> str:
        """Ask the owner, wherever it is, to stop the run; tell what came of it: `stopped`, `already_ended` or `stopping`.

        Raises `Gone` for a run that is not there.
        """
        if (head := await self.head(run)).ended is not None:
            return "already_ended"
        await self.store.post(control_log(run), control.encode(control.Stop()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                head = await self._ended(run)
        if head.outcome is None:
            return "stopping"
        return "stopped" if head.outcome == "stopped" else "already_ended"

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
        """While the block lasts, `viewer` watches the run: it counts for `on_leave` and `lockstep`, here or in the owner's process."""
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

    async def _work(self, live: _Live, opener: Opener) -> None:
        run = live.run
        try:
            await run.work(opener)
        finally:
            await asyncio.shield(run.done)
            while run.lost is not None and not isinstance(run.lost, Conflict):
                if await self._keeper.end_lost(run.id, run.failure_or_unavailable()):
                    break
                await asyncio.sleep(RETRY_ENDING)
            self._forget(live)
            log.info("run %s ended: %s, %d records", run.id, run.outcome, run.last)

    def _forget(self, live: _Live) -> None:
        self._live.pop(live.run.id, None)
        if live.cancel is not None:
            live.cancel.cancel()
        if not self._live:
            self._idle.set()

    def _listen(self, live: _Live, bell: Bell) -> None:
        live.bell = bell
        bell.add(partial(self._rang, live))

    def _rang(self, live: _Live) -> None:
        if live.run.id in self._live:
            self._spawn(self._obey(live))

    async def _obey(self, live: _Live) -> None:
        """Read what was asked since, and do it."""
        name = control_log(live.run.id)
        self._listen(live, self.store.changed(name))
        with contextlib.suppress(Gone):
            page = await self.store.read(name, live.seen)
            for record in page.records:
                if record.seq > live.seen:
                    live.seen = record.seq
                    self._obey_one(live, control.decode(record.data))

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
        if live.cancel_after is None:
            return
        watched = len(live.run.viewers) > 0 or any(live.elsewhere.values())
        if watched and live.cancel is not None:
            live.cancel.cancel()
            live.cancel = None
        elif not watched and live.cancel is None:
            live.cancel = asyncio.get_running_loop().call_later(live.cancel_after, live.run.stop)

    def _watch_elsewhere(self, run: str, change: int) -> None:
        before = self._watched.get(run, 0)
        now = self._watched[run] = before + change
        if not now:
            del self._watched[run]
        if bool(before) != bool(now):
            said = control.encode(control.Watched(by=self.owner, viewers=now))
            self._spawn(self.store.post(control_log(run), said))

    async def _ended(self, run: str) -> Head:
        """Wait for the end of a run that any process owns."""
        name = run_log(run)
        while True:
            bell = self.store.changed(name)
            head = await self.head(run)
            if head.ended is not None:
                return head
            rung = asyncio.Event()
            bell.add(rung.set)
            await rung.wait()

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
