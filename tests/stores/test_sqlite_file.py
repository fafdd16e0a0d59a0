"""The file of a SQLite store: its address, whose it is, its version, what a drop leaves in it, a disk that is full."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import apsw
import pytest

from tidelog.errors import Gone, InvalidRequest, Unavailable
from tidelog.log import Lease, Record
from tidelog.stores.sqlite import SqliteStore, journal, schema
from tidelog.testing.conformance import eventually, records, whole

pytestmark = pytest.mark.anyio

LEASE = Lease("one")
SECRET = b"correct horse battery staple"


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


# The address


@pytest.mark.parametrize(
    "url", ["sqlite:", "sqlite://x.db", "sqlite:///", "sqlite:///:memory:", "memory:", "sqlite:///x.db?cache=1",
            "sqlite:///x.db?synchronous=OFF", "sqlite:///x.db?beat=0", "sqlite:///x.db?busy=soon"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        SqliteStore(url)


def test_addresses() -> None:
    assert schema.parse("sqlite:///tidelog.db") == ("tidelog.db", "NORMAL", 2.0, 5.0)
    assert schema.parse("sqlite:////var/my%20logs.db?synchronous=full&beat=0.5") == (
        "/var/my logs.db",
        "FULL",
        0.5,
        5.0,
    )


async def test_every_option_is_in_force(tmp_path: Path) -> None:
    place = schema.parse(f"sqlite:///{tmp_path}/logs.db?synchronous=FULL&busy=1.5")
    schema.prepare(place)
    connection = schema.connect(place)
    found = [connection.execute(f"PRAGMA {name}").get for name in ("synchronous", "secure_delete", "journal_mode")]
    assert found == [2, 1, "wal"]
    assert connection.execute("PRAGMA busy_timeout").get == 1500
    assert connection.execute("PRAGMA wal_autocheckpoint").get == 0
    connection.close()


# Whose file it is


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


async def refused(path: Path) -> str:
    before = content(path)
    with pytest.raises(Unavailable) as refusal:
        await SqliteStore(f"sqlite:///{path}").start("one")
    assert content(path) == before
    return str(refusal.value)


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    schema.prepare(schema.Place(str(path)))
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA user_version={len(schema.MIGRATIONS) + 1}")
    connection.close()
    assert "newer tidelog" in await refused(path)


async def test_another_applications_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    assert "another application" in await refused(path)


async def test_what_is_no_sqlite_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    path.write_bytes(b"Dear diary, " * 1000)
    assert "not a SQLite file" in await refused(path)


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be opened" in await refused(tmp_path / "nowhere" / "logs.db")
    assert "cannot be opened" in await refused(tmp_path)


async def test_an_older_file_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = schema.Place(str(tmp_path / "logs.db"))
    schema.prepare(place)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE later (x)"))
    schema.prepare(place)
    schema.prepare(place)
    connection = schema.connect(place)
    assert connection.execute("PRAGMA user_version").get == len(schema.MIGRATIONS)
    assert connection.table_exists("main", "later")
    connection.close()


async def test_a_file_of_the_first_version_keeps_its_expired_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = schema.Place(str(tmp_path / "logs.db"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        schema.prepare(place)
    connection = schema.connect(place)
    connection.execute("INSERT INTO expired VALUES ('run/a'), ('run/b')")
    connection.close()
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await store.start("one")
    for name in ("run/a", "run/b"):
        with pytest.raises(Gone) as gone:
            await store.read(name, 0)
        assert gone.value.code == "expired"
    await store.aclose()


async def test_processes_may_start_together(tmp_path: Path) -> None:
    stores = [SqliteStore(f"sqlite:///{tmp_path}/logs.db") for _ in range(6)]
    await asyncio.gather(*(store.start(f"owner{n}") for n, store in enumerate(stores)))
    assert sorted(await asyncio.gather(*(store.post("control/a", b"") for store in stores))) == [1, 2, 3, 4, 5, 6]
    for store in stores:
        await store.aclose()


# Every byte


async def test_a_dropped_log_leaves_no_byte(store: SqliteStore, tmp_path: Path) -> None:
    await store.open("run/bystander", b"", records=records(0, 1))
    await store.open("run/secret", SECRET, records=[Record(1, 1.0, SECRET)], key=SECRET.decode())
    for after in range(1, 400):
        store.append("run/bystander", after, records(after, 1), lease=LEASE)
        await store.append(
            "run/secret", after, [Record(after + 1, 1.0, SECRET * (after % 9))], lease=LEASE, head=SECRET
        )
    assert SECRET in all_bytes(tmp_path)
    await store.drop("run/secret")
    assert SECRET not in all_bytes(tmp_path)
    assert await whole(store, "run/bystander") == records(0, 400)


async def test_an_expired_log_leaves_its_name_only(store: SqliteStore, tmp_path: Path) -> None:
    await store.open("run/secret", SECRET, records=[Record(1, 1.0, SECRET)], principal=SECRET.decode())
    await store.append("run/secret", 1, [Record(2, 1.0, SECRET * 9000)], lease=LEASE, ended=True)
    assert list(await store.expire(time.time() + 1)) == ["run/secret"]
    assert SECRET not in all_bytes(tmp_path)


async def test_a_log_that_its_writer_still_holds_leaves_no_byte(store: SqliteStore, tmp_path: Path) -> None:
    other = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await other.start("two")
    await store.open("run/secret", b"")
    for after in range(50):
        await store.append("run/secret", after, [Record(after + 1, 1.0, SECRET)], lease=LEASE)
    await other.drop("run/secret")
    assert SECRET not in all_bytes(tmp_path)
    await other.aclose()


# The journal


async def test_an_idle_store_keeps_no_segments(store: SqliteStore, tmp_path: Path) -> None:
    await store.open("run/a", b"")
    for after in range(30):
        await store.append("run/a", after, records(after, 1), lease=LEASE)
    watching = apsw.Connection(f"{tmp_path}/logs.db")

    async def chunked() -> bool:
        return bool(watching.execute("SELECT NOT EXISTS (SELECT 1 FROM journal WHERE data <> x'')").get)

    assert not await chunked()
    assert await eventually(chunked)
    watching.close()
    assert await whole(store, "run/a") == records(0, 30)


async def test_the_lease_is_beaten_while_the_loop_is_blocked(tmp_path: Path) -> None:
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db?beat=0.05")
    await store.start("one")
    watching = apsw.Connection(f"{tmp_path}/logs.db")
    before, until = watching.execute("SELECT beat FROM owners").get, time.monotonic() + 10
    while watching.execute("SELECT beat FROM owners").get < before + 3:  # the loop stands still here
        assert time.monotonic() < until
    watching.close()
    await store.aclose()


# A disk that is full


async def test_a_full_disk_fails_the_group_and_no_more(store: SqliteStore, tmp_path: Path) -> None:
    async def limit(pages: int) -> None:
        await store._journal.run(lambda do: do.execute(f"PRAGMA max_page_count={pages}").fetchall())

    await store.open("run/a", b"h", records=records(0, 1))
    await store.open("run/b", b"")
    await limit(1)  # no more pages than there are
    big = [Record(2, 1.0, bytes(1_000_000))]
    failing = store.append("run/a", 1, big, lease=LEASE, head=b"lost", ended=True)
    behind = store.append("run/b", 0, records(0, 1), lease=LEASE)
    for future in (failing, behind):
        with pytest.raises(Unavailable):
            await future
    with pytest.raises(Unavailable):
        await store.open("run/c", b"", records=big)
    assert await whole(store, "run/a") == records(0, 1)
    assert await store.tail("run/a") == (1, 1, False, 1, b"h", "one")
    await limit(1_000_000)
    await store.append("run/a", 1, big, lease=LEASE, ended=True)
    await store.append("run/b", 0, records(0, 1), lease=LEASE)
    other = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await other.start("two")
    for reader in (store, other):
        assert await whole(reader, "run/a") == records(0, 1) + big
        assert await whole(reader, "run/b") == records(0, 1)
    await other.aclose()


async def test_what_is_no_record_fails_its_group_only(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    await store.open("run/a", b"")
    with pytest.raises(Unavailable):
        await store.append("run/a", 0, [Record(1, 1.0, "text")], lease=LEASE)  # type: ignore[arg-type]
    await store.append("run/a", 0, records(0, 1), lease=LEASE)
    assert await whole(store, "run/a") == records(0, 1)


async def test_a_window_stays_small(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 0.0)
    await store.open("run/a", b"")
    for after in range(0, 8000, 100):
        await store.append("run/a", after, records(after, 100, size=1000), lease=LEASE)
        assert len(store._journal.live["run/a"].records) <= 1024
    assert await whole(store, "run/a") == records(0, 8000, size=1000)
    assert await whole(store, "run/a", 5555) == records(5555, 2445, size=1000)
