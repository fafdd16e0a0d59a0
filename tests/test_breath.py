"""A source that does not wait gives way to the loop; one that waits by itself is not torn in the middle of a burst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.parts import launch, outcome, running

from tidelog.breath import BREATH, BREATH_BYTES, Breath
from tidelog.log import Record
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

LINE = "x" * 66
BURST = 30  # of these, with what a record has around its text: more than half of what takes a breath


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._over = False
        self._turn()

    def _turn(self) -> None:
        self.number += 1
        if not self._over:
            asyncio.get_running_loop().call_soon(self._turn)

    def close(self) -> None:
        self._over = True


def gives_way(breath: Breath, size: int) -> bool:
    """Whether it waits for the loop's next turn."""
    taking = breath.take(size)
    try:
        taking.send(None)
    except StopIteration:
        return False
    with pytest.raises(StopIteration):
        taking.send(None)
    return True


async def test_a_source_that_never_waits_gives_way_again_and_again() -> None:
    breath = Breath(asyncio.get_running_loop())
    assert not gives_way(breath, BREATH_BYTES)
    for size in range(BREATH_BYTES + 1, 10 * BREATH_BYTES, BREATH_BYTES + 1):
        assert gives_way(breath, size)
        assert not gives_way(breath, size + BREATH_BYTES)


async def test_so_does_one_whose_chunks_are_no_text() -> None:
    breath = Breath(asyncio.get_running_loop())
    for _ in range(3):
        breath.chunks = BREATH
        assert not gives_way(breath, 1)
        breath.chunks += 1
        assert gives_way(breath, 1)


async def test_one_that_has_waited_since_need_not() -> None:
    breath = Breath(asyncio.get_running_loop())
    assert gives_way(breath, BREATH_BYTES + 1)
    await asyncio.sleep(0)
    assert not gives_way(breath, 3 * BREATH_BYTES)
    assert gives_way(breath, 5 * BREATH_BYTES), "since then it has not"


class Noting(MemoryStore):
    """Knows in which turn of the loop each text came."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns
        self.came: list[int] = []

    def append(self, log: str, after: int, records: Any, *rest: Any, **more: Any) -> Any:
        def is_text(record: Record) -> bool:
            return LINE.encode() in record.data

        self.came += [self.turns.number] * sum(map(is_text, records))
        return super().append(log, after, records, *rest, **more)


@pytest.mark.parametrize("waits", [True, False])
async def test_bursts_are_whole(waits: bool) -> None:
    """Each is stored in one turn of the loop, so in one commit. A source that never waits is torn: others have their turns."""
    turns = Turns()

    async def source() -> AsyncIterator[str]:
        for _ in range(10):
            if waits:
                await asyncio.sleep(0.001)
            for _ in range(BURST):
                yield LINE

    store = Noting(turns)
    async with running(store) as runner:
        assert await outcome(await launch(runner, source)) == "completed"
    turns.close()
    assert len(store.came) == 10 * BURST
    bursts = [len(set(store.came[at : at + BURST])) for at in range(0, len(store.came), BURST)]
    assert (max(bursts[2:]) == 1) is waits, "behind the first breath, before which nobody has looked"
