"""What gathers of many logs that this process writes, and then is on its way together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidelog.errors import StoreError
from tidelog.log import Lease
from tidelog.stored import Stored
from tidelog.stores.redis.lane import Lane


class Group:
    """`future` is done when Redis has answered for all of its logs.

    One future for all of them spares each a future of its own. It cannot tell of one log alone, so it is given only to those
    whose lease is told what became of theirs; it fails if the whole group does.
    """

    __slots__ = ("_also", "_own", "begun", "ended", "following", "future", "heads", "lanes", "packed")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = Stored(loop=loop)
        self.begun = False
        """Whether anything was ever in it: somebody may wait for it, even if all of that was forgotten."""
        self.lanes: list[Lane] = []
        self.heads: dict[Lane, bytes] = {}
        self.ended: dict[Lane, None] = {}
        self.packed: Sequence[bytes] = ()
        """The commands, once it is under way: what is sent again is the same to the byte."""
        self.following: Group | None = None
        """What came meanwhile of its logs: a log is in one group at a time that is under way."""
        self._own: dict[Lane, asyncio.Future[None]] = {}
        self._also: list[asyncio.Future[None]] = []
        """Those of groups that this one has absorbed."""

    def add(self, lane: Lane) -> None:
        """This log, too."""
        lane.group, self.begun = self, True
        self.lanes.append(lane)

    def absorb(self, other: Group) -> None:
        """What another one has gathered goes with this one."""
        self.begun = True
        for lane in other.lanes:
            self.add(lane)
        self.heads |= other.heads
        self.ended |= other.ended
        self._own |= other._own
        self._also += (other.future, *other._also)

    def ack(self, lane: Lane, lease: Lease) -> asyncio.Future[None]:
        """What whoever appends under this lease waits for."""
        if lease.lost is not None:
            return self.future
        own = self._own.get(lane)
        if own is None:
            own = self._own[lane] = Stored(loop=self.future.get_loop())
        return own

    def forget(self, lane: Lane, error: StoreError) -> None:
        """Its answer counts no more. It is not sent if that has not happened."""
        own = self._own.pop(lane, None)
        if own is not None:
            _fail(own, error)
        if lane.group is self:
            lane.group = None
            self.lanes.remove(lane)
            self.heads.pop(lane, None)
            self.ended.pop(lane, None)

    def settle(self, error: StoreError | None = None) -> None:
        """Tell all who wait, and whom nobody has told."""
        for future in (*self._own.values(), self.future, *self._also):
            if error is None:
                future.set_result(None)
            else:
                _fail(future, error)


def _fail(future: asyncio.Future[None], error: StoreError) -> None:
    future.set_exception(error)
    future.exception()  # not everybody waits for an append: who wrote is told by the lease
