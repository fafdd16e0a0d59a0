"""The body for stores that several processes open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf

import pytest

from tidelog.cursor import Cursor
from tidelog.errors import Conflict, Gone, StoreError, Unavailable
from tidelog.log import Lease, Record
from tidelog.seams import Leasing, Store
from tidelog.testing.conformance.parking import SharedParkingConformance
from tidelog.testing.conformance.posting import SharedPostingConformance
from tidelog.testing.conformance.reading import LOG, OWNER, PATIENCE, Ear, Opener, eventually, records, rung, whole
from tidelog.testing.conformance.store import StoreConformance


class SharedStoreConformance(SharedPostingConformance, SharedParkingConformance, StoreConformance):
    """What a store must do beside that if several processes open it. Here they are two stores in one process."""

    @pytest.fixture
    async def other(self, store: Store, another: Opener) -> Store:
        return await another("two")

    async def test_another_process_reads_everything(self, store: Store, other: Store) -> None:
        await store.open(LOG, b"h", records=records(0, 2))
        for after in range(2, 10):
            await store.append(LOG, after, records(after, 1), lease=self.lease)
            assert await whole(other, LOG) == records(0, after + 1)
            assert await other.tail(LOG) == await store.tail(LOG)
        await store.append(LOG, 10, records(10, 1), lease=self.lease, ended=True, head=b"end")
        page = await other.read(LOG, 7)
        assert list(page.records) == records(7, 4) and page.ended
        assert await other.tail(LOG) == await store.tail(LOG)

    async def test_another_process_may_not_append(self, store: Store, other: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        with pytest.raises(Conflict):
            await other.append(LOG, 1, records(1, 1), lease=self.lease)
        with pytest.raises(Conflict):
            await other.open(LOG, b"")

    async def test_logs_outlive_the_store(self, store: Store, another: Opener) -> None:
        await store.open(LOG, b"h", records=records(0, 1), key="k", principal="p")
        await store.append(LOG, 1, records(1, 200, size=1000), lease=self.lease)
        await store.post("control/a", b"x")
        await store.aclose()
        with pytest.raises(Unavailable):
            await store.read(LOG, 0)
        later = await another("two")
        assert await whole(later, LOG) == records(0, 1) + records(1, 200, size=1000)
        assert await later.open("run/b", b"", key="k") == LOG
        assert (await later.read("control/a", 0)).records[0].data == b"x"

    async def test_bells_ring_in_other_processes(self, store: Store, other: Store) -> None:
        async def changes(log: str, change: Callable[[], Awaitable[object]]) -> bool:
            bell = Ear(other.changed(log))
            await change()
            return await rung(bell)

        assert await changes(LOG, lambda: store.open(LOG, b""))
        assert await changes(LOG, lambda: store.append(LOG, 0, records(0, 1), lease=self.lease))
        assert await changes(LOG, lambda: store.append(LOG, 1, records(1, 1), lease=self.lease, ended=True))
        assert await changes(LOG, lambda: store.drop(LOG))
        assert await changes("control/a", lambda: store.post("control/a", b""))
        assert await changes("control/a", lambda: store.drop("control/a"))

    async def test_a_cursor_in_another_process_loses_nothing(self, store: Store, other: Store) -> None:
        await store.open(LOG, b"")

        async def write() -> None:
            for after in range(150):
                await store.append(LOG, after, records(after, 1), lease=self.lease, ended=after == 149)

        writing = asyncio.create_task(write())
        cursor, found = Cursor(other, LOG, batch=1000), list[Record]()
        while not cursor.ended:
            found += await cursor.next(PATIENCE)
        cursor.close()
        await writing
        assert found == records(0, 150)

    async def test_a_key_is_one_over_processes(self, store: Store, other: Store) -> None:
        opens = [(store, other)[n % 2].open(f"run/{n}", b"", key="k", fingerprint=b"f") for n in range(20)]
        assert len(set(await asyncio.gather(*opens))) == 1

    async def test_a_drop_elsewhere_ends_the_log_here(self, store: Store, other: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        bell = Ear(store.changed(LOG))
        await other.drop(LOG)
        assert await rung(bell)
        with pytest.raises(Gone):
            await store.read(LOG, 0)
        with pytest.raises(Conflict):
            await store.append(LOG, 1, records(1, 1), lease=self.lease)

    # Leases

    async def test_logs_of_the_living_are_no_orphans(self, another: Opener) -> None:
        store, other = await another(OWNER, beat=0.05), await another("two", beat=0.05)
        assert isinstance(store, Leasing) and isinstance(other, Leasing)
        await store.open(LOG, b"", records=records(0, 1))
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            assert list(await other.orphans(1.0)) == []
            await asyncio.sleep(0.05)
        with pytest.raises(Conflict):
            await other.take(LOG, 1, records(1, 1, epoch=2))
        assert list(await store.orphans(0.0)) == []

    async def test_who_has_not_beaten_since_the_last_look_lives(self, another: Opener) -> None:
        """A look that is older than the log's owner has named the log: the one that died was another one."""
        alive, other = await another(OWNER, beat=3000), await another("two")
        assert isinstance(other, Leasing)
        for log in (LOG, "run/b"):
            await alive.open(log, b"", records=records(0, 1))
        assert list(await other.orphans(3600)) == []
        with pytest.raises(Conflict):
            await other.take(LOG, 1, records(1, 1, epoch=2))
        for log in (LOG, "run/b"):
            await alive.append(log, 1, records(1, 1), lease=self.lease)

    async def test_whoever_closes_leaves_orphans_at_once(self, store: Store, other: Store) -> None:
        assert isinstance(other, Leasing)
        await store.open(LOG, b"", records=records(0, 1))
        await store.open("run/ended", b"")
        await store.append("run/ended", 0, [], lease=self.lease, ended=True)
        await store.append(LOG, 1, records(1, 1), lease=self.lease)
        await store.aclose()
        assert list(await other.orphans(3600)) == [LOG]
        lease = await other.take(LOG, 2, records(2, 1, epoch=2), head=b"taken")
        assert lease == Lease("two", 2)
        assert await whole(other, LOG) == records(0, 2) + records(2, 1, epoch=2)
        assert await other.tail(LOG) == (1, 3, True, 2, b"taken", "two")
        assert list(await other.orphans(3600)) == []

    async def test_a_zombie_is_fenced(self, another: Opener) -> None:
        zombie, other = await another(OWNER, beat=3000), await another("two")
        assert isinstance(other, Leasing)
        for log in (LOG, "run/b"):
            await zombie.open(log, b"", records=records(0, 1))
            await zombie.append(log, 1, records(1, 2), lease=self.lease)
        bell = Ear(zombie.changed(LOG))

        async def orphaned() -> bool:
            return set(await other.orphans(0.2)) == {LOG, "run/b"}

        assert list(await other.orphans(0.2)) == []
        assert await eventually(orphaned)
        with pytest.raises(Conflict):
            await other.take(LOG, 2, records(2, 1, epoch=2))
        lease = await other.take(LOG, 3, records(3, 1, epoch=2), ended=False)
        with pytest.raises(Conflict):
            await zombie.append(LOG, 3, records(3, 1), lease=self.lease)
        with pytest.raises(Conflict):
            await zombie.append("run/b", 3, records(3, 1), lease=self.lease)
        with pytest.raises(Conflict):
            await other.take(LOG, 4, records(4, 1, epoch=3))
        assert await rung(bell)
        await other.append(LOG, 4, records(4, 1, epoch=2), lease=lease, ended=True)
        await other.take("run/b", 3, records(3, 1, epoch=2))
        wanted = records(0, 3) + records(3, 2, epoch=2)
        assert await whole(other, LOG) == wanted and await whole(zombie, LOG) == wanted

    async def test_what_a_zombie_has_left_is_found_though_it_lives_again(self, another: Opener) -> None:
        """Whoever had declared it dead has taken one of its logs, and not come to the other."""
        zombie, other = await another(OWNER, beat=3000), await another("two")
        assert isinstance(zombie, Leasing) and isinstance(other, Leasing)
        for log in (LOG, "run/b"):
            await zombie.open(log, b"", records=records(0, 1))

        async def orphaned() -> bool:
            return set(await other.orphans(0.2)) == {LOG, "run/b"}

        assert await eventually(orphaned)
        await other.take(LOG, 1, records(1, 1, epoch=2))
        await zombie.open("run/new", b"", records=records(0, 1))
        found = {log: one for one in (zombie, other) for log in await one.orphans(3600)}
        assert found.keys() == {"run/b"}
        await found["run/b"].take("run/b", 1, records(1, 1, epoch=2))
        assert [*await zombie.orphans(3600), *await other.orphans(3600)] == []
        await zombie.append("run/new", 1, records(1, 1), lease=self.lease, ended=True)
        assert await whole(other, "run/b") == records(0, 1) + records(1, 1, epoch=2)

    async def test_what_a_zombie_has_taken_anew_is_found_when_it_is_gone(self, another: Opener) -> None:
        zombie, other = await another(OWNER, beat=3000), await another("two")
        assert isinstance(zombie, Leasing) and isinstance(other, Leasing)
        await zombie.open(LOG, b"", records=records(0, 1))

        async def orphaned() -> bool:
            return list(await other.orphans(0.2)) == [LOG]

        assert await eventually(orphaned)
        await other.take(LOG, 1, (), ended=False, due=inf)
        with pytest.raises(Conflict):
            await zombie.append(LOG, 1, records(1, 1), lease=self.lease)
        await zombie.take(LOG, 1, records(1, 1, epoch=3), ended=False)
        assert list(await other.orphans(3600)) == []
        await zombie.aclose()
        assert list(await other.orphans(3600)) == [LOG]

    async def test_a_fenced_process_tells_the_last_leases(self, another: Opener) -> None:
        zombie, other = await another(OWNER, beat=3000), await another("two")
        assert isinstance(other, Leasing)
        told: list[tuple[str, StoreError]] = []

        def append(log: str, after: int, name: str) -> asyncio.Future[None]:
            lease = Lease(OWNER, 1, lambda error: told.append((name, error)))
            return zombie.append(log, after, records(after, 1), lease=lease)

        for log in (LOG, "run/b", "run/quiet"):
            await zombie.open(log, b"", records=records(0, 1))
            await append(log, 1, f"{log} stored")
        await other.orphans(0.0)
        await other.take(LOG, 2, records(2, 1, epoch=2))
        flying = [append(LOG, 2, "a early"), append("run/b", 2, "b"), append(LOG, 3, "a late")]
        accepted = [not future.done() for future in flying]
        for outcome in await asyncio.gather(*flying, return_exceptions=True):
            assert isinstance(outcome, Conflict)
        if any(accepted):  # else it has learnt of its death in this very moment, and refused them at once
            assert all(accepted)
            assert {name for name, _ in told} - {"run/quiet stored"} == {"a late", "b"}
            assert all(isinstance(error, Conflict) for _, error in told)
        assert await whole(other, "run/b") == records(0, 2)

    async def test_one_of_many_takes_an_orphan(self, store: Store, another: Opener) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        await store.aclose()
        takers = [await another(f"taker{n}") for n in range(3)]

        async def take(taker: Store) -> bool:
            assert isinstance(taker, Leasing)
            try:
                await taker.take(LOG, 1, records(1, 1, epoch=2))
            except Conflict:
                return False
            return True

        assert sorted(await asyncio.gather(*map(take, takers))) == [False, False, True]
