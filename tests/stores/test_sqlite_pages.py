"""Pages of a file that many take are read once, and never shown when they are out of date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.parts import PATIENCE

from tidelog.bell import Bell
from tidelog.errors import Gone, Unavailable
from tidelog.log import Lease, Record
from tidelog.seams import Page
from tidelog.stores.sqlite import SqliteStore, reading
from tidelog.stores.sqlite.pages import Pages

pytestmark = pytest.mark.anyio
LOG = "runs/long"
MANY, LIMIT = 2000, 4096


class Shelf:
    """Gives pages when it is told to, and counts how often it is asked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked = 0
        self.may = asyncio.Event()

    async def read(self) -> Page:
        self.asked += 1
        await self.may.wait()
        return self.page


def page(*, more: bool = True) -> Page:
    return Page([Record(1, 0.0, b"{}", 1)], more, False)


async def test_who_comes_together_reads_together() -> None:
    pages, bell, shelf = Pages(), Bell(), Shelf(page())
    readers = [asyncio.create_task(pages.read(bell, 0, LIMIT, shelf.read)) for _ in range(5)]
    await asyncio.sleep(0)
    readers[0].cancel()  # who has begun it may go
    shelf.may.set()
    found = await asyncio.wait_for(asyncio.gather(*readers[1:]), PATIENCE)
    assert all(each is shelf.page for each in found)
    assert await pages.read(bell, 0, LIMIT, shelf.read) is shelf.page
    assert shelf.asked == 1


async def test_what_has_rung_is_read_again() -> None:
    pages, bell, shelf = Pages(), Bell(), Shelf(page())
    shelf.may.set()
    await pages.read(bell, 0, LIMIT, shelf.read)
    bell.ring()
    await pages.read(bell, 0, LIMIT, shelf.read)
    await pages.read(Bell(), 0, LIMIT, shelf.read)
    assert shelf.asked == 3


async def test_a_page_that_may_grow_is_not_kept() -> None:
    pages, bell, shelf = Pages(), Bell(), Shelf(page(more=False))
    shelf.may.set()
    await pages.read(bell, 0, LIMIT, shelf.read)
    await pages.read(bell, 0, LIMIT, shelf.read)
    assert shelf.asked == 2


async def test_an_error_is_told_to_all_and_kept_for_none() -> None:
    pages, bell, asked = Pages(), Bell(), list[int]()

    async def fails() -> Page:
        asked.append(1)
        await asyncio.sleep(0)
        raise Unavailable

    readers = [pages.read(bell, 0, LIMIT, fails) for _ in range(3)]
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert [type(each) for each in found] == [Unavailable] * 3
    assert len(asked) == 1
    with pytest.raises(Unavailable):
        await pages.read(bell, 0, LIMIT, fails)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store with a long log that another process wrote."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    written = SqliteStore(url)
    await written.start("writer")
    await written.open(LOG, b"", records=[Record(1, 0.0, b'{"n":1}', 1)])
    rest = [Record(seq, 0.0, b'{"n":%d}' % seq, 1) for seq in range(2, MANY + 1)]
    await written.append(LOG, 1, rest, lease=Lease("writer"), ended=True)
    await written.aclose()
    found = SqliteStore(url)
    await found.start("reader")
    yield found
    await found.aclose()


async def taken(store: SqliteStore) -> list[int]:
    numbers: list[int] = []
    more = True
    while more:
        found = await store.read(LOG, len(numbers), LIMIT)
        numbers += [record.seq for record in found.records]
        more = found.more
    return numbers


async def test_many_take_a_long_log_from_the_file(store: SqliteStore) -> None:
    bell = store.changed(LOG)
    found = await asyncio.wait_for(asyncio.gather(*(taken(store) for _ in range(20))), PATIENCE)
    assert all(numbers == list(range(1, MANY + 1)) for numbers in found)
    assert bell.rings == 0


async def test_a_dropped_log_is_shown_to_nobody(store: SqliteStore) -> None:
    bell = store.changed(LOG)
    assert len(await taken(store)) == MANY
    await store.drop(LOG)
    assert bell.rung
    with pytest.raises(Gone):
        await store.read(LOG, 0, LIMIT)


async def test_a_log_that_another_process_drops_is_shown_to_nobody(store: SqliteStore, tmp_path: Path) -> None:
    bell, rung = store.changed(LOG), asyncio.Event()
    bell.add(rung.set)
    assert len(await taken(store)) == MANY
    other = SqliteStore(f"sqlite:///{tmp_path / 'runs.db'}")
    await other.start("other")
    await other.drop(LOG)
    await asyncio.wait_for(rung.wait(), PATIENCE)
    with pytest.raises(Gone):
        await store.read(LOG, 0, LIMIT)
    await other.aclose()


async def test_who_is_far_behind_a_log_of_ours_reads_no_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold all logs together; what is in no chunk yet this process has in memory."""

    def read(*_: object) -> None:
        raise AssertionError("a segment was read")

    store = SqliteStore(f"sqlite:///{tmp_path / 'runs.db'}")
    await store.start("me")
    await store.open(LOG, b"", records=[Record(1, 0.0, b'{"n":1}', 1)])
    for seq in range(2, MANY + 1):
        written = store.append(LOG, seq - 1, [Record(seq, 0.0, b'{"n":%07d}' % seq * 10, 1)], lease=Lease("me"))
        if seq % 100 == 0:
            await written
    window = store.window(LOG)
    assert window is not None and window.base > 100
    monkeypatch.setattr(reading, "blocks_behind", read)
    assert await taken(store) == list(range(1, MANY + 1))
    monkeypatch.undo()
    await store.append(LOG, MANY, [Record(MANY + 1, 0.0, b"{}", 1)], lease=Lease("me"), ended=True)
    found = await store.read(LOG, window.base - 1, 1 << 20)
    assert found.records[-1].seq == MANY + 1
    assert found.ended and not found.more, "all of it is in chunks"
    await store.aclose()
