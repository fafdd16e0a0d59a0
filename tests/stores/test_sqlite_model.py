"""Any sequence of operations gives the same reads from SQLite as from memory, wherever chunks and windows end."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count

from tidelog import window
from tidelog.errors import Gone, TidelogError
from tidelog.log import Lease, Record
from tidelog.seams import Store
from tidelog.stores.memory import MemoryStore
from tidelog.stores.sqlite import SqliteStore, journal
from tidelog.testing.conformance import whole

OWNER = "one"
SMALL = {
    (journal, "CHUNK_BYTES"): 300,
    (journal, "MOVE_EVERY"): 0.0,
    (window, "WINDOW_RECORDS"): 6,
    (window, "WINDOW_BYTES"): 2000,
}

names = st.sampled_from(["run/a", "run/b"])
sizes = st.lists(st.integers(0, 120), max_size=9)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("open"), names, sizes),
        st.tuples(st.just("append"), names, sizes, st.booleans(), st.integers(0, 12).map(lambda n: n == 0)),
        st.tuples(st.just("pipeline"), names, sizes),
        st.tuples(st.just("repeat"), names),
        st.tuples(st.just("post"), st.sampled_from(["control/a", "run/a"])),
        st.tuples(st.just("drop"), st.sampled_from(["run/a", "control/a"])),
    ),
    max_size=25,
)


class Actor:
    """Does operations to a store and keeps what its writer would remember."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.last: dict[str, int] = {}
        self.calls: dict[str, tuple[int, list[Record]]] = {}

    async def do(self, operation: tuple[Any, ...]) -> str:
        try:
            return str(await getattr(self, f"_{operation[0]}")(*operation[1:]))
        except TidelogError as error:
            return f"{type(error).__name__} {error.code}"

    async def _open(self, log: str, sizes: list[int]) -> None:
        await self.store.open(log, b"head", records=_records(0, sizes))
        self.last[log] = len(sizes)
        self.calls.pop(log, None)

    async def _append(self, log: str, sizes: list[int], headed: bool, ended: bool) -> None:
        after = self.last.get(log, 0)
        batch = _records(after, sizes)
        head = b"head%d" % after if headed else None
        await self.store.append(log, after, batch, lease=Lease(OWNER), head=head, ended=ended)
        self.last[log] = after + len(batch)
        self.calls[log] = after, batch

    async def _pipeline(self, log: str, sizes: list[int]) -> None:
        after = self.last.get(log, 0)
        batch = _records(after, sizes)
        flying = [self.store.append(log, each.seq - 1, [each], lease=Lease(OWNER)) for each in batch]
        outcomes = await asyncio.gather(*flying, return_exceptions=True)
        for error in filter(None, outcomes):
            raise error
        if batch:
            self.last[log] = batch[-1].seq
            self.calls[log] = batch[-1].seq - 1, batch[-1:]

    async def _repeat(self, log: str) -> None:
        if log in self.calls and self.calls[log][1]:
            after, batch = self.calls[log]
            await self.store.append(log, after, batch, lease=Lease(OWNER))

    async def _post(self, log: str) -> int:
        return await self.store.post(log, b"posted")

    async def _drop(self, log: str) -> None:
        await self.store.drop(log)
        self.last.pop(log, None)
        self.calls.pop(log, None)


def _records(after: int, sizes: list[int]) -> list[Record]:
    return [Record(after + n, 0.5 * n, bytes([65 + n]) * size) for n, size in enumerate(sizes, 1)]


async def picture(store: Store) -> list[Any]:
    """Everything that can be read, from every place."""
    seen: list[Any] = []
    for log in ("run/a", "run/b", "control/a"):
        tail = await store.tail(log)
        seen.append(tail and tail[:5])
        try:
            ended = (await store.read(log, tail.last if tail else 0)).ended
        except Gone as gone:
            seen.append(gone.code)
            continue
        seen.append(ended)
        for after in range(tail.last + 2 if tail else 1):
            found = await whole(store, log, after, 1 + 97 * after)
            seen.append([(record.seq, record.data, record.epoch) for record in found])
    return seen


@given(operations, st.sampled_from([0.0, 1000.0]))
@settings(max_examples=count(30, 1000), deadline=None)
def test_sqlite_reads_like_memory(done: list[tuple[Any, ...]], chunk_seconds: float) -> None:
    async def compare(folder: str) -> None:
        url = f"sqlite:///{folder}/logs.db?beat=100"
        model, tested = Actor(MemoryStore()), Actor(SqliteStore(url))
        other = SqliteStore(url)
        for store in (model.store, tested.store):
            await store.start(OWNER)
        await other.start("two")
        for operation in done:
            assert await model.do(operation) == await tested.do(operation), operation
            wanted = await picture(model.store)
            assert await picture(tested.store) == wanted, operation
            assert await picture(other) == wanted, operation
        await tested.store.aclose()
        assert await picture(model.store) == await picture(other)
        await other.aclose()
        later = SqliteStore(url)
        await later.start("three")
        assert await picture(model.store) == await picture(later)
        await later.aclose()

    with tempfile.TemporaryDirectory() as folder, patch.object(journal, "CHUNK_SECONDS", chunk_seconds):
        patches = [patch.object(*place, value) for place, value in SMALL.items()]
        for each in patches:
            each.start()
        try:
            asyncio.run(compare(folder))
        finally:
            for each in patches:
                each.stop()
