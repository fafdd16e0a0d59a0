"""A cursor loses nothing, whoever rings, wakes or cancels, and keeps nothing."""

from __future__ import annotations

import asyncio

import pytest
from tests.parts import PATIENCE, log_of, turns, until

from tidelog import events as e
from tidelog.cursor import Cursor, check_position
from tidelog.errors import CursorAhead, Gone, NotFound, Unavailable
from tidelog.log import Lease, Position, Record
from tidelog.seams import BATCH_BYTES, Page
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

LOG = "run/r"


class Reading(MemoryStore):
    """A store without windows; its reads wait for `gate`, and fail while `fails`."""

    window = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = None
        self.reads = 0
        self.fails = False

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        self.reads += 1
        try:
            page = await super().read(log, after, limit)
        except Gone:
            page = None
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise Unavailable
        if page is None:
            raise Gone
        return page


@pytest.fixture(params=[MemoryStore, Reading])
async def store(request: pytest.FixtureRequest) -> MemoryStore:
    made: MemoryStore = request.param()
    await made.start("me")
    await made.open(LOG, b"", records=log_of())
    return made


async def add(store: MemoryStore, after: int, *, ended: bool = False, epoch: int = 1) -> None:
    record = Record(after + 1, 0.0, e.encode(e.TextDelta(text=str(after))), epoch)
    await store.append(LOG, after, [record], lease=Lease("me"), ended=ended)


async def numbers(cursor: Cursor, timeout: float | None = PATIENCE) -> list[int]:
    return [record.seq for record in await cursor.next(timeout)]


async def test_it_reads_to_the_end_and_then_nothing_for_ever(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG)
    assert await numbers(cursor) == [1]
    assert await numbers(cursor, 0) == []
    waiting = asyncio.create_task(numbers(cursor))
    await turns()
    await add(store, 1)
    assert await waiting == [2]
    await add(store, 2, ended=True)
    assert await numbers(cursor) == [3]
    assert cursor.ended
    assert await numbers(cursor, None) == []


async def test_a_small_batch_is_one_record_at_least(store: MemoryStore) -> None:
    for after in range(1, 20):
        await add(store, after)
    cursor, found = Cursor(store, LOG, 3, batch=150), list[int]()
    while cursor.position < 20:
        batch = await numbers(cursor)
        assert 1 <= len(batch) <= 3
        found += batch
    assert found == list(range(4, 21))


async def test_an_end_without_a_record_ends_a_wait(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG, 1)
    waiting = asyncio.create_task(numbers(cursor, None))
    await turns()
    await store.append(LOG, 1, [], lease=Lease("me"), ended=True)
    assert await asyncio.wait_for(waiting, PATIENCE) == []
    assert cursor.ended


async def test_a_dropped_log_is_gone_for_who_waits(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG, 1)
    waiting = asyncio.create_task(numbers(cursor, None))
    await turns()
    await store.drop(LOG)
    with pytest.raises(Gone):
        await asyncio.wait_for(waiting, PATIENCE)


async def test_a_ring_while_it_reads_is_not_lost() -> None:
    store = Reading()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    cursor, store.gate = Cursor(store, LOG, 1), asyncio.Event()
    waiting = asyncio.create_task(numbers(cursor, None))
    await until(lambda: store.reads)
    await add(store, 1)  # after the page was made, before it is returned
    store.gate.set()
    assert await asyncio.wait_for(waiting, PATIENCE) == [2]


async def test_a_wake_while_it_reads_is_not_lost() -> None:
    store = Reading()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    cursor, store.gate = Cursor(store, LOG, 1), asyncio.Event()
    waiting = asyncio.create_task(numbers(cursor, None))
    await until(lambda: store.reads)
    cursor.wake()
    store.gate.set()
    assert await asyncio.wait_for(waiting, PATIENCE) == []


async def test_what_was_read_before_it_was_moved_is_not_handed_out() -> None:
    """Somebody has written to its viewer meanwhile: a crowd."""
    store = Reading()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    for after in (1, 2):
        await add(store, after)
    cursor, store.gate = Cursor(store, LOG, 1), asyncio.Event()
    waiting = asyncio.create_task(numbers(cursor, None))
    await until(lambda: store.reads)
    cursor.position = 2
    store.gate.set()
    assert await asyncio.wait_for(waiting, PATIENCE) == [3]


