"""One connection to each server hears of all changes there, and the ends of watched logs are kept here for all who watch them.

Of a log that this process writes, and knows, it hears only what others do to it.

A change is told on the log's channel; it carries no data. Whoever watches reads once from Redis for the whole process, whatever
the number of its viewers. A connection that was lost is made anew, and everything is looked at again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple
from weakref import finalize, ref

from tidelog.bell import Bell
from tidelog.errors import Gone, StoreError
from tidelog.seams import Page
from tidelog.stores.redis.ears import AGAIN, Ears
from tidelog.stores.redis.keys import LogKeys
from tidelog.stores.redis.nodes import Nodes
from tidelog.window import LogWindow

READY_TIMEOUT: Final = 2.0
"""Seconds for which a reader waits until its channel is heard; a ring that is lost meanwhile costs a delay."""

_log = logging.getLogger("tidelog.stores.redis")


class Stand(NamedTuple):
    """How a log stands. `lost` is what it had when Redis lost records of it for the last time, before `lost_epoch`."""

    last: int = 0
    epoch: int = 0
    """0 for a log that many post to, and for one that is not there."""
    lost: int = 0
    lost_epoch: int = 0


class Watch:
    """A log that is watched here, from where it stood when the watch began."""

    __slots__ = ("bell", "channel", "end", "epoch", "fence", "late", "name", "reading", "ready", "stale")

    def __init__(self, name: str, channel: str, bell: Bell) -> None:
        self.name = name
        self.channel = channel
        self.fence = ""
        """Heard instead of the channel while this process writes the log."""
        self.bell = ref(bell)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once its channel is heard."""
        self.end: LogWindow | None = None
        """The end of the log, once it is heard. Where that begins anew it is another one: whoever has the old one sees that."""
        self.epoch = 0
        """That of the last record that it has seen; 0 for none."""
        self.late = False
        """Whether somebody has read without waiting any longer for that."""
        self.reading = False
        self.stale = False

    def add(self, end: LogWindow, page: Page) -> None:
        """What was read behind this end."""
        end.records += page.records
        end.stored = page.records[-1].seq if page.records else end.stored
        self.epoch = page.records[-1].epoch if page.records else self.epoch
        end.ended = page.ended
        if end.stored > end.look_at:
            end.look(end.stored - 1)  # the last record stays: who is rung looks for it here

    def begin(self, at: Stand) -> None:
        """The log stands here: what follows will be kept."""
        self.end, self.epoch = LogWindow(at.last), at.epoch

    def outran(self, end: LogWindow, at: Stand) -> bool:
        """Whether it has seen records that the log has not any more."""
        return end.stored > at.last or (self.epoch < at.lost_epoch and end.stored > at.lost)

    def over(self) -> None:
        """Nobody watches any more: nobody is to wait until it is heard."""
        if not self.ready.done():
            self.ready.set_result(None)

    def ring(self) -> None:
        """Wake all who watch."""
        bell = self.bell()
        if bell is not None:
            bell.ring()


