"""The part of the suite for stores whose live logs may be nobody's for a while."""

from __future__ import annotations

import asyncio
import time
from math import inf

import pytest

from tidelog.errors import Conflict
from tidelog.log import Lease
from tidelog.seams import Expiring, Leasing, Listing, Parking, Store
from tidelog.testing.conformance.reading import LOG, OWNER, Ear, Opener, records, rung, whole


class ParkingConformance:
    """What `seams.Parking` promises, in one process."""

    async def test_a_parked_log_is_nobodys(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"h", records=records(0, 2), principal="p")
        flying = store.append(LOG, 2, records(2, 3), lease=Lease(OWNER), head=b"waits")
        bell = Ear(store.changed(LOG))
        await parking.park(LOG, 5, lease=Lease(OWNER), due=inf)
        assert flying.done() and await rung(bell)
        assert await store.tail(LOG) == (1, 5, False, 1, b"waits", "")
        assert await whole(store, LOG) == records(0, 5)
        assert await whole(store, LOG, 3) == records(3, 2)
        for work in (store.append(LOG, 5, records(5, 1), lease=Lease(OWNER)), store.post(LOG, b"x")):
            with pytest.raises(Conflict):
                await work
        if isinstance(store, Listing):
            assert [name for name, _ in await store.list("run/", "p", 10)] == [LOG]
        if isinstance(store, Expiring):
            assert list(await store.expire(time.time() + 3600)) == []
        if isinstance(store, Leasing):
            assert list(await store.orphans(0.0)) == []

    async def test_only_the_owner_parks_and_only_at_the_end(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"", records=records(0, 2))
        for after, lease in ((1, Lease(OWNER)), (3, Lease(OWNER)), (2, Lease("other")), (2, Lease(OWNER, 2))):
            with pytest.raises(Conflict):
                await parking.park(LOG, after, lease=lease, due=inf)
        with pytest.raises(Conflict):
            await parking.take(LOG, 2, records(2, 1, epoch=2))
        await store.append(LOG, 2, records(2, 1), lease=Lease(OWNER), ended=True)
        with pytest.raises(Conflict):
            await parking.park(LOG, 3, lease=Lease(OWNER), due=inf)
        with pytest.raises(Conflict):
            await parking.park("run/unknown", 0, lease=Lease(OWNER), due=inf)
        assert list(await parking.parked(inf)) == []

    async def test_parked_logs_are_due_in_order(self, store: Store) -> None:
        parking = _parking(store)
        for name, due in (("run/late", 300.0), ("run/never", inf), ("run/soon", 100.0)):
            await store.open(name, b"", records=records(0, 1))
            await parking.park(name, 1, lease=Lease(OWNER), due=due)
        assert list(await parking.parked(50.0)) == []
        assert list(await parking.parked(100.0)) == [("run/soon", 100.0)]
        assert list(await parking.parked(1e12)) == [("run/soon", 100.0), ("run/late", 300.0)]
        assert list(await parking.parked(inf)) == [("run/soon", 100.0), ("run/late", 300.0), ("run/never", inf)]
        await store.drop("run/soon")
        await parking.take("run/late", 1, [], due=None, ended=False)
        assert list(await parking.parked(inf)) == [("run/never", inf)]

    async def test_of_many_that_see_a_log_due_one_has_it(self, store: Store) -> None:
        """It alone does what is to be done; when the log is due again, one has it again."""
        parking = _parking(store)
        await store.open(LOG, b"h", records=records(0, 1))
        with pytest.raises(Conflict):
            await parking.defer(LOG, inf, 1.0)
        await parking.park(LOG, 1, lease=Lease(OWNER), due=inf)
        for seen, due in ((inf, 1763745000.123456), (1763745000.123456, 1763745030.7), (1763745030.7, inf)):
            found = await asyncio.gather(*(parking.defer(LOG, seen, due) for _ in range(10)), return_exceptions=True)
            assert found.count(None) == 1
            assert sum(isinstance(one, Conflict) for one in found) == 9
            assert list(await parking.parked(inf)) == [(LOG, due)]
        assert await store.tail(LOG) == (1, 1, False, 1, b"h", "")
        await parking.take(LOG, 1, records(1, 1, epoch=2), ended=False)
        for name in (LOG, "run/unknown"):
            with pytest.raises(Conflict):
                await parking.defer(name, inf, 1.0)

    async def test_a_parked_log_is_no_orphan_to_take(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"", records=records(0, 1))
        await parking.park(LOG, 1, lease=Lease(OWNER), due=inf)
        with pytest.raises(Conflict):
            await parking.take(LOG, 1, [], ended=False, due=5.0, orphan=True)
        assert list(await parking.parked(inf)) == [(LOG, inf)]

    async def test_whoever_takes_a_parked_log_goes_on(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"", records=records(0, 2), key="k")
        for epoch in (1, 2, 3):  # the same process parks and takes, again and again
            last = 2 * epoch
            await parking.park(LOG, last, lease=Lease(OWNER, epoch), due=100.0)
            with pytest.raises(Conflict):
                await parking.take(LOG, last - 1, [])
            bell = Ear(store.changed(LOG))
            lease = await parking.take(LOG, last, records(last, 1, epoch=epoch + 1), head=b"taken", ended=False)
            assert lease == Lease(OWNER, epoch + 1) and await rung(bell)
            with pytest.raises(Conflict):
                await parking.take(LOG, last + 1, [])
            await store.append(LOG, last + 1, records(last + 1, 1, epoch=epoch + 1), lease=lease)
        await store.append(LOG, 8, records(8, 1, epoch=4), lease=Lease(OWNER, 4), ended=True)
        assert await store.tail(LOG) == (1, 9, True, 4, b"taken", OWNER)
        wanted = records(0, 2)
        for epoch in (2, 3, 4):
            wanted += records(2 * epoch - 2, 2, epoch=epoch)
        assert await whole(store, LOG) == [*wanted, *records(8, 1, epoch=4)]
        assert await store.open("run/b", b"", key="k") == LOG

    async def test_a_parked_log_may_be_ended(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"", records=records(0, 1))
        await parking.park(LOG, 1, lease=Lease(OWNER), due=inf)
        await parking.take(LOG, 1, records(1, 1, epoch=2), head=b"end")
        page = await store.read(LOG, 0)
        assert page.ended and list(page.records) == records(0, 1) + records(1, 1, epoch=2)
        tail = await store.tail(LOG)
        assert tail is not None and tail.ended and tail.head == b"end"
        assert list(await parking.parked(inf)) == []
        if isinstance(store, Expiring):
            assert list(await store.expire(time.time() + 60)) == [LOG]

    async def test_one_of_many_takes_a_parked_log(self, store: Store) -> None:
        parking = _parking(store)
        await store.open(LOG, b"", records=records(0, 1))
        await parking.park(LOG, 1, lease=Lease(OWNER), due=inf)
        takes = (parking.take(LOG, 1, records(1, 1, epoch=2), ended=False) for _ in range(10))
        found = await asyncio.gather(*takes, return_exceptions=True)
        assert sum(one == Lease(OWNER, 2) for one in found) == 1
        assert sum(isinstance(one, Conflict) for one in found) == 9


