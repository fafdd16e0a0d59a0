"""Viewers of one log who stand at the same place are served as one: by one delivery, whose socket is all of theirs.

What many watch costs each of them a write to the socket and hardly anything more: one reader hears the bell, holds back and makes
the bytes, and nobody's task is woken. Who cannot take a write, or must say something else, goes on alone, from where it stands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Final

from tidelog.errors import Gone
from tidelog.frame import Envelope
from tidelog.granularity import is_delta
from tidelog.log import Record
from tidelog.transports.deliver import SLICE_BYTES, Delivery
from tidelog.transports.direct import DirectDelivery

FEWEST: Final = 16
"""Viewers who wait at a log, from which on the next make a crowd."""
AT_ONCE: Final = 256
"""Members that are written to in one turn of the loop: others have theirs meanwhile."""

STRETCH: Final = 1.3
"""Times as wide as they are asked for merge windows are in a crowd of those for whom a task has to write: each write is dear."""

log = logging.getLogger("tidelog")


class Viewer(DirectDelivery):
    """Serves one viewer. What `DirectDelivery` says holds. Where it would wait for records it does so as one of a crowd, if there
    is one: `crowd`, while it waits.
    """

    __slots__ = ()

    crowd: Crowd | None

    def _begin_to_wait(self) -> float | None:
        self.crowd = crowd = self._find_crowd()
        if crowd is None:
            return super()._begin_to_wait()
        self._cursor.deafen()
        crowd.join(self)
        return None

    def _stop_waiting(self) -> None:
        crowd, self.crowd = self.crowd, None
        if crowd is not None:
            crowd.excuse(self)
            self._cursor.hear()
            self._ripe = True  # the crowd has held back for it
            self._spoke_at = max(self._spoke_at, self._loop.time() - crowd.quiet)
        super()._stop_waiting()

    def _close(self) -> None:
        crowd: Crowd | None = self._turn.crowds.get(self._place)
        if crowd is not None:
            crowd.part(self)
        super()._close()

    def _find_crowd(self) -> Crowd | None:
        """The crowd of those who are told the same, if there is one, or are enough for one."""
        cursor, window, turn = self._cursor, self._cursor.window, self._turn
        if cursor.alone or window is None or window.ended or not cursor.current or not self._can_join():
            return None
        place = self._place
        crowd: Crowd | None = turn.crowds.get(place)
        if crowd is not None:
            return crowd if cursor.position >= crowd.position else None
        if cursor.company < FEWEST or window.stored != cursor.position:
            return None
        _, envelope, _ = self._alike
        crowd = turn.crowds[place] = Crowd(place, turn.crowds, envelope, cursor.position)
        crowd.begin(self._leader(crowd))
        return crowd

    @property
    def _place(self) -> tuple[object, object, float, float]:
        """Where those stand who are told the same."""
        return self._cursor.bell, self._alike, self._window, self._pacing.heartbeat

    def _can_join(self) -> bool:
        """Whether it is told what is stored as it is, and nothing else."""
        told_plainly = self._plain and self._framed and self._holder is None
        alike = told_plainly and self.moved is None and self._how is None and not self._resting
        return alike and self._direct.ready(self._sent)

    def _leader(self, crowd: Crowd) -> Leader:
        """One that reads on from here for the crowd."""
        cursor = self._cursor.beside()
        cursor.batch = SLICE_BYTES // 2  # with what belongs around the records, too, it is a slice
        leader = Leader(
            cursor, self._dialect, type(self._framing)(0),
            write=crowd.write, direct=crowd, pacing=self._pacing, turn=self._turn.steady,
        )  # fmt: skip
        leader.crowd = crowd
        leader._next_at = self._next_at
        leader._window *= STRETCH if self._direct.by_task else 1.0
        return leader

    def take(self, data: bytes, before: int, after: int) -> bool:
        """Write what leads from one place to the other, unless it is known already; False for one that cannot take it."""
        cursor = self._cursor
        if cursor.position != before:
            return cursor.position == after
        if not self._direct.open:
            return False
        if data:
            self._direct.put(data)
        cursor.position = after
        return True

    def catch_up(self, upto: int) -> bool:
        """Write what the others have had before."""
        window, position = self._cursor.window, self._cursor.position
        if window is None or position < window.base or upto > window.stored:
            return False
        records = window.records[position - window.base : upto - window.base]
        return self.take(self._bytes(records) if records else b"", position, upto)

    def go_alone(self) -> None:
        """It is one of the crowd no more: there may be nothing to read, and yet it has to hear the bell again."""
        self._cursor.wake()


class Leader(DirectDelivery):
    """Reads for `crowd`."""

    __slots__ = ()

    crowd: Crowd

    @property
    def quiet(self) -> float:
        """Seconds since the crowd was last told anything."""
        return self._quiet()

    async def _resume(self) -> None:
        """They have had their first frames."""
        self._framed = True
        self._cursor.hear()

    def _put_now(self, record: Record) -> bool:
        """At the next tick: to wait for what comes along costs each of many less than another write."""
        if not self._ready or not is_delta(record):
            return False
        self._checked, self._next_at = record.seq, max(self._next_at, record.at)
        self._hold(record)
        return True

    _beat = Delivery._beat
    """By `Crowd.write`: there is no other way to all of them."""

    async def _send(self, records: Sequence[Record]) -> None:
        """What cannot go the short way: behind a pause, before the end, in pages."""
        await self.crowd.room()
        if not self._cursor.more:
            records = [*records, *await self._meanwhile()]
        next_at = self._after(records[-1].at)
        await self._say_plain(records)
        self._next_at = next_at

    async def _say_plain(self, records: Sequence[Record]) -> bool:
        """Slice by slice: who does not take one at once goes alone, and holds no more of it."""
        await self.crowd.room()
        data = self._bytes(records)
        if len(data) > SLICE_BYTES and len(records) > 1:
            return await self._say_halves(records)
        self.crowd.put(data)
        self._spoke_at = self._loop.time()
        self._gone(records[-1].seq, self._next_at)
        return True

    def _gone(self, position: int, next_at: float) -> None:
        super()._gone(position, next_at)
        self.crowd.go(position)


class Crowd:
    """Implements `direct.Direct`: the socket of all members, who stand at `position`. While it is written to it is full.

    Who joins elsewhere is a newcomer, and brought to where the others are with the next write.
    """

    by_task = False

    def __init__(self, place: object, crowds: dict[object, Crowd], envelope: Envelope, position: int) -> None:
        self.open = True
        self.envelope = envelope
        self.position = position
        self._place = place
        self._crowds = crowds
        self._members: dict[Viewer, None] = {}
        self._newcomers: dict[Viewer, None] = {}
        self._excused: set[Viewer] = set()
        self._data = b""
        self._step = position, position
        """From where to where the members are being brought."""
        self._audience: tuple[Viewer, ...] = ()
        self._reached = 0
        """How many of these have been written to."""
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Future[None] | None = None

    def begin(self, leader: Leader) -> None:
        """Serve those who join, by this one."""
        self._leader = leader
        self._task = self._loop.create_task(self._lead(), context=Context())
        self._task.add_done_callback(self._dissolve)  # also where it is cancelled before it has begun

    @property
    def quiet(self) -> float:
        """Seconds since it was last told anything."""
        return self._leader.quiet

    def join(self, member: Viewer) -> None:
        """Serve this one too, until it is excused or parts."""
        self._excused.discard(member)
        (self._members if member.position == self.position else self._newcomers)[member] = None

    def excuse(self, member: Viewer) -> None:
        """Tell it nothing for now: it has something to do, and is expected back."""
        self._members.pop(member, None)
        self._newcomers.pop(member, None)
        self._excused.add(member)

    def part(self, member: Viewer) -> None:
        """Serve it no more. With the last one the crowd is over, not before: all may be busy with what they were told."""
        self._members.pop(member, None)
        self._newcomers.pop(member, None)
        self._excused.discard(member)
        if not self._members and not self._newcomers and not self._excused:
            self._dissolve()
            self._leader.leave()

    def clear(self, sent: int) -> bool:
        """See `Direct`."""
        return True

    def ready(self, sent: int) -> bool:
        """See `Direct`."""
        return self.open

    def put(self, data: bytes) -> None:
        """See `Direct`. Written with `go`, which tells how far it leads."""
        self._data = data

    def go(self, position: int) -> None:
        """Bring all members to this position by what was put."""
        self._step, self.position = (self.position, position), position
        for newcomer in [one for one in self._newcomers if one.position <= position]:
            del self._newcomers[newcomer]
            if self._told(newcomer.catch_up, position):
                self._members[newcomer] = None
            else:
                newcomer.go_alone()
        self._audience, self._reached = tuple(self._members), 0
        self._write_some()

    async def room(self) -> None:
        """Until all have been written to."""
        while not self.open:
            self._room = self._loop.create_future()
            try:
                await self._room
            finally:
                self._room = None

    async def write(self, data: bytes) -> None:
        """Tell all members something that is not of the log."""
        await self.room()
        self.put(self.envelope.around(data))
        self.go(self.position)

    def _write_some(self) -> None:
        data, (before, after), members = self._data, self._step, self._members
        reached = self._reached + AT_ONCE
        for member in self._audience[self._reached : reached]:
            if member in members and not self._told(member.take, data, before, after):
                del members[member]
                member.go_alone()
        done, self._reached = self._reached >= len(self._audience), reached
        self.open = done
        if not done:
            self._loop.call_soon(self._write_some)  # behind the tasks that were woken
            return
        self._data, self._audience = b"", ()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _told(self, tell: Callable[..., bool], *what: Any) -> bool:
        try:
            return tell(*what)
        except Exception:  # of its socket, and none of the others' business
            log.exception("tidelog: a viewer failed")
            return False

    async def _lead(self) -> None:
        try:
            await self._leader.run()
        except Gone:
            pass  # each of them will learn it
        except Exception:
            log.exception("tidelog: a crowd of viewers lost its leader")

    def _dissolve(self, _: object = None) -> None:
        if self._crowds.get(self._place) is self:
            del self._crowds[self._place]
        left = (*self._members, *self._newcomers)
        self._members.clear()  # a pass that is under way tells them nothing more: they read for themselves
        self._newcomers.clear()
        self._excused.clear()
        for member in left:
            member.go_alone()
