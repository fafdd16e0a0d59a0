"""The part of the suite for logs that many write."""

from __future__ import annotations

import asyncio
import time

import pytest

from tidelog.errors import Conflict
from tidelog.log import Lease
from tidelog.seams import Store
from tidelog.testing.conformance.reading import LOG, OWNER, Ear, records, rung, whole


class PostingConformance:
    """What `seams.Store.post` promises, and the entry of `open`, in one process."""

    async def test_posts_are_numbered_by_the_store(self, store: Store) -> None:
        numbers = await asyncio.gather(*(store.post("control/a", str(n).encode()) for n in range(30)))
        assert sorted(numbers) == list(range(1, 31))
        found = await whole(store, "control/a")
        assert [record.seq for record in found] == list(range(1, 31))
        assert [found[number - 1].data for number in numbers] == [str(n).encode() for n in range(30)]
        assert abs(found[0].at - time.time()) < 3600

    async def test_what_is_posted_once_is_there_once(self, store: Store) -> None:
        first = await store.post("thread/a", b"a", once=True)
        for data in (b"aa", b"a ", b"", b"b"):  # whatever comes between, and is like it
            await store.post("thread/a", data, once=True)
        assert await store.post("thread/b", b"a", once=True) == 1
        assert await asyncio.gather(*(store.post("thread/a", b"a", once=True) for _ in range(10))) == [first] * 10
        assert await store.post("thread/a", b"aa", once=True) == 2
        assert await store.post("thread/a", b"c") == 6
        assert await store.post("thread/a", b"c") == 7, "what may be there twice"
        assert [one.data for one in await whole(store, "thread/a")] == [b"a", b"aa", b"a ", b"", b"b", b"c", b"c"]
        await store.drop("thread/a")
        assert await store.post("thread/a", b"a", once=True) == 1
        assert len(await whole(store, "thread/a")) == 1

    async def test_posts_and_appends_do_not_mix(self, store: Store) -> None:
        await store.open(LOG, b"", records=records(0, 1))
        with pytest.raises(Conflict):
            await store.post(LOG, b"x")
        await store.post("control/a", b"x")
        with pytest.raises(Conflict):
            await store.append("control/a", 1, records(1, 1), lease=Lease(OWNER))
        assert await whole(store, LOG) == records(0, 1)

    async def test_an_entry_is_posted_with_the_log_that_it_names(self, store: Store) -> None:
        bell = Ear(store.changed("thread/a"))
        await store.open(LOG, b"", records=records(0, 1), entry=("thread/a", b"1"))
        assert await rung(bell)
        assert [record.data for record in await whole(store, "thread/a")] == [b"1"]
        assert await store.post("thread/a", b"1", once=True) == 1
        assert await store.post("thread/a", b"2") == 2
        assert await whole(store, LOG) == records(0, 1)

    async def test_no_entry_is_posted_where_another_log_has_won(self, store: Store) -> None:
        await store.open(LOG, b"", key="k", fingerprint=b"f", entry=("thread/a", b"1"))
        assert await store.open("run/b", b"", key="k", fingerprint=b"f", entry=("thread/b", b"1")) == LOG
        assert await store.tail("thread/b") is None


class SharedPostingConformance:
    """What it promises over processes."""

    async def test_posts_of_many_processes_have_dense_numbers(self, store: Store, other: Store) -> None:
        posts = [(store, other)[n % 2].post("control/a", str(n).encode()) for n in range(40)]
        assert sorted(await asyncio.gather(*posts)) == list(range(1, 41))
        assert await whole(store, "control/a") == await whole(other, "control/a")

    async def test_what_is_posted_once_is_there_once_over_processes(self, store: Store, other: Store) -> None:
        posts = [(store, other)[n % 2].post("thread/a", str(n // 4).encode(), once=True) for n in range(40)]
        numbers = await asyncio.gather(*posts)
        assert [set(numbers[start : start + 4]) for start in range(0, 40, 4)] == [
            {numbers[start]} for start in range(0, 40, 4)
        ]
        assert sorted(set(numbers)) == list(range(1, 11))
        assert len(await whole(other, "thread/a")) == 10
