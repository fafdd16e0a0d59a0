"""Viewers of one log who stand at the same place are served as one: by one delivery, whose socket is all of theirs.

What many watch costs each of them a write to the socket and hardly anything more: one reader hears the bell, holds back and makes
the bytes, and nobody's task is woken. Who cannot take a write, or must say something else, goes on alone, from where it stands.

All are written to in rounds. One through thousands takes longer than text is held back, so each is told what there is when its
turn has come, not what there was when the round began: no event waits for more than one round.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Any, Final, Protocol

from tidelog.errors import Gone
from tidelog.frame import Envelope
from tidelog.transports.deliver import SLICE_BYTES

AT_ONCE: Final = 256
"""Members that are written to in one turn of the loop: others have theirs meanwhile."""
BROUGHT: Final = SLICE_BYTES // 2
"""Bytes of records that are brought along in one round at most: members are never further apart."""

log = logging.getLogger("tidelog")


class Member(Protocol):
    """A viewer, as its crowd sees it."""

    def take(self, stretches: Stretches, /) -> bool:
        """Write what leads from here to where the others are brought; False for one that cannot take it."""
        ...

    def go_alone(self) -> None:
        """It is one of the crowd no more: there may be nothing to read, and yet it has to hear the bell again."""
        ...


class Reader(Protocol):
    """Who reads for a crowd."""

    @property
    def position(self) -> int:
        """Up to where it has read."""
        ...

    @property
    def patience(self) -> float:
        """Seconds from a write to the next at most, if there is text all the time."""
        ...

    @property
    def quiet(self) -> float:
        """Seconds since the crowd was last told anything."""
        ...

    async def run(self) -> Any:
        """Until the log has ended. Raises `Gone` if it is dropped."""
        ...

    def leave(self) -> None:
        """Read no more."""
        ...

    def stretch(self, before: int, upto: int, /) -> bytes | None:
        """What leads from one place to the other; None if that is not at hand any more."""
        ...

    def bring(self, most: int, /) -> int:
        """Go on to the end of the log, if that is so many bytes away at most; how many it was. The crowd will tell it."""
        ...

    def free(self) -> None:
        """All have been written to. What could not be brought along is told now."""
        ...


class Stretches(dict[int, bytes | None]):
    """What leads to `upto`, by where one stands: made when the first who stands there is told."""

    def __init__(self, leader: Reader, upto: int) -> None:
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
        self._members: dict[Member, None] = {}
        self._excused: set[Member] = set()
        self._data = b""
        self._audience: tuple[Member, ...] = ()
        self._reached = 0
        """How many of these have been written to."""
        self._began = 0.0
        self._brought = 0
        """When this round began, and the bytes that were brought along since."""
        self._hurried = False
        """Whether something else than text was among them."""
        self._loop = asyncio.get_running_loop()
        self._room: asyncio.Future[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        """The round for those who had their turn too early."""

    def begin(self, leader: Reader) -> None:
        """Serve those who join, by this one."""
        self._leader = leader
        self._task = self._loop.create_task(self._lead(), context=Context())
        self._task.add_done_callback(self._dissolve)  # also where it is cancelled before it has begun

    @property
    def quiet(self) -> float:
        """Seconds since it was last told anything."""
        return self._leader.quiet

    def join(self, member: Member) -> None:
        """Serve this one too, until it is excused or parts."""
        self._excused.discard(member)
        self._members[member] = None

    def excuse(self, member: Member) -> None:
        """Tell it nothing for now: it has something to do, and is expected back."""
        self._members.pop(member, None)
        self._excused.add(member)

    def part(self, member: Member) -> None:
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

    def hurry(self) -> None:
        """Who has had its turn in this round waits for nothing: what was brought along is more than text."""
        self._hurried = True

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
        self._began, self._brought, self._hurried = self._loop.time(), 0, False
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
        self._stretches.clear()
        self.open = True
        if self._brought:
            wait = 0.0 if self._hurried else self._began + self._leader.patience - self._loop.time()
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

    def _tell(self, member: Member, stretches: Stretches) -> bool:
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
