"""What the tests of the core share: stores that are late or fail, runs on them, and what a legal log is."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import StoreError, Unavailable
from tidelog.grammar import Grammar
from tidelog.head import Head
from tidelog.keeper import Keeper
from tidelog.limits import Limits
from tidelog.log import Lease, Record, run_log
from tidelog.replay import begun
from tidelog.run import Run
from tidelog.runner import Launch, Runner
from tidelog.seams import BATCH_BYTES, Page, Store
from tidelog.sources.iterators import Iterators
from tidelog.sources.values import Values
from tidelog.stores.memory import MemoryStore
from tidelog.turn import Turn

PATIENCE = 30.0
"""Seconds that a test waits for what must happen."""


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds; fail after PATIENCE."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    """Let the loop turn so often that everything which is ready has happened."""
    for _ in range(count):
        await asyncio.sleep(0)


class LateStore(MemoryStore):
    """Appends are stored some turns of the loop later, or, while `held`, when `release` says so."""

    def __init__(self, *, held: bool = False) -> None:
        super().__init__()
        self.held = held
        self.flying: deque[tuple[asyncio.Future[None], Lease, Callable[[], asyncio.Future[None]]]] = deque()

    def append(
        self,
        log: str,
        after: int,
        records: Sequence[Record],
        lease: Lease,
        head: bytes | None = None,
        ended: bool = False,
    ) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        kept = list(records)
        self.flying.append((future, lease, lambda: super(LateStore, self).append(log, after, kept, lease, head, ended)))
        if not self.held:
            loop.call_soon(loop.call_soon, self.store_one)
        return future

    def store_one(self) -> None:
        """Store the oldest append that flies."""
        if self.flying:
            future, lease, store = self.flying.popleft()
            ack = store()
            if (error := ack.exception()) is not None:
                _fail(future, lease, error)
            elif not future.done():
                future.set_result(None)

    def release(self) -> None:
        """Hold no longer."""
        self.held = False
        while self.flying:
            self.store_one()


class FaultyStore(MemoryStore):
    """The append of number `at` (from 0) fails with `error`; while `down`, as after an `Unavailable` that lasts, all do."""

    def __init__(
        self, at: int, error: type[StoreError] = Unavailable, *, late: bool = False, lasts: bool = True
    ) -> None:
        super().__init__()
        self.at = at
        self.lasts = lasts
        self.error = error
        self.late = late
        self.appends = 0
        self.down = False

    def append(
        self,
        log: str,
        after: int,
        records: Sequence[Record],
        lease: Lease,
        head: bytes | None = None,
        ended: bool = False,
    ) -> asyncio.Future[None]:
        number, self.appends = self.appends, self.appends + 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if number == self.at and self.error is Unavailable and self.lasts:
            self.down = True
        if number != self.at and not self.down:
            ack = super().append(log, after, records, lease=lease, head=head, ended=ended)
            _finish(future, lease, ack.exception(), late=self.late)
        else:
            _finish(future, lease, self.error(), late=self.late)
        return future

    async def tail(self, log: str) -> Any:
        if self.down:
            raise Unavailable
        return await super().tail(log)

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        if self.down:
            raise Unavailable
        return await super().read(log, after, limit)


def _fail(future: asyncio.Future[None], lease: Lease, error: BaseException) -> None:
    future.set_exception(error)
    future.exception()  # the lease tells
    assert isinstance(error, StoreError)
    lease.tell(error)


def _finish(future: asyncio.Future[None], lease: Lease, error: BaseException | None, *, late: bool) -> None:
    def now() -> None:
        if error is not None:
            _fail(future, lease, error)
        else:
            future.set_result(None)

    if late:
        asyncio.get_running_loop().call_soon(now)
    else:
        now()


@asynccontextmanager
async def running(store: Store | None = None, keeper: Keeper | None = None, **more: Any) -> AsyncIterator[Runner]:
    """A runner on a store, closed afterwards."""
    runner = Runner(store if store is not None else MemoryStore(), keeper=keeper, **more)
    await runner.start()
    try:
        yield runner
    finally:
        await asyncio.wait_for(runner.aclose(), PATIENCE)


async def launch(runner: Runner, work: Any, *, limits: Limits = Limits(), **more: Any) -> Run:
    """Start a run over this work."""
    launched = await runner.launch(Launch(Iterators().opener(work), limits=limits, **more))
    assert launched.run is not None
    return launched.run


async def bare_run(store: Store, limits: Limits = Limits(), turn: Turn | None = None, **more: Any) -> Run:
    """A run that nobody has set to work."""
    await store.start("me")
    first = e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1)
    head = Head(run="r", thread="t", message="m", created=0.0, **more)
    await store.open(run_log("r"), heads.encode(head), records=(Record(1, 0.0, e.encode(first)),))
    return Run(store, head, Lease("me"), values=Values(), limits=limits, written=begun(first), turn=turn)


async def outcome(run: Run) -> e.Outcome:
    """How the run ended, once its ending is stored."""
    found = await asyncio.wait_for(run.wait(), PATIENCE)
    assert found is not None, "parked"
    return found


async def records_of(store: Store, run: str) -> list[Record]:
    """All records of the run."""
    found: list[Record] = []
    while True:
        page = await store.read(run_log(run), len(found))
        found += page.records
        if not page.more:
            return found


async def legal(store: Store, run: str) -> list[e.AnyEvent]:
    """The events of a run that has ended, its log proven to be legal and its head to tell the same."""
    records = await records_of(store, run)
    events = legal_events(records)
    last = events[-1]
    tail = await store.tail(run_log(run))
    assert isinstance(last, e.RunEnded)
    assert tail is not None
    assert tail.ended
    assert tail.last == len(records)
    head = heads.decode(tail.head)
    assert (head.outcome, head.error, head.usage, head.can) == (last.outcome, last.error, last.usage, last.can)
    return events


def legal_events(records: Sequence[Record]) -> list[e.AnyEvent]:
    """The events of a whole log, proven to be legal."""
    assert [record.seq for record in records] == list(range(1, len(records) + 1))
    grammar, found = Grammar(), list[e.AnyEvent]()
    for record in records:
        event = e.decode(record.data)
        assert event is not None
        grammar.accept(event)
        found.append(event)
    assert grammar.ended
    return found


def text_of(events: Sequence[e.Event]) -> str:
    """The text of all text parts."""
    return "".join(event.text for event in events if isinstance(event, e.TextDelta | e.TextSnapshot))


def log_of(*events: e.Event, run: str = "r") -> list[Record]:
    """A log of these events between `run.started` and nothing."""
    first = e.RunStarted(v=1, run=run, thread="t", message="m", attempt=1)
    return [Record(n, 1000.0, e.encode(event)) for n, event in enumerate((first, *events), 1)]


ENDED = e.RunEnded(outcome="completed", usage=e.TokenUsage(), can=("retry",))
