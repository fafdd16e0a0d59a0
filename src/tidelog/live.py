"""A live run of this process, and what its owner knows of those who watch it: here, and in other processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

from tidelog import control
from tidelog import head as heads
from tidelog.bell import Bell
from tidelog.endings import OnEnd
from tidelog.errors import Gone
from tidelog.head import Head
from tidelog.log import control_log, run_log
from tidelog.run import Run
from tidelog.seams import Store


class Live:
    """A live run, its control log's bell and how far that log was read."""

    __slots__ = ("bell", "cancel", "cancel_after", "elsewhere", "on_end", "rang", "run", "seen")

    def __init__(
        self, run: Run, bell: Bell, rang: Callable[[], None], *, cancel_after: float | None, on_end: OnEnd | None
    ) -> None:
        self.run = run
        self.cancel_after = cancel_after
        self.on_end = on_end
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

    def told(self, by: str, viewers: int) -> None:
        """Another process says how many watch there."""
        self.elsewhere[by] = viewers
        self.run.viewers.watched_elsewhere(any(self.elsewhere.values()))

    def close(self) -> None:
        """The run is done: hear nothing more."""
        self.bell.discard(self.rang)
        if self.cancel is not None:
            self.cancel.cancel()


class Watching:
    """Counts viewers, for `on_leave` and `lockstep`: those of runs that live here, and for other processes' runs our own.

    Under lockstep a source waits for the viewers of its own process alone; that there are others only keeps it going.

    `obey` reads a run's control log; `spawn` works in the background.
    """

    def __init__(
        self, store: Store, owner: str, live: dict[str, Live], *,
        obey: Callable[[Live], Awaitable[None]], spawn: Callable[[Coroutine[Any, Any, Any]], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._owner = owner
        self._live = live
        self._obey = obey
        self._spawn = spawn
        self._watched: dict[str, int] = {}

    @contextlib.contextmanager
    def watch(self, head: Head, viewer: object, position: int) -> Iterator[None]:
        """While the block lasts, `viewer` watches the run, wherever the owner is."""
        live = self._live.get(head.run)
        if live is not None:
            live.run.viewers.add(viewer, position)
            self.count(live)
        elif head.counts_viewers and head.ended is None:
            self._watch_elsewhere(head.run, 1)
        try:
            yield
        finally:
            if live is not None:
                live.run.viewers.remove(viewer)
                self.count(live)
            elif head.counts_viewers and head.ended is None:
                self._watch_elsewhere(head.run, -1)

    def count(self, live: Live) -> None:
        """Arm or disarm `on_leave` by the number of viewers everywhere."""
        if live.cancel_after is None or live.run.id not in self._live:
            return
        if live.watched and live.cancel is not None:
            live.cancel.cancel()
            live.cancel = None
        elif not live.watched and live.cancel is None:
            live.cancel = asyncio.get_running_loop().call_later(live.cancel_after, self._leave_alone, live)

    def _leave_alone(self, live: Live) -> None:
        live.cancel = None
        self._spawn(self._stop_unwatched(live))

    async def _stop_unwatched(self, live: Live) -> None:
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
            tail = await self._store.tail(run_log(run))
            if tail is not None and heads.decode(tail.head).ended is None:
                said = control.Watched(by=self._owner, viewers=self._watched.get(run, 0))
                await self._store.post(control_log(run), control.encode(said))