@pytest.mark.parametrize("how", ["cancel", "error"])
async def test_a_read_that_came_to_nothing_is_done_again(how: str) -> None:
    store = Reading()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    cursor, store.gate = Cursor(store, LOG), asyncio.Event()
    waiting = asyncio.create_task(numbers(cursor, None))
    await until(lambda: store.reads)
    store.fails = how == "error"
    if how == "cancel":
        waiting.cancel()
    store.gate.set()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await waiting
    store.fails = False
    assert await asyncio.wait_for(numbers(cursor, None), PATIENCE) == [1]


async def test_wake_ends_a_wait_and_loses_nothing(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG, 1)
    waiting = asyncio.create_task(numbers(cursor, None))
    await turns()
    cursor.wake()
    assert await asyncio.wait_for(waiting, PATIENCE) == []
    await add(store, 1)
    assert await numbers(cursor) == [2]


async def test_a_lost_ring_costs_one_time_out(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG, 1)
    waiting = asyncio.create_task(numbers(cursor, 0.02))
    await turns()
    bell = store.changed(LOG)
    bell.discard(cursor.rung)
    await add(store, 1)
    assert await waiting == []
    assert await asyncio.wait_for(numbers(cursor, None), PATIENCE) == [2]


async def test_a_cancelled_wait_loses_nothing(store: MemoryStore) -> None:
    cursor = Cursor(store, LOG, 1)
    for _ in range(3):
        waiting = asyncio.create_task(numbers(cursor, None))
        await turns()
        waiting.cancel()
        await turns()
        assert waiting.cancelled()
    await add(store, 1)
    assert await numbers(cursor) == [2]


async def test_a_closed_cursor_waits_at_no_bell(store: MemoryStore) -> None:
    bell = store.changed(LOG)
    cursors = [Cursor(store, LOG, 1) for _ in range(10)]
    await asyncio.gather(*(numbers(cursor, 0.001) for cursor in cursors))
    assert len(bell._waiting) == 10
    for cursor in cursors:
        cursor.close()
    assert not bell._waiting


async def test_who_is_rung_instead_may_go_on_in_the_window() -> None:
    store, rings = MemoryStore(), list[int]()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    cursor = Cursor(store, LOG, 1)

    def rung() -> None:
        assert cursor.window is not None
        rings.append(cursor.window.stored)
        if len(rings) == 1:
            cursor.position = cursor.window.stored
        else:
            cursor.ring()

    cursor.rung = rung
    waiting = asyncio.create_task(numbers(cursor, None))
    await turns()
    await add(store, 1)
    await turns()
    assert rings == [2] and not waiting.done()
    await add(store, 2, ended=True)
    assert await asyncio.wait_for(waiting, PATIENCE) == [3]
    cursor.close()
    await store.drop(LOG)
    assert rings == [2, 3], "it has left the bell"


async def test_many_cursors_at_random_speeds_see_the_same(store: MemoryStore) -> None:
    async def follow(n: int) -> list[int]:
        cursor, found = Cursor(store, LOG, batch=(n + 1) * 200), list[int]()
        while not cursor.ended:
            found += await numbers(cursor, 0.001 * n)
            await turns(n)
        cursor.close()
        return found

    following = [asyncio.create_task(follow(n)) for n in range(1, 9)]
    for after in range(1, 300):
        await add(store, after, ended=after == 299)
        await turns(after % 3)
    assert await asyncio.gather(*following) == [list(range(1, 301))] * 8


POSITIONS = (
    (Position("r", 1, 0), None), (Position("r", 1, 1), None), (Position("r", 1, 2), None), (Position("r", 2, 3), None),
    (Position("r", 2, 2), CursorAhead), (Position("r", 1, 3), CursorAhead), (Position("r", 1, 4), CursorAhead),
    (Position("r", 3, 1), CursorAhead), (Position("r", 3, 0), CursorAhead), (Position("q", 1, 1), NotFound),
)  # fmt: skip


@pytest.mark.parametrize(("position", "error"), POSITIONS)
async def test_a_position_that_the_log_has_not_reached_is_refused(
    position: Position, error: type[Exception] | None
) -> None:
    store = MemoryStore()
    await store.start("me")
    await store.open(LOG, b"", records=log_of())
    await add(store, 1)
    store._logs[LOG].lease = Lease("me", 2)
    await store.append(LOG, 2, [Record(3, 0.0, b"{}", 2)], lease=Lease("me", 2))
    if error is None:
        await check_position(store, position)
    else:
        with pytest.raises(error):
            await check_position(store, position)
