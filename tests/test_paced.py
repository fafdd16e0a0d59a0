"""A paced cursor keeps the rhythm of the log, loses nothing, and holds one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import PATIENCE, turns

from tidelog import events as e
from tidelog.errors import Gone, InvalidRequest
from tidelog.log import Lease, Record
from tidelog.paced import Paced, parse
from tidelog.stores.memory import MemoryStore

LOG = "run/r"


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still until there is nothing to do but wait: then it is the time that is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def played(work: Callable[[], object]) -> None:
    """Run the coroutine on a loop with such a clock."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(work())  # type: ignore[arg-type]


def spoken(times: Sequence[float], start: int = 1) -> list[Record]:
    """Records that were written at these times."""
    return [Record(n, at, e.encode(e.TextDelta(text=str(n)))) for n, at in enumerate(times, start)]


async def stored(times: Sequence[float], *, ended: bool = True) -> MemoryStore:
    store = MemoryStore()
    await store.start("me")
    await store.open(LOG, b"", records=spoken(times))
    if ended:
        await store.append(LOG, len(times), [], lease=Lease("me"), ended=True)
    return store


async def read(cursor: Paced) -> list[tuple[int, float]]:
    """What it hands out, and when, from now on."""
    loop, found = asyncio.get_running_loop(), list[tuple[int, float]]()
    begun = loop.time()
    while records := await cursor.next(None):
        assert cursor.position == records[-1].seq
        assert all(record.at <= loop.time() for record in records)
        found += [(record.seq, round(loop.time() - begun, 6)) for record in records]
    assert cursor.ended
    return found


@pytest.mark.parametrize(("pace", "wanted"), [(1.0, [0, 1, 1.5, 1.5, 4.5]), (4.0, [0, 0.25, 0.375, 0.375, 1.125])])
def test_the_rhythm_is_that_of_the_log(pace: float, wanted: list[float]) -> None:
    async def work() -> None:
        store = await stored([50.0, 51.0, 51.5, 51.5, 54.5])
        assert await read(Paced(store, LOG, pace=pace)) == list(enumerate(wanted, 1))

    played(work)


def test_a_slower_one_shortens_what_lasts_too_long() -> None:
    async def work() -> None:
        store = await stored([0.0, 1.0, 3.0, 2.0, 3600.0])
        cursor = Paced(store, LOG, pace=0.5, gap_limit=3.0)
        assert await read(cursor) == [(1, 0), (2, 2), (3, 5), (4, 5), (5, 8)], "a clock that was set back is no gap"

    played(work)


def test_who_is_late_does_not_make_the_rest_late() -> None:
    async def work() -> None:
        store = await stored([float(n) for n in range(10)])
        cursor, loop = Paced(store, LOG, pace=1.0), asyncio.get_running_loop()
        begun = loop.time()
        await cursor.next()
        await asyncio.sleep(5.5)
        assert [record.seq for record in await cursor.next()] == [2, 3, 4, 5, 6]
        [record] = await cursor.next()
        assert (record.seq, record.at - begun) == (7, 6.0)

    played(work)


def test_a_wait_has_its_limit_and_a_wake_ends_it() -> None:
    async def work() -> None:
        store = await stored([0.0, 4.0])
        cursor, loop = Paced(store, LOG, pace=1.0), asyncio.get_running_loop()
        begun = loop.time()
        assert len(await cursor.next(1.0)) == 1
        assert await cursor.next(1.0) == ()
        loop.call_later(0.5, cursor.wake)
        assert await cursor.next(1.0) == ()
        assert (loop.time() - begun, cursor.ended, cursor.position) == (1.5, False, 1)
        assert len(await cursor.next(10.0)) == 1
        assert loop.time() - begun == 4.0
        assert await cursor.next(1.0) == ()
        assert cursor.ended

    played(work)


def test_it_goes_on_live_and_rings_do_not_hurry_it() -> None:
    async def work() -> None:
        store = await stored([0.0, 2.0], ended=False)
        cursor, loop = Paced(store, LOG, pace=2.0), asyncio.get_running_loop()
        begun, task = loop.time(), asyncio.create_task(read(cursor))
        for last in range(2, 6):
            await asyncio.sleep(0.25)
            await store.append(LOG, last, spoken([last + 1.0], last + 1), lease=Lease("me"))
        await asyncio.sleep(20.0)  # it is at the end by now
        await store.append(LOG, 6, spoken([26.0], 7), lease=Lease("me"), ended=True)
        assert await task == [(1, 0), (2, 1), (3, 1.5), (4, 2), (5, 2.5), (6, 3), (7, 21)]
        assert loop.time() == begun + 21

    played(work)


def test_it_moves() -> None:
    async def work() -> None:
        store = await stored([0.0, 1.0, 2.0, 3.0])
        cursor = Paced(store, LOG, pace=1.0)
        await cursor.next()
        cursor.move(2)
        assert await read(cursor) == [(3, 0), (4, 1)]
        cursor.move(0)
        assert not cursor.ended
        assert await read(cursor) == [(1, 0), (2, 1), (3, 2), (4, 3)]

    played(work)


def test_it_keeps_one_batch_and_nothing_when_it_closes() -> None:
    async def work() -> None:
        store = await stored([float(n) for n in range(100)])
        one = len(spoken([0.0])[0].data)
        cursor = Paced(store, LOG, pace=1.0, batch=3 * one)
        for _ in range(10):
            await cursor.next()
            assert len(cursor._ahead) <= 3
        cursor.close()
        assert not cursor._ahead
        assert not store.changed(LOG)._waiting
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in scheduled)

    played(work)


def test_a_dropped_log_is_gone() -> None:
    async def work() -> None:
        store = await stored([0.0], ended=False)
        cursor = Paced(store, LOG, pace=1.0)
        await cursor.next()
        task = asyncio.create_task(cursor.next())  # type: ignore[arg-type]
        await turns()
        await store.drop(LOG)
        with pytest.raises(Gone):
            await asyncio.wait_for(task, PATIENCE)

    played(work)


@settings(max_examples=count(60, 2000), deadline=None)
@given(
    gaps=st.lists(st.floats(-1.0, 8.0), min_size=1, max_size=20), pace=st.floats(0.1, 100.0),
    batch=st.integers(1, 2000), position=st.integers(0, 5),
)  # fmt: skip
def test_every_record_once_and_when_it_is_due(gaps: list[float], pace: float, batch: int, position: int) -> None:
    async def work() -> None:
        times = [100.0]
        for gap in gaps:
            times.append(times[-1] + gap)
        found = await read(Paced(await stored(times), LOG, position, pace=pace, batch=batch))
        rest = times[position:]
        steps = [min(max(0.0, b - a) / pace, 5.0) for a, b in pairwise(rest)]
        wanted = [(position + 1 + n, sum(steps[:n])) for n in range(len(rest))]
        assert [seq for seq, _ in found] == [seq for seq, _ in wanted]
        assert all(abs(at - due) < 1e-3 for (_, at), (_, due) in zip(found, wanted, strict=True))

    played(work)


@pytest.mark.parametrize("text", ["", "0", "x", "-1", "1e2", "0.01", "101", "nan", "inf", "1.2345678", " 1", "１"])
def test_what_is_no_pace(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"0\.1 to 100"):
        parse(text)


def test_what_is_one() -> None:
    assert [parse(text) for text in ("1", "0.1", "4", "100", "2.5")] == [1.0, 0.1, 4.0, 100.0, 2.5]
