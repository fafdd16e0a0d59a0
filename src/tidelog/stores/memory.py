"""`memory:`: logs in this process, gone with it. For tests, and for work that nobody will miss."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import islice
from weakref import WeakValueDictionary

from tidelog.bell import Bell
from tidelog.errors import Conflict, Gone, Mismatch
from tidelog.log import Due, Lease, Record, Tail
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stored import failed
from tidelog.window import LogWindow


class _Log(LogWindow):
    """One log. `key` is its idempotency key."""

    __slots__ = (
        "bell", "call", "due", "ended_at", "fingerprint", "head", "key", "lease", "principal",
    )  # fmt: skip

    def __init__(self, lease: Lease, head: bytes, principal: str, key: str | None, fingerprint: bytes | None) -> None:
        super().__init__(0)
        self.lease = lease
        self.head = head
        self.principal = principal
        self.key = key
        self.fingerprint = fingerprint
        self.ended_at = 0.0
        self.bell: Bell | None = None
        self.call = -1  # `after` of the last append
        self.due: float | None = None
        """Set for a log that is parked."""

    def add(self, records: Sequence[Record]) -> None:
        self.records.extend(records)
        self.stored += len(records)

    @property
    def was_opened(self) -> bool:
        """Whether it was made by `open`: somebody owns it, or it is parked."""
        return bool(self.lease.owner) or self.due is not None

    def ring(self) -> None:
        if self.bell is not None:
            self.bell.ring()


class MemoryStore:
    """Implements `seams.Store` and `seams.Listing`, `seams.Expiring`, `seams.Parking`."""

    def __init__(self, url: str = "memory:") -> None:
        self._logs: dict[str, _Log] = {}
        self._keys: dict[str, str] = {}
        self._expired: set[str] = set()
        self._bells: WeakValueDictionary[str, Bell] = WeakValueDictionary()  # of logs that are not there (yet)
        self._owner = ""

    async def start(self, owner: str) -> None:
        self._owner = owner
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    async def aclose(self) -> None:
        for log in self._logs.values():
            log.ring()
        for bell in tuple(self._bells.values()):
            bell.ring()

    async def open(
        self, log: str, head: bytes, *, records: Sequence[Record] = (), principal: str = "",
        key: str | None = None, fingerprint: bytes | None = None, entry: tuple[str, bytes] | None = None,
    ) -> str:  # fmt: skip
        if key is not None and (winner := self._keys.get(key)) is not None:
            if self._logs[winner].fingerprint != fingerprint:
                raise Mismatch
            return winner
        if log in self._logs or log in self._expired:
            raise Conflict(f"{log} exists")
        if entry is not None:
            await self.post(*entry)
        made = _Log(Lease(self._owner), head, principal, key, fingerprint)
        made.add(records)
        self._logs[log] = made
        if key is not None:
            self._keys[key] = log
        self._appear(log)
        return log

    def append(
        self,
        log: str,
        after: int,
        records: Sequence[Record],
        lease: Lease,
        head: bytes | None = None,
        ended: bool = False,
    ) -> asyncio.Future[None]:
        found = self._logs.get(log)
        if found is None or lease is not found.lease:
            if found is None or lease != found.lease:
                return failed(Conflict(f"{log} is not ours"))
            found.lease = lease  # the same next time: to compare it costs more than to append
        if found.stored != after or found.ended:
            return self._decline(log, found, after, records, ended)
        found.call = after
        found.records += records
        found.stored = after + len(records)
        if head is not None:
            found.head = head
        if ended:
            found.ended = True
            found.ended_at = time.time()
        if found.bell is not None:
            found.bell.ring()
        return self._done

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        found = self._logs.get(log)
        if found is None:
            found = self._logs[log] = _Log(Lease(""), b"", "", None, None)
            self._appear(log)
        if found.lease.owner or found.due is not None:
            raise Conflict(f"{log} has an owner")
        if once and (before := next((one.seq for one in found.records if one.data == data), 0)):
            return before
        found.add((Record(found.stored + 1, time.time(), data),))
        found.ring()
        return len(found.records)

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        found = self._logs.get(log)
        if found is None:
            raise Gone(code="expired" if log in self._expired else "not_found")
        return found.page(after, limit)

    def window(self, log: str) -> Window | None:
        return self._logs.get(log)

    async def tail(self, log: str) -> Tail | None:
        found = self._logs.get(log)
        if found is None:
            if log in self._expired:
                raise Gone(code="expired")
            return None
        return Tail(1, len(found.records), found.ended, found.lease.epoch, found.head, found.lease.owner)

    async def drop(self, log: str) -> None:
        found = self._logs.pop(log, None)
        self._expired.discard(log)
        if found is None:
            return
        if found.key is not None:
            self._keys.pop(found.key, None)
        found.ring()

    def changed(self, log: str) -> Bell:
        found = self._logs.get(log)
        if found is not None:
            if found.bell is None:
                found.bell = Bell()
            return found.bell
        return self._bells.setdefault(log, Bell())

    async def list(self, prefix: str, principal: str | None, limit: int) -> Sequence[tuple[str, Tail]]:
        mine = (
            (name, Tail(1, len(log.records), log.ended, log.lease.epoch, log.head, log.lease.owner))
            for name, log in reversed(self._logs.items())
            if name.startswith(prefix) and log.was_opened and (principal is None or log.principal == principal)
        )
        return list(islice(mine, limit))

    async def expire(self, before: float) -> Sequence[str]:
        old = [name for name, log in self._logs.items() if log.ended and log.ended_at < before]
        for name in old:
            await self.drop(name)
            self._expired.add(name)
        return old

    async def park(self, log: str, after: int, *, lease: Lease, due: float) -> None:
        found = self._logs.get(log)
        if found is None or found.lease != lease or found.stored != after or found.ended:
            raise Conflict(f"{log} is not ours to park at {after}")
        found.lease, found.due = Lease("", found.lease.epoch), due
        found.ring()

    async def parked(self, due: float) -> Sequence[Due]:
        found = [Due(name, log.due) for name, log in self._logs.items() if log.due is not None and log.due <= due]
        return sorted(found, key=lambda one: one.at)

    async def defer(self, log: str, seen: float, due: float) -> None:
        found = self._logs.get(log)
        if found is None or found.due != seen:
            raise Conflict(f"{log} is not due at {seen}")
        found.due = due

    async def take(
        self, log: str, after: int, records: Sequence[Record], *,
        head: bytes | None = None, ended: bool = True, due: float | None = None, orphan: bool = False,
    ) -> Lease:  # fmt: skip
        found = self._logs.get(log)
        if found is None or found.due is None or found.stored != after or orphan:
            raise Conflict(f"{log} is nobody's to take at {after}")
        lease = Lease(self._owner if due is None else "", found.lease.epoch + 1)
        found.lease, found.due, found.call = lease, due, after
        found.add(records)
        if head is not None:
            found.head = head
        if ended:
            found.ended, found.ended_at = True, time.time()
        found.ring()
        return lease

    def _decline(
        self, log: str, found: _Log, after: int, records: Sequence[Record], ended: bool
    ) -> asyncio.Future[None]:
        """The last append once more is no error; everything else that does not fit is."""
        same = after == found.call and found.records[after:] == list(records)
        if same and (records or (ended and found.ended)):
            return self._done
        stands = f"stands at {found.stored}, not at {after}" if found.stored != after else "has ended"
        return failed(Conflict(f"{log} {stands}"))

    def _appear(self, log: str) -> None:
        self._logs[log].bell = self._bells.pop(log, None)
        self._logs[log].ring()