class Hub:
    """The watches of a process. `ours` tells whether this process writes a log; `touched` is told of one that others changed.

    `again` is called when Redis is heard after a time in which it was not; `mend` for a log of posts that has lost some.
    """

    def __init__(
        self, nodes: Nodes, *, read: Callable[[str, int], Awaitable[Page]],
        stand: Callable[[str], Awaitable[Stand]], mend: Callable[[str, int], Awaitable[object]],
        ours: Callable[[str], bool], touched: Callable[[str], None], again: Callable[[], None],
    ) -> None:  # fmt: skip
        self._ears = Ears(nodes, heard=self._heard, told=self._told, back=again)
        self._read = read
        self._stand = stand
        self._mend = mend
        self._ours = ours
        self._touched = touched
        self._loop = asyncio.get_running_loop()
        self._watches: dict[str, Watch] = {}
        self._fences: dict[str, str] = {}
        """The watched logs that this process writes, by the channels of their fences."""
        self._new: set[str] = set()
        """Fences that have not been heard yet."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Hear all that are watched, from now on."""
        await self._ears.start()

    async def aclose(self) -> None:
        """Hear nothing more."""
        await self._ears.aclose()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.ring_all()

    def bell(self, name: str, keys: LogKeys, *, ours: bool) -> Bell:
        """The bell of this log, which is watched for as long as somebody holds it. `ours`: this process writes it."""
        channel = keys.channel
        watch = self._watches.get(channel)
        bell = watch.bell() if watch is not None else None
        if bell is None:
            if watch is not None:
                watch.over()
            bell = Bell()
            watch = self._watches[channel] = Watch(name, channel, bell)
            finalize(bell, self._leave, watch)
            if ours:
                self._guard(watch, keys)
            else:
                self._ears.want(channel, True)
        return bell

    def held(self, channel: str) -> Bell | None:
        """The bell of this log, if anybody holds it."""
        watch = self._watches.get(channel)
        return watch.bell() if watch is not None else None

    def window(self, channel: str) -> LogWindow | None:
        """The end of this log, if it is watched and heard."""
        watch = self._watches.get(channel)
        return watch.end if watch is not None else None

    async def ready(self, channel: str) -> None:
        """Until the channel of a watched log is heard: what is read then misses nothing."""
        watch = self._watches.get(channel)
        if watch is not None and not watch.ready.done():
            await asyncio.wait((watch.ready,), timeout=READY_TIMEOUT)
            watch.late = watch.late or not watch.ready.done()

    def own(self, keys: LogKeys) -> None:
        """This process writes the log from now on."""
        watch = self._watches.get(keys.channel)
        if watch is not None:
            self._deafen(watch)
            self._guard(watch, keys)

    def disown(self, keys: LogKeys, seen: Stand | None) -> None:
        """This process writes the log no more: keep its end from here on, once it is heard. `seen`: where we knew it to stand."""
        watch = self._watches.get(keys.channel)
        if watch is not None:
            self._deafen(watch)
            if seen is not None:
                watch.begin(seen)
            self._ears.want(keys.channel, True)

    def look(self, channel: str) -> None:
        """Keep the end of a log from here on, and wake all who watch."""
        watch = self._watches.get(channel)
        if watch is not None:
            self._spawn(self._begin(watch))

    def lose(self, channel: str) -> None:
        """The log has lost records: whoever watches ends, and comes back to hear of it."""
        watch = self._watches.pop(channel, None)
        if watch is not None:
            watch.over()
            self._deafen(watch)
            bell = watch.bell()
            if bell is not None:
                bell.lost = True
                bell.ring()

    def ring_all(self) -> None:
        """Wake everybody."""
        for watch in tuple(self._watches.values()):
            watch.ring()

    def _leave(self, watch: Watch) -> None:
        """Nobody holds its bell any more. Called wherever the bell died."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._left, watch)

    def _left(self, watch: Watch) -> None:
        watch.over()
        if self._watches.get(watch.channel) is watch:
            del self._watches[watch.channel]
            self._deafen(watch)

    def _guard(self, watch: Watch, keys: LogKeys) -> None:
        watch.fence = keys.fence
        self._fences[keys.fence] = watch.name
        self._new.add(keys.fence)
        self._ears.want(keys.fence, True)

    def _deafen(self, watch: Watch) -> None:
        """Hear no more of it."""
        self._ears.want(watch.fence or watch.channel, False)
        self._fences.pop(watch.fence, None)
        self._new.discard(watch.fence)
        watch.fence = ""

    def _heard(self, channel: str) -> None:
        if channel in self._new:
            self._new.discard(channel)
            self._touched(self._fences[channel])  # before it was heard, perhaps
        watch = self._watches.get(channel)
        if watch is not None:
            self._spawn(self._begin(watch))

    def _told(self, channel: str, said: bytes) -> None:
        touched = self._fences.get(channel)
        if touched is not None:
            self._touched(touched)
        watch = self._watches.get(channel)
        if watch is not None and not self._ours(watch.name):
            self._refresh(watch)

    async def _begin(self, watch: Watch) -> None:
        """The channel is heard, perhaps again: what came before is looked at now."""
        try:
            at = await self._stand(watch.name)
            end = watch.end
            if end is not None and not watch.epoch and end.stored > at.last:
                await self._mend(watch.name, end.stored)
                at = Stand(end.stored)
        except StoreError:
            self._loop.call_later(AGAIN, self.look, watch.channel)
        else:
            if end is None:
                watch.begin(at)
            elif watch.outran(end, at):
                self.lose(watch.channel)
            else:
                self._refresh(watch)
        if not watch.ready.done():
            watch.ready.set_result(None)
            if not watch.late and (watch.end is None or not watch.end.stored):
                return  # nothing came before it was heard, and nobody has read
        watch.ring()

    def _refresh(self, watch: Watch) -> None:
        watch.stale = True
        if not watch.reading:
            watch.reading = True
            self._spawn(self._catch_up(watch))

    async def _catch_up(self, watch: Watch) -> None:
        try:
            while watch.stale:
                watch.stale = False
                if watch.end is not None:
                    await self._read_on(watch, watch.end)
                watch.ring()
        finally:
            watch.reading = False

    async def _read_on(self, watch: Watch, end: LogWindow) -> None:
        try:
            page = await self._read(watch.name, end.stored)
        except Gone:
            watch.end = None  # who reads is told by Redis; a log of this name that comes later begins anew
            self._loop.call_later(AGAIN, self.look, watch.channel)
            return
        except StoreError as error:
            _log.warning("%s could not be read, will try again: %s", watch.name, error)
            self._loop.call_later(AGAIN, self.look, watch.channel)
            return
        if watch.end is end:  # else it stands elsewhere by now
            watch.add(end, page)
        watch.stale = watch.stale or page.more

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
