"""Viewers of one log who stand at the same place are served as one: by one delivery, whose socket is all of theirs.

What many watch costs each of them a write to the socket and hardly anything more: one reader hears the bell, holds back and makes
the bytes, and nobody's task is woken. Who cannot take a write, or must say something else, goes on alone, from where it stands.

All are written to in rounds. A round through thousands takes longer than text is held back, so each is told what there is when its
turn has come, not what there was when the round began: no event waits for more than one round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from typing import Final

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
BROUGHT: Final = SLICE_BYTES // 2
"""Bytes of records that are brought along in one round at most: members are never further apart."""

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
        return leader

    def take(self, stretches: Stretches) -> bool:
        """Write what leads from here to where the others are brought; False for one that cannot take it."""
        cursor = self._cursor
        if cursor.position > stretches.upto:
            return True  # it has read ahead
        data = stretches[cursor.position]
        if data:
            if not self._direct.open:
                return False
            self._direct.put(data)
        elif data is None:
            return False
        cursor.position = stretches.upto
        return True

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

    @property
    def patience(self) -> float:
        """Seconds from a write to the next at most, if there is text all the time."""
        return self._window * self._turn.width + self._turn.gather

    def stretch(self, before: int, upto: int) -> bytes | None:
        """What leads from one place to the other; None if that is not at hand any more."""
        window = self._cursor.window
        if window is None or before < window.base or upto > window.stored:
            return None
        records = window.records[before - window.base : upto - window.base]
        return self._bytes(records) if records else b""

    def bring(self, most: int) -> int:
        """Go on to the end of the log, if that is so many bytes away at most; how many it was. The crowd will tell it."""
        cursor, window = self._cursor, self._cursor.window
        if not self._waiting or window is None or not cursor.position < window.stored or not cursor.current:
            return 0
        if window.ended or cursor.position < window.base:
            return 0  # for the task
        records = window.records[cursor.position - window.base : window.stored - window.base]
        size = sum([len(record.data) for record in records])
        if size > most:
            return 0
        last = records[-1]
        self._same, self._ripe = None, False
        self._spoke_at = self._loop.time()
        super()._gone(last.seq, self._window_behind(last.seq))
        return size

    def free(self) -> None:
        """All have been written to. What could not be brought along is told now."""
        if self._same is not None and self._ripe:
            self._catch_up()
        elif self._waiting:
            self._rung_otherwise()

    async def _resume(self) -> None:
        """They have had their first frames."""
        self._framed = True
        self._cursor.hear()

    async def _wait(self, patience: float | None) -> Sequence[Record]:
        """While they are written to nothing is read: what comes is brought along."""
        await self.crowd.room()
        return await self._cursor.next(patience)

    _next = Delivery._next
    """It lets nothing of the log go meanwhile."""

    def _rung(self) -> None:
        if self.crowd.open or not self._waiting:
            super()._rung()  # else it is brought along

    def _due(self) -> None:
        if self.crowd.open:
            super()._due()
        else:
            self._ripe = True

    def _catch_up(self) -> None:
        if self.crowd.open or not self._waiting:
            super()._catch_up()
        else:
            self._scheduled = False

    def _put_now(self, record: Record) -> bool:
        """At the next tick: to wait for what comes along costs each of many less than another write."""
        if not self._ready or not is_delta(record):
            return False
        self._checked, self._next_at = record.seq, max(self._next_at, record.at)
        super()._hold(record)
        return True

    def _hold(self, delta: Record) -> None:
        """Text that comes sooner than it may go is expected to go on so, and waits for what comes within that time."""
        self._next_at = max(self._next_at, delta.at + self._turn.gather)
        super()._hold(delta)

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
        super()._gone(position, max(next_at, self._window_behind(position)))
        self.crowd.go(position)

    def _window_behind(self, position: int) -> float:
        """When the next text may go if this was the last: each of many writes is dear, so none is owed."""
        window = self._cursor.window
        if window is None or position <= window.base:
            return 0.0
        return window.records[position - window.base - 1].at + self._window * self._turn.width


class Stretches(dict[int, bytes | None]):
    """What leads to `upto`, by where one stands: made when the first who stands there is told."""

    def __init__(self, leader: Leader, upto: int) -> None:
        super().__init__()
        self._leader = leader
        self.upto = upto

    def __missing__(self, position: int) -> bytes | None:
        data = self[position] = self._leader.stretch(position, self.upto)
        return data


class Crowd:
    """Implements `direct.Direct`: the socket of all members. While they are written to it is full.

    `position` is where they are brought. Who has had its turn in a round lacks what was brought along since, until the next.
    """

    by_task = False

    def __init__(self, place: object, crowds: dict[object, Crowd], envelope: Envelope, position: int) -> None:
        self.open = True
        self.envelope = envelope
        self.position = position
        self._place = place
        self._crowds = crowds
        self._members: dict[Viewer, None] = {}
        self._excused: set[Viewer] = set()
        self._data = b""
        self._audience: tuple[Viewer, ...] = ()
        self._reached = 0
        """How many of these have been written to."""
        self._began = 0.0
        self._brought = 0
        """When this round began, and the bytes that were brought along since."""
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Future[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        """The round for those who had their turn too early."""

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
        self._members[member] = None

    def excuse(self, member: Viewer) -> None:
        """Tell it nothing for now: it has something to do, and is expected back."""
        self._members.pop(member, None)
        self._excused.add(member)

    def part(self, member: Viewer) -> None:
        """Serve it no more. With the last one the crowd is over, not before: all may be busy with what they were told."""
        self._members.pop(member, None)
        self._excused.discard(member)
        if not self._members and not self._excused:
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
        before, self.position = self.position, position
        self._stretches = Stretches(self._leader, position)
        self._stretches[before], self._data = self._data, b""
        self._begin_round()

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

    def _begin_round(self) -> None:
        self._rest()
        self.open = False
        self._began, self._brought = self._loop.time(), 0
        self._audience, self._reached = tuple(self._members), 0
        self._write_some()

    def _write_some(self) -> None:
        members, stretches, reached = self._members, self._stretches, self._reached + AT_ONCE
        for member in self._audience[self._reached : reached]:
            if member in members and not self._tell(member, stretches):
                del members[member]
                member.go_alone()
        self._reached = reached
        if reached < len(self._audience):
            self._loop.call_soon(self._write_more)  # behind the tasks that were woken
        else:
            self._end_round()

    def _write_more(self) -> None:
        self._bring()
        self._write_some()

    def _bring(self) -> None:
        """What has come since is told to whom it is still time to tell it."""
        if size := self._leader.bring(BROUGHT - self._brought):
            self._brought += size
            self.position = self._leader.position
            self._stretches = Stretches(self._leader, self.position)

    def _end_round(self) -> None:
        self._audience = ()
        self.open = True
        if self._brought:
            wait = self._began + self._leader.patience - self._loop.time()
            self._again = self._loop.call_later(max(0.0, wait), self._level)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._leader.free()

    def _level(self) -> None:
        """Bring those along who had their turn too early."""
        self._brought = 0
        self._bring()
        self._begin_round()

    def _rest(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _tell(self, member: Viewer, stretches: Stretches) -> bool:
        try:
            return member.take(stretches)
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
        self._rest()
        left = tuple(self._members)
        self._members.clear()  # a round that is under way tells them nothing more: they read for themselves
        self._excused.clear()
        for member in left:
            member.go_alone()
