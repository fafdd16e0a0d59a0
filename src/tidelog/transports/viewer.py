"""A viewer, alone or as one of a crowd; and the one who reads for a crowd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidelog.granularity import is_delta
from tidelog.log import Record
from tidelog.transports.crowd import Crowd, Stretches
from tidelog.transports.deliver import SLICE_BYTES, Delivery
from tidelog.transports.direct import DirectDelivery

FEWEST: Final = 16
"""Viewers who wait at a log, from which on the next make a crowd."""


class Viewer(DirectDelivery):
    """Serves one viewer. Implements `crowd.Member`; what `DirectDelivery` says holds. Where it would wait for records it does so
    as one of a crowd, if there is one: `crowd`, while it waits.
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
    """Reads for `crowd`: implements its `Reader`."""

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
        if not all(map(is_delta, records)):
            self.crowd.hurry()
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
