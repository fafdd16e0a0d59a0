"""`sqlite:///file.db`: logs in one file that several processes may open.

Appends of all logs are gathered and written as one segment of a journal: one row for each group commit, whatever the
number of logs. A log's records move to a chunk of their own every second, every 64 KB and at its end; segments that
nobody needs are deleted. This process keeps in memory, for each log that it writes, at least what is not chunked: who
reads there touches no thread.

    loop      store.py     what callers see: bells, reads, other processes' changes;  sweeper.py  drops and expiry
              journal.py   what gathers and when it is committed;  live.py  a log's window
    threads   writer.py    executes commit.py, jobs.py and removal.py;  readers run reading.py
    pure      blocks.py    the bytes;  schema.py  the tables and the address

What is stored survives the process (`kill -9`). A power cut may cost the commits since the last sync with
`synchronous=NORMAL`, the default, never their order; `synchronous=FULL` syncs each group commit.

What is dropped or expires is gone for readers at once; its bytes leave the file a few megabytes at a time, so that others
may write in between. If the process ends meanwhile, the next to open the file goes on. Of the names of expired logs the
last million stay known (`removal.EXPIRED_NAMES`): earlier ones are `not_found` again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

from tidelog.bell import Bell
from tidelog.errors import Conflict, Unavailable
from tidelog.log import Due, Lease, Record, Tail
from tidelog.pages import Pages
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.sqlite import blocks, jobs, reading
from tidelog.stores.sqlite.blocks import Block, encode_text, mark_of
from tidelog.stores.sqlite.journal import Journal
from tidelog.stores.sqlite.live import Live
from tidelog.stores.sqlite.schema import parse, prepare
from tidelog.stores.sqlite.sweeper import Sweeper
from tidelog.stores.sqlite.writer import Checkpointer, Readers, Writer

RESCAN: Final = 1.0
"""Seconds until the changes of other processes are read again after that failed."""

_log = logging.getLogger("tidelog.stores.sqlite")


class SqliteStore:
    """Implements `seams.Store`, `Listing`, `Expiring`, `Leasing` and `Parking`.

    `url`: `sqlite:///relative.db` or `sqlite:////absolute.db`; options `synchronous=NORMAL|FULL`, `beat=` (2) and
    `busy=` (5) in seconds. Raises `InvalidRequest` for anything else.
    """

    def __init__(self, url: str) -> None:
        self._place = parse(url)
        self._owner = ""
        self._open = False
        self._bells: WeakValueDictionary[int, Bell] = WeakValueDictionary()  # of logs that others write, by mark
        self._pages = Pages()
        self._beats: dict[int, tuple[int, float]] = {}  # other owners: beat, and since when it stands
        self._dead: dict[int, int] = {}  # those that stood still for long enough, and where
        self._scanning: asyncio.Task[None] | None = None
        self._scan_again = False
        self._rescan: asyncio.TimerHandle | None = None

    async def start(self, owner: str) -> None:
        self._owner = owner
        self._loop = loop = asyncio.get_running_loop()
        self._readers = Readers(self._place)
        self._journal = Journal(lambda commit: self._writer.put(commit))
        self._sweeper = Sweeper(run=self._run, read=self._read, empty=self._empty, gone=self._gone)
        self.append = self._journal.append  # type: ignore[method-assign]  # a call less for each event
        try:
            entered = await loop.run_in_executor(None, self._enter)
        except BaseException:
            self._readers.close()
            raise
        self._journal.row = entered
        try:
            self._journal.seen = (await self._readers.read(reading.changes, 0, 0)).seen
            left = await self._readers.read(reading.gone)
        except BaseException:
            await self._leave()
            raise
        self._open = True
        if left:
            self._sweeper.go_on(left)

    async def aclose(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            await self._journal.close(jobs.close)
        except Unavailable as error:
            _log.warning("the store could not be closed properly: %s", error)
        await self._sweeper.ended()
        if self._scanning is not None:
            await asyncio.wait([self._scanning])
        await self._leave()
        for log in tuple(self._journal.live):
            self._journal.forget(log)
        self._ring_all()

    async def open(
        self, log: str, head: bytes, *, records: Sequence[Record] = (), principal: str = "",
        key: str | None = None, fingerprint: bytes | None = None, entry: tuple[str, bytes] | None = None,
    ) -> str:  # fmt: skip
        encode_text(principal + (key or ""))
        first = Block(1, len(records), 1, blocks.encode(records))
        beside = _post(*entry, once=True) if entry is not None else None
        birth = jobs.Birth(log, mark_of(log), head, first, principal, key, fingerprint, beside)
        return str((await self._run(partial(jobs.open_log, birth), partial(self._born, birth, tuple(records))))[0])

    def append(
        self, log: str, after: int, records: Sequence[Record],
        lease: Lease, head: bytes | None = None, ended: bool = False,
    ) -> asyncio.Future[None]:  # fmt: skip
        return self._journal.append(log, after, records, lease, head, ended)

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        post = _post(log, data, once=once)
        return int(await self._run(partial(jobs.post, post), lambda _: self._ring(post.mark)))

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        live = self._journal.live.get(log)
        if live is not None and after >= live.base:
            return live.page(after, limit)
        mark = mark_of(log)
        bell = self._bells.get(mark)
        return await self._pages.read(bell, after, limit, partial(self._page, log, mark, live is not None))

    async def _page(self, log: str, mark: int, ours: bool, after: int, limit: int) -> Page:
        found = await self._read(reading.read, log, mark, after, limit, ours)
        return blocks.page(found.blocks, after, limit, complete=found.complete, ended=found.ended)

    def window(self, log: str) -> Window | None:
        return self._journal.live.get(log)

    async def tail(self, log: str) -> Tail | None:
        live = self._journal.live.get(log)
        if live is not None:
            return live.tail()
        found: Tail | None = await self._read(reading.tail, log, mark_of(log))
        return found

    async def drop(self, log: str) -> None:
        self._journal.forget(log)
        await self._sweeper.drop(log)

    def changed(self, log: str) -> Bell:
        live = self._journal.live.get(log)
        if live is not None and live.bell is not None:
            return live.bell
        bell = self._bells.setdefault(mark_of(log), Bell())
        if live is not None:
            live.bell = bell
        self._watch()
        return bell

    async def list(self, prefix: str, principal: str | None, limit: int) -> Sequence[tuple[str, Tail]]:
        encode_text(prefix + (principal or ""))
        found = await self._read(reading.listed, prefix, principal, limit, self._journal.row)
        live = self._journal.live
        return [(name, live[name].tail() if name in live else tail) for name, tail in found]

    async def expire(self, before: float) -> Sequence[str]:
        return await self._sweeper.expire(before)

    async def orphans(self, patience: float) -> Sequence[str]:
        seen = await self._read(reading.owners)
        now = self._loop.time()
        before, self._beats, self._dead = self._beats, {}, {}
        names: list[str] = []
        for row, beat, dead in seen:
            if row == self._journal.row:
                continue
            since = before[row][1] if row in before and before[row][0] == beat else now
            self._beats[row] = beat, since
            if dead or now - since >= patience:
                self._dead[row] = beat
                names += await self._left_by(row, beat, dead)
        return names

    async def age(self, owner: str) -> float | None:
        if owner == self._owner:
            return 0.0
        found = await self._read(reading.owner, owner)
        if found is None:
            return None
        beat, since = self._beats.get(found[0], (None, 0.0))
        return self._loop.time() - since if beat == found[1] else 0.0

    async def take(
        self, log: str, after: int, records: Sequence[Record], *,
        head: bytes | None = None, ended: bool = True, due: float | None = None, orphan: bool = False,
    ) -> Lease:  # fmt: skip
        claim = jobs.Claim(
            log, mark_of(log), after, len(records), blocks.encode(records), head, ended, dict(self._dead), due, orphan
        )
        taken = await self._run(partial(jobs.take, claim), partial(self._taken, claim, tuple(records)))
        return Lease(self._owner if due is None else "", taken.epoch)

    async def park(self, log: str, after: int, *, lease: Lease, due: float) -> None:
        live = self._journal.live.get(log)
        if live is None or live.lease != lease or live.last != after or live.closed:
            raise Conflict(f"{log} is not ours to park at {after}")
        mark = mark_of(log)
        await self._run(partial(jobs.park, log, mark, after, lease.epoch, due), lambda _: self._given_up(live))

    async def parked(self, due: float) -> Sequence[Due]:
        found: Sequence[Due] = await self._read(reading.parked, due)
        return found

    async def defer(self, log: str, seen: float, due: float) -> None:
        await self._run(partial(jobs.defer, log, mark_of(log), seen, due))

    # On the loop, called back.

    def _born(self, birth: jobs.Birth, records: Sequence[Record], made: tuple[str, int | None]) -> None:
        if made[1] is not None:
            lease = Lease(self._owner)
            live = Live(birth.name, birth.mark, made[1], lease=lease, head=birth.head, base=0, records=records)
            self._adopt(live)
            if birth.entry is not None:
                self._ring(birth.entry.mark)

    def _taken(self, claim: jobs.Claim, records: Sequence[Record], taken: jobs.Taken) -> None:
        if claim.ended or claim.due is not None:
            self._ring(claim.mark)
            return
        lease = Lease(self._owner, taken.epoch)
        live = Live(claim.name, claim.mark, taken.id, lease=lease, head=taken.head, base=claim.after, records=records)
        self._adopt(live)

    def _given_up(self, live: Live) -> None:
        if self._journal.live.get(live.name) is live:
            self._journal.forget(live.name)
        self._ring(live.mark)

    def _adopt(self, live: Live) -> None:
        live.bell = self._bells.get(live.mark)
        self._journal.adopt(live)
        self._watch()
        self._ring(live.mark)

    def _gone(self, names: Sequence[str]) -> None:
        for name in names:
            self._journal.forget(name)
            self._ring(mark_of(name))

    def _ring(self, mark: int) -> None:
        bell = self._bells.get(mark)
        if bell is not None:
            bell.ring()

    def _ring_all(self) -> None:
        for mark in tuple(self._bells):
            self._ring(mark)

    # Other processes.

    def _watched(self) -> bool:
        """Called by the writer thread."""
        return bool(self._bells) or bool(self._journal.live)

    def _watch(self) -> None:
        if self._writer.dozing:
            self._writer.wake()

    def _foreign(self) -> None:
        """Somebody else committed."""
        self._scan_again = True
        if self._scanning is None and self._open:
            self._scanning = self._loop.create_task(self._scan())

    async def _scan(self) -> None:
        try:
            while self._scan_again and self._open:
                self._scan_again = False
                changes = await self._readers.read(reading.changes, self._journal.seen, self._journal.row)
                await self._check_lost(changes.marks)
                self._ring_for(changes.marks)
                self._journal.seen = max(self._journal.seen, changes.seen)
        except Unavailable as error:
            _log.warning("changes of other processes could not be read: %s", error)
            if self._rescan is not None:
                self._rescan.cancel()
            self._rescan = self._loop.call_later(RESCAN, self._foreign)
        finally:
            self._scanning = None

    async def _check_lost(self, marks: set[int] | None) -> None:
        """Somebody else touched logs of ours: forget those that are dropped; if one was taken, all are lost."""
        touched = [live for live in self._journal.live.values() if marks is None or live.mark in marks]
        if not touched:
            return
        row = self._journal.row
        ours = await self._readers.read(reading.leased, row)
        if ours is None:
            if row == self._journal.row:  # else a job has found it out and taken a new lease
                self._journal.lose()
            return
        for live in touched:
            if live.id not in ours and self._journal.live.get(live.name) is live:
                self._journal.forget(live.name)

    def _ring_for(self, marks: set[int] | None) -> None:
        if marks is None:
            self._ring_all()
        else:
            for mark in marks:
                self._ring(mark)

    async def _left_by(self, row: int, beat: int, dead: bool) -> Sequence[str]:
        names: Sequence[str] = await self._read(reading.held, row)
        if not names and not dead:
            await self._run(partial(jobs.bury, row, beat))
        return names

    # Plumbing.

    async def _run(self, work: Callable[[Any], Any], then: Callable[[Any], None] | None = None) -> Any:
        if not self._open:
            raise Unavailable("The store is closed.")
        return await self._journal.run(work, then)

    async def _read(self, what: Callable[..., Any], *args: Any) -> Any:
        if not self._open:
            raise Unavailable("The store is closed.")
        return await self._readers.read(what, *args)

    async def _empty(self) -> bool:
        emptied: bool = await asyncio.wrap_future(self._checkpointer.truncate())
        return emptied

    def _enter(self) -> int:
        """Open the file and take a lease; in a thread."""
        prepare(self._place)
        self._checkpointer = Checkpointer(self._place)
        try:
            self._writer = Writer(
                self._place,
                self._owner,
                notify=self._loop.call_soon_threadsafe,
                settled=self._journal.settled,
                foreign=self._foreign,
                fenced=self._journal.lose,
                watched=self._watched,
                long=self._checkpointer.passive,
            )
            return self._writer.start(jobs.enter)
        except BaseException:
            self._checkpointer.close()
            raise

    async def _leave(self) -> None:
        """End the threads and close the file."""
        closed = self._loop.create_future()
        self._writer.stop(partial(self._close_file, closed))
        await closed

    def _close_file(self, closed: asyncio.Future[None]) -> None:
        """In the writer thread, at its end."""
        try:
            self._checkpointer.close()
            self._readers.close()
        finally:
            self._loop.call_soon_threadsafe(closed.set_result, None)


def _post(log: str, data: bytes, *, once: bool) -> jobs.Post:
    return jobs.Post(log, mark_of(log), blocks.encode((Record(0, time.time(), data),)), data if once else None)
