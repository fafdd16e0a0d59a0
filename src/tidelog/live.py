"""A live run of this process, with its ears: what others ask of it, and who watches it, here and in other processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final
from weakref import ref

from tidelog import control
from tidelog import head as heads
from tidelog.admission import Claim
from tidelog.bell import Bell
from tidelog.endings import Ending, OnEnd
from tidelog.errors import Gone, StoreError
from tidelog.head import Head
from tidelog.log import control_log, run_log
from tidelog.patience import patiently
from tidelog.run import Run
from tidelog.seams import Leasing, Store

log = logging.getLogger("tidelog")

RETRY_CONTROL: Final = 0.25
"""Seconds after which a control log that could not be read is read again."""

Spawn = Callable[[Coroutine[Any, Any, Any]], None]
"""Works in the background; the process may be going already."""


class Live:
    """A live run, and its control log, which `bell` rings: what stands there is obeyed."""

    def __init__(
        self, run: Run, bell: Bell, store: Store, spawn: Spawn, *,
        claim: Claim, cancel_after: float | None, on_end: OnEnd | None,
    ) -> None:  # fmt: skip
        run.questions.expire = self._expire
        self.run = run
        self._claim = claim
        self.on_end = on_end
        self._cancel_after = cancel_after
        self._cancel: asyncio.TimerHandle | None = None
        self._store = store
        self._spawn = spawn
        self._bell: Bell | None = bell
        self._seen = 0
        """How far the control log was read."""
        self._obeyed = run.head.asked
        """Pauses up to here were obeyed by an earlier owner."""
        self._elsewhere: dict[str, int] = {}
        self._closed = False
        self._rang: Callable[[], None] = self.hear
        bell.add(self._rang)
        run.writer.turn.enter()

    @property
    def watched(self) -> bool:
        """Whether anybody watches, in whatever process."""
        return len(self.run.viewers) > 0 or any(self._elsewhere.values())

    def count(self) -> None:
        """Arm or disarm `on_leave` by the number of viewers everywhere."""
        if self._cancel_after is None or self._closed:
            return
        if self.watched and self._cancel is not None:
            self._cancel.cancel()
            self._cancel = None
        elif not self.watched and self._cancel is None:
            self._cancel = asyncio.get_running_loop().call_later(self._cancel_after, self._leave_alone)

    async def forget_dead(self, patience: float) -> None:
        """A process that has died has no viewers any more, and cannot say so: its lease has stood still for so many seconds."""
        watching = [by for by, viewers in self._elsewhere.items() if viewers]
        if not watching or not isinstance(self._store, Leasing):  # that takes 20 µs, and runs are many
            return
        for by in watching:
            age = await self._store.age(by)
            if age is None or age >= patience:
                self._watch_elsewhere(by, 0)

    def close(self) -> None:
        """The run is done: hear nothing more, and make room for another."""
        self._closed = True
        self._claim.release()
        self.run.writer.turn.leave()
        if self._bell is not None:
            self._bell.discard(self._rang)
            # A bell that nobody holds costs its store nothing, and this object may wait for the collector.
            self._bell = None
        if self._cancel is not None:
            self._cancel.cancel()

    def ending(self) -> Ending:
        """How the run ended; its ending is stored."""
        run, head = self.run, self.run.head
        return Ending(
            run=run.id, thread=run.thread, principal=head.principal, route=head.route, of=head.of, mode=run.mode,
            outcome=run.outcome or "failed", error=run.error, usage=run.writer.usage, records=run.last,
            created=head.created, ended=time.time(),
        )  # fmt: skip

    def hear(self) -> None:
        """Obey what was asked since."""
        self._spawn(self._obey())

    def _expire(self, question: str) -> None:
        self._spawn(self._post_expiry(question))

    async def _post_expiry(self, question: str) -> None:
        """What decides a question stands in the control log, where the answers are; it comes back from there."""
        try:
            await self._store.post(control_log(self.run.id), control.encode(control.Expired(question=question)))
        except StoreError as error:
            log.warning("run %s: an expiry could not be stored, will try again: %s", self.run.id, error)
            if not self._closed:
                asyncio.get_running_loop().call_later(RETRY_CONTROL, self._expire, question)

    async def _obey(self) -> bool:
        """Read what was asked since, and do it; False where it could not be read, and will be again."""
        name, more = control_log(self.run.id), True
        try:
            while more:
                page = await self._store.read(name, self._seen)
                more = page.more
                for record in page.records:
                    if record.seq > self._seen:
                        self._seen = record.seq
                        self._do(control.decode(record.data), record.seq)
        except Gone:
            pass
        except StoreError as error:
            if not self._closed:
                log.warning("run %s: its control log could not be read, will try again: %s", self.run.id, error)
                asyncio.get_running_loop().call_later(RETRY_CONTROL, self.hear)
            return False
        return True

    def _do(self, asked: control.AnyControl | None, number: int) -> None:
        match asked:
            case control.Stop():
                self.run.stop()
            case control.Pause() if number > self._obeyed:
                self.run.pause(asked=number)
            case control.Resume() if number > self._obeyed:
                self.run.resume(asked=number)
            case control.Answer() | control.Expired():
                self.run.questions.decide(asked)
            case control.Watched(by=by, viewers=viewers):
                self._watch_elsewhere(by, viewers)
            case _:
                pass

    def _watch_elsewhere(self, by: str, viewers: int) -> None:
        self._elsewhere[by] = viewers
        self.run.viewers.watched_elsewhere(any(self._elsewhere.values()))
        self.count()

    def _leave_alone(self) -> None:
        self._cancel = None
        self._spawn(self._stop_unwatched())

    async def _stop_unwatched(self) -> None:
        """Nobody here watches: look once more whether anybody does elsewhere, whose word may not have reached us."""
        looked = await self._obey()
        if self.watched or self._closed:
            return
        if looked:
            self.run.stop()
        elif self._cancel is None:
            self._cancel = asyncio.get_running_loop().call_later(RETRY_CONTROL, self._leave_alone)


class WatchedHere:
    """A viewer of a run that lives in this process. One that is still there when the run has ended keeps nothing of it."""

    __slots__ = ("_live", "_position", "_viewer")

    def __init__(self, live: Live, viewer: object, position: int) -> None:
        self._live = ref(live)
        self._viewer = viewer
        self._position = position

    def __enter__(self) -> None:
        if (live := self._live()) is not None:
            live.run.viewers.add(self._viewer, self._position)
            live.count()

    def __exit__(self, *_: object) -> None:
        if (live := self._live()) is not None:
            live.run.viewers.remove(self._viewer)
            live.count()


class WatchedElsewhere:
    """A viewer here of a run that another process has, which is told by how many they have changed."""

    __slots__ = ("_changed",)

    def __init__(self, changed: Callable[[int], None]) -> None:
        self._changed = changed

    def __enter__(self) -> None:
        self._changed(1)

    def __exit__(self, *_: object) -> None:
        self._changed(-1)


class Watching:
    """Counts viewers, for `on_leave` and `lockstep`: those of runs that live here, and for other processes' runs our own.

    Under lockstep a source waits for the viewers of its own process alone; that there are others only keeps it going.
    """

    def __init__(self, store: Store, live: Mapping[str, Live], spawn: Spawn) -> None:
        self.owner = ""
        """The process, as the store knows it."""
        self._store = store
        self._live = live
        self._spawn = spawn
        self._watched: dict[str, int] = {}

    def watch(self, head: Head, viewer: object, position: int) -> contextlib.AbstractContextManager[None]:
        """While the block lasts, `viewer` watches the run, wherever the owner is."""
        live = self._live.get(head.run)
        if live is not None:
            return WatchedHere(live, viewer, position)
        if head.counts_viewers and head.ended is None:
            return WatchedElsewhere(partial(self._watch_elsewhere, head.run))
        return contextlib.nullcontext()

    async def forget_dead(self, patience: float) -> None:
        """Count no more whom processes served that have died since."""
        for live in tuple(self._live.values()):
            await live.forget_dead(patience)

    def _watch_elsewhere(self, run: str, change: int) -> None:
        before = self._watched.get(run, 0)
        now = self._watched[run] = before + change
        if not now:
            del self._watched[run]
        if bool(before) != bool(now):
            self._spawn(self._tell_owner(run))

    async def _tell_owner(self, run: str) -> None:
        """How many watch here now. Only while the run lives: a post would make the control log of a dropped run anew."""

        async def tell() -> None:
            tail = await self._store.tail(run_log(run))
            if tail is not None and heads.decode(tail.head).ended is None:
                said = control.Watched(by=self.owner, viewers=self._watched.get(run, 0))
                await self._store.post(control_log(run), control.encode(said))

        with contextlib.suppress(Gone):
            await patiently(self._store, tell, f"run {run}: how many watch it here")
