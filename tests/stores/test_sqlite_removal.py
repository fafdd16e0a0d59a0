"""Large logs leave the file a slice at a time: gone for readers at once, never half there, finished by whoever comes next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from tidelog.errors import Gone, TidelogError, Unavailable
from tidelog.log import Lease, Record
from tidelog.stores.sqlite import SqliteStore, commit, journal, removal, sweeper
from tidelog.stores.sqlite.blocks import mark_of
from tidelog.testing.conformance import eventually, records, whole

pytestmark = pytest.mark.anyio

LEASE = Lease("one")
SECRET = b"correct horse battery staple"
LARGE = [Record(n, 1.0, SECRET * 40) for n in range(1, 41)]
"""Each becomes a chunk, and is more than a slice."""


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "REMOVE_BYTES", 1000)
    monkeypatch.setattr(sweeper, "PAUSE", 0.005)
    monkeypatch.setattr(journal, "CHUNK_BYTES", 1)
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 3000.0)  # so that it stays in the journal as well


@pytest.fixture
def file(store: SqliteStore, tmp_path: Path) -> Iterator[apsw.Connection]:
    """The file, seen from outside."""
    connection = apsw.Connection(f"{tmp_path}/logs.db")
    yield connection
    connection.close()


async def write(store: SqliteStore, log: str, *, ended: bool = False) -> None:
    """The large log. Its records are in the journal too."""
    await store.open(log, b"", records=LARGE[:1])
    for record in LARGE[1:]:
        await store.append(log, record.seq - 1, [record], lease=LEASE, ended=ended and record is LARGE[-1])


async def gone(store: SqliteStore) -> bool:
    return await store.tail("run/a") is None


def chunks(file: apsw.Connection) -> int:
    return int(file.execute("SELECT count(*) FROM chunks").get)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_each_transaction_removes_little(store: SqliteStore, file: apsw.Connection) -> None:
    await write(store, "run/a")
    before, counts = chunks(file), list[int]()
    removed = await store._journal.run(partial(removal.drop, "run/a", mark_of("run/a")))
    while removed.left:
        counts.append(chunks(file))
        left = await store._journal.run(partial(removal.sweep, removed.left))
        removed = removed._replace(left=left)
    steps = [a - b for a, b in zip([before, *counts], [*counts, chunks(file)], strict=True)]
    assert before == 40 and sum(steps) == 40 and max(steps) == 1
    assert len(steps) >= 39 + 40  # as many for what lies in the journal


async def test_many_drops_in_one_transaction_share_its_limit(store: SqliteStore, file: apsw.Connection) -> None:
    for name in ("run/a", "run/b", "run/c"):
        await store.open(name, b"", records=LARGE[:1])
    jobs = [store._journal.run(partial(removal.drop, name, mark_of(name))) for name in ("run/a", "run/b", "run/c")]
    removed = await asyncio.gather(*jobs)
    assert [len(each.left) for each in removed] == [0, 1, 1] and chunks(file) == 2


async def test_what_is_dropped_is_gone_before_its_bytes_are(
    store: SqliteStore, file: apsw.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, "run/a")
    other = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await other.start("two")
    dropping = asyncio.create_task(store.drop("run/a"))
    assert await eventually(lambda: gone(store))
    assert chunks(file) > 30
    for each in (store, other):
        with pytest.raises(Gone):
            await each.read("run/a", 0)
    monkeypatch.setattr(journal, "CHUNK_BYTES", 64 * 1024)
    await other.open("run/a", b"", records=records(0, 2))  # the name is free, and nothing of the old log is seen
    await other.append("run/a", 2, records(2, 1), lease=Lease("two"))
    assert not dropping.done()
    await dropping
    assert SECRET not in all_bytes(tmp_path)
    assert file.execute("SELECT count(*) FROM gone").get == 0
    assert await whole(store, "run/a") == await whole(other, "run/a") == records(0, 3)
    await other.aclose()


async def test_a_drop_goes_on_whoever_waits(store: SqliteStore, file: apsw.Connection, tmp_path: Path) -> None:
    await write(store, "run/a")
    dropping = asyncio.create_task(store.drop("run/a"))
    assert await eventually(lambda: gone(store))
    dropping.cancel()
    await asyncio.wait([dropping])
    assert chunks(file) > 0

    async def finished() -> bool:
        return bool(file.execute("SELECT NOT EXISTS (SELECT 1 FROM gone)").get)

    assert await eventually(finished)
    assert SECRET not in all_bytes(tmp_path)


@pytest.mark.parametrize("expired", [False, True])
async def test_the_next_process_finishes_what_one_has_left(tmp_path: Path, expired: bool) -> None:
    url = f"sqlite:///{tmp_path}/logs.db"
    one = SqliteStore(url)
    await one.start("one")
    await write(one, "run/a", ended=True)
    if expired:
        await one._journal.run(partial(removal.expire, time.time() + 60, 16))
    else:
        await one._journal.run(partial(removal.drop, "run/a", mark_of("run/a")))
    await one.aclose()
    assert SECRET in all_bytes(tmp_path)
    later = SqliteStore(url)
    await later.start("later")
    with pytest.raises(Gone) as answer:
        await later.read("run/a", 0)
    assert answer.value.code == ("expired" if expired else "not_found")

    async def clean() -> bool:
        return SECRET not in all_bytes(tmp_path)

    assert await eventually(clean)
    await later.aclose()
    assert SECRET not in all_bytes(tmp_path)


async def test_whoever_drops_again_waits_for_the_bytes(store: SqliteStore, tmp_path: Path) -> None:
    await write(store, "run/a")
    await store._journal.run(partial(removal.drop, "run/a", mark_of("run/a")))
    assert SECRET in all_bytes(tmp_path)
    await store.drop("run/a")
    assert SECRET not in all_bytes(tmp_path)


async def test_expiry_removes_what_others_have_left(store: SqliteStore, tmp_path: Path) -> None:
    await write(store, "run/a")
    await store._journal.run(partial(removal.drop, "run/a", mark_of("run/a")))
    await write(store, "run/b", ended=True)
    assert list(await store.expire(time.time() + 60)) == ["run/b"]
    assert SECRET not in all_bytes(tmp_path)


async def test_closing_while_something_is_dropped(store: SqliteStore, file: apsw.Connection, tmp_path: Path) -> None:
    await write(store, "run/a")
    dropping = asyncio.create_task(store.drop("run/a"))
    assert await eventually(lambda: gone(store))
    await store.aclose()
    assert chunks(file) > 0
    with pytest.raises(Unavailable):
        await dropping


async def test_closing_waits_until_the_write_ahead_log_is_empty(store: SqliteStore, tmp_path: Path) -> None:
    beside = SqliteStore(f"sqlite:///{tmp_path}/logs.db")  # while it is open, nobody else's closing empties that log
    await beside.start("two")
    await store.open("run/a", b"", records=LARGE[:1])
    reached, go_on, empty = asyncio.Event(), asyncio.Event(), store._sweeper._empty

    async def slow() -> bool:
        reached.set()
        await go_on.wait()
        return await empty()

    store._sweeper._empty = slow
    dropping = asyncio.create_task(store.drop("run/a"))
    await reached.wait()
    closing = asyncio.create_task(store.aclose())
    await asyncio.wait([closing], timeout=0.2)  # as long as it would take to close
    go_on.set()
    await asyncio.gather(closing, dropping)
    assert SECRET not in all_bytes(tmp_path)
    await beside.aclose()


async def test_a_log_that_is_opened_and_dropped_at_once_is_gone(store: SqliteStore) -> None:
    opening = asyncio.create_task(store.open("run/a", b"", records=records(0, 1)))
    await asyncio.sleep(0)
    await store.drop("run/a")
    await opening
    with pytest.raises(Gone):
        await store.read("run/a", 0)
    with pytest.raises(TidelogError):
        await store.append("run/a", 1, records(1, 1), lease=LEASE)


async def test_names_of_expired_logs_are_kept_up_to_a_limit(
    store: SqliteStore, file: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "EXPIRED_NAMES", 3)
    for n in range(8):
        await store.open(f"run/{n}", b"")
        await store.append(f"run/{n}", 0, [], lease=LEASE, ended=True)
        assert list(await store.expire(time.time() + 60)) == [f"run/{n}"]
    assert file.execute("SELECT count(*) FROM expired").get == 3
    codes = []
    for n in range(8):
        with pytest.raises(Gone) as answer:
            await store.read(f"run/{n}", 0)
        codes.append(answer.value.code)
    assert codes == ["not_found"] * 5 + ["expired"] * 3
    await store.open("run/0", b"")
