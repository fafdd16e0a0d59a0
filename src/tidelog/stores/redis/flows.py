"""What this process appends, for each node of a cluster on its own: one that is away holds up no other's logs."""

from __future__ import annotations

import asyncio
from collections import ChainMap
from collections.abc import Callable, Sequence

from tidelog.errors import StoreError, Unavailable
from tidelog.log import Lease, Record
from tidelog.stored import failed
from tidelog.stores.redis.flow import Flow
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.lane import Lane
from tidelog.stores.redis.link import Link


class Flows:
    """Stands for a `Flow`, and has one for each node: `make` makes it.

    A log stays where it was when it came here, wherever its slot goes. What is sent finds its own way; only while a node is away
    it shares the fate of what is sent with it.
    """

    def __init__(self, make: Callable[[], Flow], link: Link, keys: Keys) -> None:
        self._make = make
        self._link = link
        self._keys = keys
        self._flows: dict[str, Flow] = {}
        self._closed = False
        self.lanes = Lanes(self._of)

    @property
    def owed(self) -> set[str]:
        """See `Flow.owed`."""
        return {log for flow in self._flows.values() for log in flow.owed}

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        """See `Store.append`."""
        if self._closed:
            return failed(Unavailable("The store is closed."))
        return self._of(log).append(log, after, records, lease, head, ended)

    def forget(self, log: str, error: StoreError | None = None) -> None:
        """The log is dropped, or somebody else's."""
        self._of(log).forget(log, error)

    async def settled(self, lane: Lane) -> None:
        """Once all that was given of a log is stored. Raises what became of it instead."""
        await self._of(lane.name).settled(lane)

    def release(self, log: str, lane: Lane | None) -> None:
        """The writer of this log has given it up, and need not be told."""
        for flow in self._flows.values():
            flow.release(log, lane)

    def look(self, lane: Lane) -> None:
        """See `Flow.look`."""
        self._of(lane.name).look(lane)

    def knock(self) -> Sequence[str]:
        """Redis was away: see `Flow.knock`."""
        return [log for flow in self._flows.values() for log in flow.knock()]

    def lose(self) -> None:
        """All logs are somebody else's now."""
        for flow in self._flows.values():
            flow.lose()

    async def close(self) -> None:
        """Store what gathers, and take nothing more."""
        self._closed = True
        await asyncio.gather(*(flow.close() for flow in self._flows.values()))

    def _of(self, log: str) -> Flow:
        for flow in self._flows.values():
            if log in flow.lanes:
                return flow
        name = self._link.where(self._keys.of(log).meta)
        if name not in self._flows:
            self._flows[name] = self._make()
            self.lanes.maps.append(self._flows[name].lanes)
        return self._flows[name]


class Lanes(ChainMap[str, Lane]):
    """The logs of all flows. A new one goes to the flow that `of` gives."""

    def __init__(self, of: Callable[[str], Flow]) -> None:
        super().__init__()
        self._of = of

    def __setitem__(self, log: str, lane: Lane) -> None:
        self._of(log).lanes[log] = lane

    def clear(self) -> None:
        """Write none any more."""
        for lanes in self.maps:
            lanes.clear()
