"""What many take of a log from a file or from Redis: all of it, in order, and never when it is out of date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.parts import PATIENCE
from tests.redis_server import redis_server

from tidelog.errors import Gone
from tidelog.log import Lease, Record
from tidelog.stores.redis import RedisStore
from tidelog.stores.sqlite import SqliteStore, reading

pytestmark = pytest.mark.anyio
LOG = "runs/long"
MANY, LIMIT = 2000, 4096
Shared = SqliteStore | RedisStore


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'runs.db'}"
    else:
        with redis_server() as redis:
            yield redis.url


@asynccontextmanager
async def opened(url: str, owner: str) -> AsyncIterator[Shared]:
    """A store as a process has it."""
    found = SqliteStore(url) if url.startswith("sqlite") else RedisStore(url)
    await found.start(owner)
    yield found
    await found.aclose()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Shared]:
    """A store with a long log that another process wrote."""
    async with opened(url, "writer") as written:
        await written.open(LOG, b"", records=[Record(1, 0.0, b'{"n":1}', 1)])
        rest = [Record(seq, 0.0, b'{"n":%d}' % seq, 1) for seq in range(2, MANY + 1)]
        await written.append(LOG, 1, rest, lease=Lease("writer"), ended=True)
    async with opened(url, "reader") as found:
        yield found


async def taken(store: Shared) -> list[int]:
    numbers: list[int] = []
    more = True
    while more:
        found = await store.read(LOG, len(numbers), LIMIT)
        numbers += [record.seq for record in found.records]
        more = found.more
    return numbers


async def test_many_take_a_long_log(store: Shared) -> None:
    bell = store.changed(LOG)
    found = await asyncio.wait_for(asyncio.gather(*(taken(store) for _ in range(20))), PATIENCE)
    assert all(numbers == list(range(1, MANY + 1)) for numbers in found)
    assert not bell.lost


async def test_a_dropped_log_is_shown_to_nobody(store: Shared) -> None:
    bell = store.changed(LOG)
    assert len(await taken(store)) == MANY
    await store.drop(LOG)
    assert bell.rung
    with pytest.raises(Gone):
        await store.read(LOG, 0, LIMIT)


async def test_a_log_that_another_process_drops_is_shown_to_nobody(store: Shared, url: str) -> None:
    bell, rung = store.changed(LOG), asyncio.Event()
    bell.add(rung.set)
    assert len(await taken(store)) == MANY
    async with opened(url, "other") as other:
        await other.drop(LOG)
        await asyncio.wait_for(rung.wait(), PATIENCE)
        with pytest.raises(Gone):
            await store.read(LOG, 0, LIMIT)


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
