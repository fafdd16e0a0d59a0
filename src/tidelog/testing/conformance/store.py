"""The body for every store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tidelog.cursor import Cursor
from tidelog.errors import Conflict, Gone, Mismatch, StoreError
from tidelog.log import Lease, Record
from tidelog.seams import BATCH_BYTES, Expiring, Listing, Page, Store
from tidelog.testing.conformance.parking import ParkingConformance
from tidelog.testing.conformance.posting import PostingConformance
from tidelog.testing.conformance.reading import LOG, OWNER, PATIENCE, Ear, Opener, records, rung, whole


class StoreConformance(PostingConformance, ParkingConformance):
    """What every store must do, whatever its medium."""

    def make(self, where: Path, *, beat: float | None = None) -> Store:
        """A store that is not started, with its logs at `where`; `beat` is the seconds between two beats of its lease."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def another(self, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Opener]:
        """Opens stores at one place, by owner; closes them after the test."""
        opened: list[Store] = []

        async def start(owner: str, *, beat: float | None = None) -> Store:
            store = self.make(tmp_path, beat=beat)
            await store.start(owner)
            opened.append(store)
            return store

        yield start
        for store in reversed(opened):
            await store.aclose()

    @pytest.fixture
    async def store(self, another: Opener) -> Store:
        return await another(OWNER)

    lease = Lease(OWNER)
    pytestmark = pytest.mark.anyio

    # The log

    async def test_appends_are_read_in_order(self, store: Store) -> None:
        assert await store.open(LOG, b"", records=records(0, 2)) == LOG
        for after in range(2, 12, 2):
            await store.append(LOG, after, records(after, 2), lease=self.lease)
        assert await whole(store, LOG) == records(0, 12)
        assert await whole(store, LOG, 5) == records(5, 7)

    async def test_appends_in_flight_together_are_stored_in_order(self, store: Store) -> None:
        await store.open(LOG, b"")
        flying = [store.append(LOG, n, records(n, 1), lease=self.lease) for n in range(50)]
        await asyncio.gather(*flying)
        assert await whole(store, LOG) == records(0, 50)

    async def test_many_appends_of_many_logs_under_way(self, store: Store) -> None:
        names = [f"run/{n}" for n in range(5)]
        wanted = {name: records(0, 300, size=10 * n) for n, name in enumerate(names)}
        for name in names:
            await store.open(name, b"")
        flying: list[asyncio.Future[None]] = []
        for after in range(0, 300, 3):  # one record, then two, of each log; now and then the store gets a turn
            for name in names:
                first, second = wanted[name][after : after + 1], wanted[name][after + 1 : after + 3]
                flying.append(store.append(name, after, first, lease=self.lease))
                flying.append(store.append(name, after + 1, second, lease=self.lease, ended=after == 297))
            if after % 40 == 0:
                page = await store.read(names[0], 0)
                assert list(page.records) == wanted[names[0]][: len(page.records)]
        await asyncio.gather(*flying)
        for name in names:
            assert await whole(store, name) == wanted[name]
            assert (await store.read(name, 300)).ended

    async def test_what_is_read_is_stored(self, store: Store) -> None:
        await store.open(LOG, b"")
        for after in range(5):
            future = store.append(LOG, after, records(after, 1), lease=self.lease)
            page = await store.read(LOG, after)
            assert not page.records or future.done()
            await future
            assert (await store.read(LOG, after)).records[0].seq == after + 1

    async def test_data_of_any_bytes(self, store: Store) -> None:
        hostile = [Record(1, 0.25, b""), Record(2, 1e9 + 0.125, b"\0\r\n"), Record(3, 3.0, bytes(range(256)) * 300)]
        await store.open(LOG, b"\0head", records=hostile)
        assert await whole(store, LOG) == hostile
        tail = await store.tail(LOG)
        assert tail is not None and tail.head == b"\0head"

    async def test_a_cancelled_wait_cancels_no_append(self, store: Store) -> None:
        await store.open(LOG, b"")
        first = store.append(LOG, 0, records(0, 1), lease=self.lease)

        async def wait(future: asyncio.Future[None]) -> None:
            await future

        waiting = asyncio.create_task(wait(first))
        await asyncio.sleep(0)
        waiting.cancel()
        await store.append(LOG, 1, records(1, 1), lease=self.lease)
        await asyncio.wait([waiting])
        assert await whole(store, LOG) == records(0, 2)

    # The fence

    async def test_a_wrong_predecessor_is_a_conflict(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 2))
        for after in (0, 1, 3, 7):
            with pytest.raises(Conflict):
                await store.append(LOG, after, records(after, 3), lease=self.lease)
        assert await whole(store, LOG) == records(0, 2)

    async def test_a_wrong_lease_is_a_conflict(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        for lease in (Lease("other"), Lease(OWNER, 2), Lease(OWNER, 0), Lease("")):
            with pytest.raises(Conflict):
                await store.append(LOG, 1, records(1, 1), lease=lease)
        with pytest.raises(Conflict):
            await store.append("run/unknown", 0, records(0, 1), lease=self.lease)
        assert await whole(store, LOG) == records(0, 1)

    async def test_repeating_the_last_append_changes_nothing(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        first = store.append(LOG, 1, records(1, 3), lease=self.lease)
        again = store.append(LOG, 1, records(1, 3), lease=self.lease)
        await asyncio.gather(first, again)
        await store.append(LOG, 1, records(1, 3), lease=self.lease)
        assert await whole(store, LOG) == records(0, 4)
        await store.append(LOG, 4, records(4, 1), lease=self.lease)
        with pytest.raises(Conflict):
            await store.append(LOG, 1, records(1, 3), lease=self.lease)

    async def test_the_last_append_may_be_repeated_while_others_are_under_way(self, store: Store) -> None:
        await store.open(LOG, b"")
        await store.open("run/b", b"")
        flying = [store.append(LOG, n, records(n, 1), lease=self.lease) for n in range(3)]
        flying.append(store.append("run/b", 0, records(0, 2), lease=self.lease))
        flying.append(store.append(LOG, 3, records(3, 2), lease=self.lease))
        for _ in range(2):
            flying.append(store.append(LOG, 3, records(3, 2), lease=self.lease))
        flying.append(store.append("run/b", 0, records(0, 2), lease=self.lease))
        with pytest.raises(Conflict):  # not the last
            await store.append(LOG, 2, records(2, 1), lease=self.lease)
        with pytest.raises(Conflict):  # not the same
            await store.append(LOG, 3, records(3, 2, size=9), lease=self.lease)
        flying.append(store.append(LOG, 5, records(5, 1), lease=self.lease, ended=True))
        flying.append(store.append(LOG, 5, records(5, 1), lease=self.lease, ended=True))
        await asyncio.gather(*flying)
        assert await whole(store, LOG) == records(0, 6)
        assert await whole(store, "run/b") == records(0, 2)

    async def test_an_end_behind_other_appends_may_be_repeated(self, store: Store) -> None:
        await store.open(LOG, b"")
        flying = [store.append(LOG, n, records(n, 1), lease=self.lease) for n in range(2)]
        flying += [store.append(LOG, 2, [], lease=self.lease, ended=True) for _ in range(2)]
        await asyncio.gather(*flying)
        await store.append(LOG, 2, [], lease=self.lease, ended=True)
        with pytest.raises(Conflict):
            await store.append(LOG, 2, records(2, 1), lease=self.lease, ended=True)
        assert await whole(store, LOG) == records(0, 2)

    async def test_a_lease_hears_of_nothing_while_appends_succeed(self, store: Store) -> None:
        told: list[StoreError] = []
        lease = Lease(OWNER, 1, told.append)
        await store.open(LOG, b"")
        await asyncio.gather(*(store.append(LOG, n, records(n, 1), lease=lease) for n in range(5)))
        with pytest.raises(Conflict):  # refused at once: whoever called knows
            await store.append(LOG, 1, records(1, 1, size=9), lease=lease)
        await store.append(LOG, 5, [], lease=lease, ended=True)
        await store.drop(LOG)
        assert told == []

    async def test_nothing_follows_the_end(self, store: Store) -> None:
        await store.open(LOG, b"")
        await store.append(LOG, 0, records(0, 2), lease=self.lease, ended=True)
        await store.append(LOG, 0, records(0, 2), lease=self.lease, ended=True)
        for more in (records(2, 1), []):
            with pytest.raises(Conflict):
                await store.append(LOG, 2, more, lease=self.lease, ended=True)
        page = await store.read(LOG, 0)
        assert page.records == records(0, 2) and page.ended

    async def test_an_end_without_records(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        assert not (await store.read(LOG, 1)).ended
        await store.append(LOG, 1, [], lease=self.lease, ended=True)
        await store.append(LOG, 1, [], lease=self.lease, ended=True)
        assert await store.read(LOG, 1) == Page((), False, True)

    # Pages

    async def test_pages_keep_to_their_limit_and_move_on(self, store: Store) -> None:
        wanted = records(0, 60, size=100)
        await store.open(LOG, b"", records=wanted[:1])
        await store.append(LOG, 1, wanted[1:], lease=self.lease, ended=True)
        for limit in (1, 300, 1000, 4000):
            page = await store.read(LOG, 3, limit)
            assert page.more and not page.ended
            assert page.records[0].seq == 4 and sum(len(r.data) for r in page.records) <= max(limit, 100)
            assert await whole(store, LOG, 3, limit) == wanted[3:]
        page = await store.read(LOG, 59)
        assert not page.more and page.ended and list(page.records) == wanted[59:]

    async def test_a_record_over_the_limit_comes_alone(self, store: Store) -> None:
        wanted = records(0, 3, size=2 * BATCH_BYTES)
        await store.open(LOG, b"", records=wanted)
        assert list((await store.read(LOG, 0)).records) == wanted[:1]
        assert await whole(store, LOG) == wanted

    async def test_a_read_beyond_the_end_is_empty(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        for after in (1, 2, 100):
            assert await store.read(LOG, after) == Page((), False, False)

    # Head and tail

    async def test_the_tail_tells_where_the_log_ends(self, store: Store) -> None:
        assert await store.tail(LOG) is None
        await store.open(LOG, b"h1", records=records(0, 1))
        assert await store.tail(LOG) == (1, 1, False, 1, b"h1", OWNER)
        await store.append(LOG, 1, records(1, 2), lease=self.lease, head=b"h2")
        assert await store.tail(LOG) == (1, 3, False, 1, b"h2", OWNER)
        await store.append(LOG, 3, [], lease=self.lease, head=b"h3")
        await store.append(LOG, 3, records(3, 1), lease=self.lease, ended=True)
        tail = await store.tail(LOG)
        assert tail is not None and tail[:5] == (1, 4, True, 1, b"h3")

    # Opening

    async def test_a_log_is_opened_once(self, store: Store) -> None:
        await store.open(LOG, b"first")
        with pytest.raises(Conflict):
            await store.open(LOG, b"second")
        tail = await store.tail(LOG)
        assert tail is not None and tail.head == b"first"

    async def test_an_idempotency_key_names_the_log_that_won(self, store: Store) -> None:
        assert await store.open(LOG, b"", key="k", fingerprint=b"f") == LOG
        assert await store.open("run/b", b"", key="k", fingerprint=b"f") == LOG
        assert await store.tail("run/b") is None
        with pytest.raises(Mismatch):
            await store.open("run/b", b"", key="k", fingerprint=b"other")
        await store.drop(LOG)
        assert await store.open("run/b", b"", key="k", fingerprint=b"other") == "run/b"

    async def test_a_log_that_is_not_opened_leaves_its_key_free(self, store: Store) -> None:
        await store.open(LOG, b"first", key="j")
        with pytest.raises(Conflict):
            await store.open(LOG, b"second", key="k", fingerprint=b"f")
        assert await store.open("run/b", b"", key="k", fingerprint=b"f") == "run/b"
        assert await store.open("run/c", b"", key="j") == LOG

    async def test_racing_opens_of_one_key_have_one_winner(self, store: Store) -> None:
        won = await asyncio.gather(*(store.open(f"run/{n}", b"", key="k", fingerprint=b"f") for n in range(20)))
        assert len(set(won)) == 1
        made = [n for n in range(20) if await store.tail(f"run/{n}") is not None]
        assert [f"run/{n}" for n in made] == [won[0]]

    # Bells

    async def test_bells_ring_for_every_change(self, store: Store) -> None:
        async def changes(log: str, change: Callable[[], Awaitable[object]]) -> bool:
            bell = Ear(store.changed(log))
            await change()
            return await rung(bell)

        assert await changes(LOG, lambda: store.open(LOG, b""))
        assert await changes(LOG, lambda: store.append(LOG, 0, records(0, 1), lease=self.lease))
        assert await changes(LOG, lambda: store.append(LOG, 1, [], lease=self.lease, ended=True))
        assert await changes(LOG, lambda: store.drop(LOG))
        assert await changes("control/a", lambda: store.post("control/a", b"1"))
        assert await changes("control/a", lambda: store.post("control/a", b"2"))
        assert await changes("control/a", lambda: store.drop("control/a"))

    async def test_a_bell_is_quiet_while_nothing_changes(self, store: Store) -> None:
        await store.open(LOG, b"")
        bell = Ear(store.changed(LOG))
        await store.open("run/b", b"")
        await store.append("run/b", 0, records(0, 1), lease=self.lease)
        assert not bell.heard.is_set()

    async def test_cursors_beside_a_writer_lose_nothing(self, store: Store) -> None:
        await store.open(LOG, b"")

        async def follow(batch: int) -> list[Record]:
            cursor, found = Cursor(store, LOG, batch=batch), list[Record]()
            while not cursor.ended:
                found += await cursor.next(PATIENCE)
            cursor.close()
            return found

        async def write() -> None:
            for after in range(0, 200, 2):
                await store.append(LOG, after, records(after, 2), lease=self.lease, ended=after == 198)

        *followed, _ = await asyncio.gather(*(follow(batch) for batch in (1, 500, BATCH_BYTES)), write())
        assert followed == [records(0, 200)] * 3

    async def test_closing_rings(self, store: Store) -> None:
        await store.open(LOG, b"")
        bells = [Ear(store.changed(LOG)), Ear(store.changed("control/a"))]
        await store.aclose()
        assert all([await rung(bell) for bell in bells])

    # Dropping

    async def test_a_dropped_log_is_gone(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 3))
        await store.append(LOG, 3, records(3, 1), lease=self.lease)
        await store.drop(LOG)
        await store.drop("run/unknown")
        for log in (LOG, "run/unknown"):
            with pytest.raises(Gone) as gone:
                await store.read(log, 0)
            assert gone.value.code == "not_found"
            assert await store.tail(log) is None
        with pytest.raises(Conflict):
            await store.append(LOG, 4, records(4, 1), lease=self.lease)
        await store.open(LOG, b"", records=records(0, 1, size=9))
        assert await whole(store, LOG) == records(0, 1, size=9)

    async def test_old_logs_expire(self, store: Store) -> None:
        if not isinstance(store, Expiring):
            pytest.skip("keeps everything")
        for name in ("run/old", "run/live"):
            await store.open(name, b"", records=records(0, 1), key=name)
        await store.append("run/old", 1, [], lease=self.lease, ended=True)
        bell = Ear(store.changed("run/old"))
        assert await store.expire(time.time() - 60) == []
        assert list(await store.expire(time.time() + 60)) == ["run/old"]
        assert await rung(bell)
        assert await whole(store, "run/live") == records(0, 1)
        with pytest.raises(Gone) as gone:
            await store.read("run/old", 0)
        assert gone.value.code == "expired"
        with pytest.raises(Gone):
            await store.tail("run/old")
        with pytest.raises(Conflict):
            await store.open("run/old", b"")
        assert await store.open("run/new", b"", key="run/old") == "run/new"

    async def test_logs_are_listed_newest_first(self, store: Store) -> None:
        if not isinstance(store, Listing):
            pytest.skip("cannot list")
        for n in range(6):
            await store.open(f"run/{n}", str(n).encode(), principal="ab"[n % 2], records=records(0, n))
        await store.open("other/1", b"")
        await store.post("run/posts", b"")

        async def names(*args: str | int | None) -> Sequence[str]:
            return [name for name, _ in await store.list(*args)]  # type: ignore[arg-type]

        assert await names("run/", None, 100) == [f"run/{n}" for n in (5, 4, 3, 2, 1, 0)]
        assert await names("run/", "a", 2) == ["run/4", "run/2"]
        assert await names("run/", "nobody", 2) == []
        for name, tail in await store.list("", None, 100):
            assert tail == await store.tail(name)
