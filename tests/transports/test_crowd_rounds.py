"""Rounds that take longer than text is held back: each member is told what there is when its turn has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from tests.parts import ENDED, PATIENCE, turns, until
from tests.transports.test_crowd import FEWEST, LOG, MANY, Many, Wire, many, text

from tidelog import events as e
from tidelog.log import Lease, Record
from tidelog.transports import crowd as crowds
from tidelog.transports.deliver import SLICE_BYTES
from tidelog.transports.viewer import Leader

pytestmark = pytest.mark.anyio

FEW = MANY - FEWEST
"""Members that share a place in the rounds of these tests, at least."""


@pytest.fixture(autouse=True)
def _slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """One member is written to in each turn of the loop."""
    monkeypatch.setattr(crowds, "AT_ONCE", 1)


async def level(window: float = 0.03) -> Many:
    """Many who have had the same, in a crowd that has nothing to do."""
    all_ = await many(window=window)
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await until(lambda: all_.crowd.open and len(all_.crowd._members) >= FEW)
    return all_


def store(all_: Many, *events: e.Event) -> None:
    """Store these without a turn of the loop."""
    for event in events:
        all_.seq, all_.at = all_.seq + 1, all_.at + 0.0001
        record = Record(all_.seq, all_.at, e.encode(event))
        all_.store.append(LOG, all_.seq - 1, [record], Lease("me"), ended=event is ENDED)


def told_of(all_: Many, before: dict[Wire, int]) -> list[int]:
    """How many writes each member has had since."""
    return [len(wire.writes) - before[wire] for wire in members(all_)]


def members(all_: Many) -> list[Wire]:
    return [one._direct for one in all_.crowd._members]  # type: ignore[misc]


async def shortly(condition: Callable[[], object]) -> None:
    """Look in each turn of the loop: a round goes on in the next."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        await asyncio.sleep(0)


async def begun(all_: Many, *first: e.Event) -> dict[Wire, int]:
    """A round that has reached its first member; how many writes each has had before."""
    before = {wire: len(wire.writes) for wire in members(all_)}
    all_.at += 10.0
    store(all_, *first)
    await shortly(lambda: not all_.crowd.open)
    return before


async def test_who_comes_later_in_a_round_is_told_what_came_meanwhile() -> None:
    all_ = await level()
    before = await begun(all_, *text("b"))
    store(all_, *text("c"))
    last = members(all_)[-1]
    await shortly(lambda: all_.crowd.open)
    assert last.words == "abc", "in the round that was under way"
    assert len(last.writes) == before[last] + 1
    early = members(all_)[0]
    assert early.words == "ab", "it had its turn before"
    await until(lambda: all(wire.words == "abc" for wire in all_.wires))
    assert len(early.writes) == before[early] + 2
    assert len(last.writes) == before[last] + 1, "it is told nothing twice"
    await all_.gone()


async def test_who_was_early_waits_for_a_window_at_most() -> None:
    """Also where nothing more comes."""
    all_ = await level(window=0.05)
    await begun(all_, *text("b"))
    store(all_, *text("c"))
    began = all_.crowd._began
    await until(lambda: all(wire.words == "abc" for wire in all_.wires))
    assert all_.crowd._began - began >= 0.04, "text is held back for those who have just been told some"
    await all_.gone()


async def test_other_events_are_brought_along_too_and_hold_nobody_back() -> None:
    """Text is held back for those who have just been told some, other events never."""
    all_ = await level(window=60.0)
    await begun(all_, e.Progress(task="t", done=1))
    store(all_, *text("c"), e.Progress(task="t", done=2))
    last = members(all_)[-1]
    await shortly(lambda: all_.crowd.open)
    assert last.seqs == [1, 2, 3, 4, 5]
    await until(lambda: all(wire.seqs == [1, 2, 3, 4, 5] for wire in all_.wires))
    await all_.gone()


async def test_an_end_that_comes_in_mid_round_is_told_to_all_once() -> None:
    all_ = await level()
    await begun(all_, *text("b"))
    store(all_, *text("c"), ENDED)
    for task in all_.tasks:
        assert await task == "ended"
    assert all(wire.seqs == [1, 2, 3, 4, 5] for wire in all_.wires)


@pytest.mark.parametrize("size", [SLICE_BYTES // 2, 3 * SLICE_BYTES])
async def test_a_round_brings_so_much_along_and_the_rest_comes_with_the_next(size: int) -> None:
    """Nobody is told more at once than that, and what a round brought along: members are never far apart."""
    all_ = await level()
    await begun(all_, *text("b"))
    store(all_, e.Data(data="x" * size))
    last = members(all_)[-1]
    await shortly(lambda: all_.crowd.open)
    assert last.seqs == [1, 2, 3]
    await until(lambda: all(wire.seqs == [1, 2, 3, 4] for wire in all_.wires))
    await all_.gone()


async def test_text_all_the_time_is_told_in_rounds_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's task has nothing to do meanwhile: it would read in front of the round, and nothing could be brought along."""
    read, by_task = Leader._send, list[int]()

    async def counted(leader: Leader, records: Sequence[Record]) -> None:
        by_task.append(len(records))
        await read(leader, records)

    all_ = await level(window=0.0)
    monkeypatch.setattr(Leader, "_send", counted)
    before = {wire: len(wire.writes) for wire in members(all_)}
    for word in range(200):
        store(all_, *text(f"{word} "))
        await turns(3)
    await until(lambda: all(wire.seqs[-1] == all_.seq for wire in all_.wires))
    assert {wire.words for wire in all_.wires} == {"a" + "".join(f"{word} " for word in range(200))}
    assert not by_task
    assert max(told_of(all_, before)) < 150, "what came in the course of a round is one write"
    await all_.gone()


async def test_a_member_that_has_read_ahead_is_told_nothing_again() -> None:
    all_ = await level()
    one = next(iter(all_.crowd._members))
    wire = members(all_)[0]
    ahead = all_.seq + 1
    one._cursor.position = ahead  # it was read alone, before it joined
    crowd = all_.crowd
    crowd.go(crowd.position)
    await until(lambda: crowd.open)
    assert one.position == ahead
    assert wire.words == "a"
    one._cursor.position = all_.seq
    await all_.gone()
