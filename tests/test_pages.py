"""What many take of a log that is not in memory is read once, and never shown when it is out of date."""

from __future__ import annotations

import asyncio

import pytest
from tests.parts import PATIENCE

from tidelog.bell import Bell
from tidelog.errors import Unavailable
from tidelog.log import Record
from tidelog.pages import Pages
from tidelog.seams import BATCH_BYTES, RECORD_COST, Page

pytestmark = pytest.mark.anyio
DATA = b"{}" * 50
LIMIT = 10 * len(DATA)
MANY = 3 * BATCH_BYTES // (len(DATA) + RECORD_COST)


class Log:
    """Reads from a log of `MANY` records when it is told to, and keeps what it was asked for."""

    def __init__(self, *, ended: bool = True) -> None:
        self.records = [Record(seq, 0.0, DATA, 1) for seq in range(1, MANY + 1)]
        self.ended = ended
        self.asked: list[tuple[int, int]] = []
        self.may = asyncio.Event()
        self.may.set()

    async def read(self, after: int, limit: int) -> Page:
        self.asked.append((after, limit))
        await self.may.wait()
        found = self.records[after : after + max(1, limit // (len(DATA) + RECORD_COST))]
        more = after + len(found) < len(self.records)
        return Page(found, more, self.ended and not more)


async def taken(pages: Pages, bell: Bell | None, log: Log, after: int = 0) -> list[int]:
    """Which records somebody is given who takes all behind `after`."""
    found: list[int] = []
    while True:
        page = await pages.read(bell, after, LIMIT, log.read)
        found += [record.seq for record in page.records]
        if not page.more:
            assert page.ended is log.ended
            return found
        after = found[-1]


async def test_who_comes_together_reads_together() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    log.may.clear()
    readers = [asyncio.create_task(pages.read(bell, 0, LIMIT, log.read)) for _ in range(5)]
    await asyncio.sleep(0)
    readers[0].cancel()  # who has begun it may go
    log.may.set()
    first, *others = await asyncio.wait_for(asyncio.gather(*readers[1:]), PATIENCE)
    assert [record.seq for record in first.records] == [1, 2, 3, 4] and first.more
    assert all(page is first or page == first for page in others)
    assert len(log.asked) == 1


async def test_pages_are_cut_from_long_stretches() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    for _ in range(3):
        assert await taken(pages, bell, log) == list(range(1, MANY + 1))
    sizes = [limit for _, limit in log.asked]
    assert sizes == [min(LIMIT << n, BATCH_BYTES) for n in range(len(sizes))], "longer and longer, and nothing twice"
    assert sizes[-1] == BATCH_BYTES


@pytest.mark.parametrize("after", [1, 7, 1000, MANY - 1, MANY])
async def test_who_stands_within_a_stretch_goes_on_there(after: int) -> None:
    pages, bell, log = Pages(), Bell(), Log()
    await taken(pages, bell, log)
    before = len(log.asked)
    assert await taken(pages, bell, log, after) == list(range(after + 1, MANY + 1))
    assert len(log.asked) == before


async def test_stretches_may_overlap() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    for after in (1000, 10, 500, 0):
        assert await taken(pages, bell, log, after) == list(range(after + 1, MANY + 1))


async def test_more_than_is_kept_is_read_again() -> None:
    pages, bell, log = Pages(BATCH_BYTES), Bell(), Log()
    for _ in range(2):
        assert await taken(pages, bell, log) == list(range(1, MANY + 1))
    assert len(log.asked) > len({after for after, _ in log.asked})


async def test_what_one_alone_takes_is_read_as_it_is_asked_for() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    bell.add(lambda: None)
    page = await pages.read(bell, 0, LIMIT, log.read)
    await pages.read(bell, 0, LIMIT, log.read)
    await pages.read(None, 0, LIMIT, log.read)
    assert log.asked == [(0, LIMIT)] * 3
    assert len(page.records) == LIMIT // (len(DATA) + RECORD_COST)


async def test_what_has_rung_is_read_again() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    await pages.read(bell, 0, LIMIT, log.read)
    bell.ring()
    await pages.read(bell, 0, LIMIT, log.read)
    await pages.read(Bell(), 0, LIMIT, log.read)
    assert len(log.asked) == 3


async def test_a_log_that_rings_all_the_time_is_read_page_by_page() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    for after in range(0, 50, 10):
        await pages.read(bell, after, LIMIT, log.read)
        bell.ring()
    assert {limit for _, limit in log.asked} == {LIMIT}


async def test_what_rings_while_it_is_read_is_worth_nothing() -> None:
    pages, bell, log = Pages(), Bell(), Log()
    log.may.clear()
    reader = asyncio.create_task(pages.read(bell, 0, LIMIT, log.read))
    await asyncio.sleep(0)
    bell.ring()
    log.may.set()
    await asyncio.wait_for(reader, PATIENCE)
    await pages.read(bell, 0, LIMIT, log.read)
    assert len(log.asked) == 2


async def test_an_end_that_may_grow_is_not_kept() -> None:
    pages, bell, log = Pages(), Bell(), Log(ended=False)
    await taken(pages, bell, log, MANY - 3)
    await taken(pages, bell, log, MANY - 3)
    assert len(log.asked) == 2


async def test_an_error_is_told_to_all_and_kept_for_none() -> None:
    pages, bell, asked = Pages(), Bell(), list[int]()

    async def fails(after: int, limit: int) -> Page:
        asked.append(1)
        await asyncio.sleep(0)
        raise Unavailable

    readers = [pages.read(bell, 0, LIMIT, fails) for _ in range(3)]
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable] * 3
    assert len(asked) == 1
    with pytest.raises(Unavailable):
        await pages.read(bell, 0, LIMIT, fails)
