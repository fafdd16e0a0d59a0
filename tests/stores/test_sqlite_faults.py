"""What fails: one job of many, a disk for a while, a connection for good. Others do not hear of it, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tidelog.errors import Conflict, InvalidRequest, Unavailable
from tidelog.log import Lease
from tidelog.stores.sqlite import SqliteStore, journal, reading, schema, store, writer
from tidelog.stores.sqlite.blocks import mark_bytes
from tidelog.stores.sqlite.commit import Transaction
from tidelog.testing.conformance import Ear, eventually, records, rung, whole
from tidelog.testing.conformance.reading import PATIENCE

pytestmark = pytest.mark.anyio

LEASE = Lease("one")


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await made.start("one")
    await made.open("run/a", b"", records=records(0, 1))
    yield made
    await made.aclose()


# One job of many


@pytest.mark.parametrize("odd", [{"principal": "\ud800"}, {"key": "\ud800"}])
async def test_what_is_no_text_is_refused_at_once(one: SqliteStore, odd: dict[str, str]) -> None:
    innocent = one.append("run/a", 1, records(1, 1), lease=LEASE)
    with pytest.raises(InvalidRequest):
        await one.open("run/b", b"", **odd)  # type: ignore[arg-type]
    await innocent
    assert await one.tail("run/b") is None


async def test_names_that_are_no_text_are_refused_at_once(one: SqliteStore) -> None:
    for call in (one.open("\ud800", b""), one.post("\ud800", b""), one.read("\ud800", 0), one.tail("\ud800"),
                 one.drop("\ud800"), one.list("\ud800", None, 1), one.list("", "\ud800", 1)):  # fmt: skip
        with pytest.raises(InvalidRequest):
            await call


@pytest.mark.parametrize("fault", [ValueError("odd"), apsw.FullError("full"), Conflict("refused")])
async def test_a_job_that_breaks_is_undone_alone(one: SqliteStore, fault: Exception) -> None:
    def broken(do: Transaction) -> None:
        do.execute("UPDATE owners SET dead = 1")
        do.row = 77
        do.hold()
        do.ring(5)
        raise fault

    before = one._journal.row
    innocent = [one.append("run/a", 1, records(1, 1), lease=LEASE), asyncio.create_task(one.post("control/a", b"x"))]
    await asyncio.sleep(0)  # the post is in the same group now
    with pytest.raises(Conflict if isinstance(fault, Conflict) else Unavailable):
        await one._journal.run(broken)
    assert await asyncio.gather(*innocent) == [None, 1]
    assert one._journal.row == before
    watching = apsw.Connection(one._place.path)
    assert watching.execute("SELECT count(*) FROM journal WHERE instr(idx, ?)", (mark_bytes(5),)).get == 0
    watching.close()
    await one.append("run/a", 2, records(2, 1), lease=LEASE)


async def test_a_job_that_ends_the_transaction_fails_its_group(one: SqliteStore) -> None:
    def broken(do: Transaction) -> None:
        do.execute("ROLLBACK")
        raise ValueError

    innocent = one.append("run/a", 1, records(1, 1), lease=LEASE)
    with pytest.raises(Unavailable):
        await one._journal.run(broken)
    with pytest.raises(Unavailable):
        await innocent
    await one.append("run/a", 1, records(1, 1), lease=LEASE)
    assert await whole(one, "run/a") == records(0, 2)


# A connection for good


class Faulty(apsw.Connection):
    """Refuses these statements from now on, and to be made at all."""

    refused: tuple[str, ...] = ()

    def __init__(self, *args: Any) -> None:
        if "open" in Faulty.refused:
            raise apsw.CantOpenError("unable to open database file")
        super().__init__(*args)

    def execute(self, statements: str, *args: Any) -> Any:
        if statements.startswith(Faulty.refused) and Faulty.refused:
            raise apsw.IOError(f"disk I/O error at {statements}")
        return super().execute(statements, *args)


@pytest.fixture
async def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteStore]:
    monkeypatch.setattr(apsw, "Connection", Faulty)
    monkeypatch.setattr(Faulty, "refused", ())
    made = SqliteStore(f"sqlite:///{tmp_path}/logs.db?beat=0.05")
    await made.start("one")
    await made.open("run/a", b"", records=records(0, 1))
    yield made
    Faulty.refused = ()
    await made.aclose()


async def test_a_connection_that_cannot_roll_back_is_replaced(faulty: SqliteStore) -> None:
    Faulty.refused = ("COMMIT", "ROLLBACK")
    flying = faulty.append("run/a", 1, records(1, 1), lease=LEASE, head=b"lost")
    posted = asyncio.create_task(faulty.post("control/a", b"x"))
    for waiting in (asyncio.shield(flying), posted):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(waiting, PATIENCE)
    Faulty.refused = ()
    assert await faulty.tail("run/a") == (1, 1, False, 1, b"", "one")
    await faulty.append("run/a", 1, records(1, 1), lease=LEASE)
    assert await faulty.post("control/a", b"y") == 1
    assert await whole(faulty, "run/a") == records(0, 2)


async def test_a_file_that_cannot_be_opened_again_fails_commits_until_it_can(faulty: SqliteStore) -> None:
    Faulty.refused = ("COMMIT", "ROLLBACK", "open")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(faulty.post("control/a", b"x"), PATIENCE)
    Faulty.refused = ()
    assert await asyncio.wait_for(faulty.post("control/a", b"y"), PATIENCE) == 1
    await faulty.append("run/a", 1, records(1, 1), lease=LEASE)


async def test_the_writer_outlives_a_beat_and_a_look_that_fail(faulty: SqliteStore) -> None:
    bell = Ear(faulty.changed("control/b"))  # somebody waits: it looks for commits of others
    Faulty.refused = ("UPDATE owners", "PRAGMA data_version")
    looked = faulty._writer._poll_at, faulty._writer._beat_at

    async def both() -> bool:
        return faulty._writer._poll_at > looked[0] and faulty._writer._beat_at > looked[1]

    assert await eventually(both)
    Faulty.refused = ()
    other = SqliteStore(f"sqlite:///{faulty._place.path}")
    await other.start("two")
    await other.post("control/b", b"x")
    assert await rung(bell)
    await other.aclose()


# A disk for a while


async def test_two_that_make_a_file_at_once_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = [apsw.BusyError("database is locked")] * 3

    class Busy(apsw.Connection):
        def execute(self, statements: str, *args: Any) -> Any:
            if "journal_mode" in statements and busy:  # SQLite does not wait here: both hold what the other needs
                raise busy.pop()
            return super().execute(statements, *args)

    monkeypatch.setattr(apsw, "Connection", Busy)
    schema.prepare(schema.Place(f"{tmp_path}/logs.db"))
    busy = [apsw.BusyError("database is locked")] * 1000
    with pytest.raises(Unavailable):
        schema.prepare(schema.Place(f"{tmp_path}/logs.db", busy=0.02))


async def test_readers_connect_again(one: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one._readers.close()
    one._readers = writer.Readers(one._place)  # none of its threads has a connection

    def broken(place: Any) -> apsw.Connection:
        raise apsw.CantOpenError("unable to open database file")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "connect", broken)
        for outcome in await asyncio.gather(*(one.read("control/x", 0) for _ in range(6)), return_exceptions=True):
            assert isinstance(outcome, Unavailable)
    await one.post("control/x", b"there")
    for page in await asyncio.gather(*(one.read("control/x", 0) for _ in range(6))):
        assert page.records[0].data == b"there"


async def test_a_snapshot_that_cannot_be_ended_hurts_no_later_one(faulty: SqliteStore) -> None:
    await faulty.post("control/x", b"there")
    Faulty.refused = ("COMMIT",)
    for _ in range(2 * writer.READERS):
        with pytest.raises(Unavailable):
            await faulty.read("control/x", 0)
    Faulty.refused = ()
    for page in await asyncio.gather(*(faulty.read("control/x", 0) for _ in range(2 * writer.READERS))):
        assert page.records[0].data == b"there"


async def test_changes_that_could_not_be_read_are_read_again(one: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RESCAN", 0.01)
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 3000.0)
    other = SqliteStore(f"sqlite:///{one._place.path}?beat=3000")
    await other.start("two")
    bell = Ear(one.changed("control/a"))

    def broken(*args: Any) -> Any:
        raise apsw.IOError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(reading, "changes", broken)
        await other.post("control/a", b"x")  # the last commit of the other: no later one makes us look
        posted = time.monotonic()

        async def seen() -> bool:
            return one._writer._poll_at > posted + 2 * writer.POLL

        assert await eventually(seen)
        assert not bell.heard.is_set()
    assert await rung(bell)
    await other.aclose()
