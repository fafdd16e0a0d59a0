"""A thread is an ordered log of runs that belongs to a principal."""

from __future__ import annotations

import asyncio

import pytest

from tidelog import threads
from tidelog.stores.memory import MemoryStore
from tidelog.threads import Entry

pytestmark = pytest.mark.anyio


async def test_runs_stand_in_order_and_belong_to_one_principal() -> None:
    store = MemoryStore()
    await store.start("me")
    wanted = [Entry(f"run{n}", f"run{n - 1}" if n else None, "retry" if n else None) for n in range(3)]
    for entry in wanted:
        await threads.add(store, "t", "ann", entry)
    assert await threads.entries(store, "t", "ann") == wanted
    for principal in (None, "bob", "an"):
        assert await threads.entries(store, "t", principal) == []
    await threads.drop(store, "t", "bob")
    assert len(await threads.entries(store, "t", "ann")) == 3
    await threads.drop(store, "t", "ann")
    assert await threads.entries(store, "t", "ann") == []


async def test_a_long_thread_is_read_whole() -> None:
    """One page of the store holds about 1,500 entries."""
    store = MemoryStore()
    await store.start("me")
    await asyncio.gather(*(threads.add(store, "t", None, Entry(f"{n:026}")) for n in range(4000)))
    assert [entry.run for entry in await threads.entries(store, "t", None)] == [f"{n:026}" for n in range(4000)]
