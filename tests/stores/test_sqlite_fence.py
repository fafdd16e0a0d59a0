"""A process that was declared dead and lives after all: it writes nothing more to what it had, and takes nothing from others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from tidelog.errors import Conflict, StoreError
from tidelog.log import Lease, Record
from tidelog.stores.sqlite import SqliteStore, journal
from tidelog.testing.conformance import eventually, records, whole
from tidelog.testing.conformance.reading import PATIENCE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def zombie(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """It never beats, and keeps records in the journal."""
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db?beat=3000")
    await store.start("zombie")
    yield store
    await store.aclose()


@pytest.fixture
async def heir(tmp_path: Path, zombie: SqliteStore) -> AsyncIterator[SqliteStore]:
    """Another process, for which the zombie owns two logs; of each one record is in the journal."""
    store = SqliteStore(f"sqlite:///{tmp_path}/logs.db")
    await store.start("heir")
    for log in ("run/a", "run/b"):
        await zombie.open(log, b"", records=records(0, 1))
        await zombie.append(log, 1, records(1, 1), lease=Lease("zombie"))
    yield store
    await store.aclose()


@pytest.fixture(autouse=True)
def unchunked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 3000.0)


async def inherit(heir: SqliteStore, log: str = "run/a", *, after: int = 2) -> None:
    assert set(await heir.orphans(0.0)) == {"run/a", "run/b"}
    await heir.take(log, after, records(after, 1, epoch=2))


def deafen(store: SqliteStore) -> None:
    """It does not look for commits of others."""
    store._writer._foreign = lambda: None


async def lost_all(store: SqliteStore) -> bool:
    return not store._journal.live


async def test_it_learns_of_its_death_while_appends_gather(zombie: SqliteStore, heir: SqliteStore) -> None:
    told: list[StoreError] = []
    zombie._journal._flushed = asyncio.get_running_loop().time() + 3000  # the window does not close
    zombie._journal._rate = 1e9
    gathering = zombie.append("run/b", 2, records(2, 1), lease=Lease("zombie", 1, told.append))
    try:
        await inherit(heir)
        with pytest.raises(Conflict):
            await asyncio.wait_for(asyncio.shield(gathering), PATIENCE)
    finally:
        zombie._journal._flush()
    assert told == [gathering.exception()]
    assert await whole(heir, "run/b") == records(0, 2)


async def test_a_commit_that_is_refused_tells_the_last_leases(zombie: SqliteStore, heir: SqliteStore) -> None:
    deafen(zombie)
    await inherit(heir)
    told: list[tuple[str, StoreError]] = []

    def lease(name: str) -> Lease:
        return Lease("zombie", 1, lambda error: told.append((name, error)))

    flying = [
        zombie.append("run/a", 2, records(2, 1), lease=lease("a, first")),
        zombie.append("run/a", 3, records(3, 2), lease=lease("a, last")),
        zombie.append("run/b", 2, records(2, 1), lease=lease("b")),
    ]
    assert not any(future.done() for future in flying)
    for outcome in await asyncio.gather(*flying, return_exceptions=True):
        assert isinstance(outcome, Conflict)
    assert sorted(name for name, _ in told) == ["a, last", "b"]
    assert await whole(heir, "run/b") == records(0, 2)


async def test_a_ring_after_death_leaves_what_others_still_need(
    zombie: SqliteStore, heir: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inherit(heir)
    assert await eventually(lambda: lost_all(zombie))
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 0.0)
    watching = apsw.Connection(f"{tmp_path}/logs.db")
    before = watching.execute("SELECT max(id) FROM journal").get
    for _ in range(5):  # each rings, and trims what the one before it rang
        await zombie.post("control/a", b"")
    late = "SELECT count(*) FROM journal JOIN owners ON owners.id = owner WHERE dead AND journal.id > ?"
    assert watching.execute(late, (before,)).get == 0
    watching.close()
    assert await whole(heir, "run/b") == records(0, 2)
    await heir.take("run/b", 2, records(2, 1, epoch=2))
    assert await whole(zombie, "run/b") == records(0, 2) + records(2, 1, epoch=2)


async def test_closing_after_death_leaves_what_others_still_need(zombie: SqliteStore, heir: SqliteStore) -> None:
    await inherit(heir)
    assert await eventually(lambda: lost_all(zombie))
    await zombie.aclose()
    assert await whole(heir, "run/b") == records(0, 2)


async def test_chunks_after_death_hurt_nobody(
    zombie: SqliteStore, heir: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    deafen(zombie)
    await inherit(heir)
    monkeypatch.setattr(journal, "CHUNK_SECONDS", 0.0)
    assert await zombie.post("control/a", b"x") == 1  # with it come chunks of logs that are somebody else's now
    assert await lost_all(zombie)
    assert await whole(heir, "run/a") == [*records(0, 2), *records(2, 1, epoch=2)]
    assert await whole(heir, "run/b") == records(0, 2)
    await zombie.open("run/new", b"", records=[Record(1, 1.0, b"mine")])
    await zombie.append("run/new", 1, records(1, 1), lease=Lease("zombie"))
    assert len(await whole(heir, "run/new")) == 2