class SharedParkingConformance:
    """What it promises over processes."""

    async def test_another_process_takes_what_is_parked(self, store: Store, other: Store) -> None:
        parking, taking = _parking(store), _parking(other)
        await store.open(LOG, b"", records=records(0, 1))
        await store.append(LOG, 1, records(1, 2), lease=Lease(OWNER))
        bell = Ear(other.changed(LOG))
        await parking.park(LOG, 3, lease=Lease(OWNER), due=5.0)
        assert await rung(bell)
        assert list(await taking.parked(5.0)) == [(LOG, 5.0)]
        await taking.defer(LOG, 5.0, 5.5)
        with pytest.raises(Conflict):
            await parking.defer(LOG, 5.0, 5.7)
        assert list(await parking.parked(6.0)) == [(LOG, 5.5)]
        bell = Ear(store.changed(LOG))
        lease = await taking.take(LOG, 3, records(3, 1, epoch=2), ended=False)
        assert lease == Lease("two", 2) and await rung(bell)
        with pytest.raises(Conflict):
            await parking.take(LOG, 4, [])
        await other.append(LOG, 4, records(4, 1, epoch=2), lease=lease)
        await taking.park(LOG, 5, lease=lease, due=6.0)
        again = await parking.take(LOG, 5, records(5, 1, epoch=3), ended=False)
        assert again == Lease(OWNER, 3)
        await store.append(LOG, 6, records(6, 1, epoch=3), lease=again)
        wanted = records(0, 3) + records(3, 2, epoch=2) + records(5, 2, epoch=3)
        assert await whole(store, LOG) == wanted and await whole(other, LOG) == wanted

    async def test_what_is_parked_outlives_its_process(self, store: Store, another: Opener) -> None:
        parking = _parking(store)
        await store.open(LOG, b"h", records=records(0, 1))
        await store.append(LOG, 1, records(1, 300, size=1000), lease=Lease(OWNER))
        await parking.park(LOG, 301, lease=Lease(OWNER), due=inf)
        await store.aclose()
        later = await another("two")
        taking = _parking(later)
        assert isinstance(later, Leasing) and list(await later.orphans(0.0)) == []
        assert await whole(later, LOG) == records(0, 1) + records(1, 300, size=1000)
        assert await taking.take(LOG, 301, [], ended=False) == Lease("two", 2)

    async def test_a_dead_owners_log_may_be_parked(self, store: Store, other: Store) -> None:
        taking = _parking(other)
        await store.open(LOG, b"h", records=records(0, 1))
        await store.aclose()
        assert isinstance(other, Leasing) and list(await other.orphans(3600)) == [LOG]
        await taking.take(LOG, 1, [], ended=False, due=7.0, orphan=True)
        with pytest.raises(Conflict):  # of all that found it, one
            await taking.take(LOG, 1, [], ended=False, due=8.0, orphan=True)
        assert list(await taking.parked(7.0)) == [(LOG, 7.0)]
        assert await other.tail(LOG) == (1, 1, False, 2, b"h", "")
        assert list(await other.orphans(3600)) == []
        assert await taking.take(LOG, 1, records(1, 1, epoch=3), ended=False) == Lease("two", 3)


def _parking(store: Store) -> Parking:
    if not isinstance(store, Parking):
        pytest.skip("parks nothing")
    return store
