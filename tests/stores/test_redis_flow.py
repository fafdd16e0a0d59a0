"""What gathers goes together, and each log hears what became of its own. No Redis: the answers are given here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.parts import PATIENCE, turns

from tidelog.errors import Conflict, StoreError
from tidelog.log import Lease, Record
from tidelog.stores.redis import calls
from tidelog.stores.redis.flow import FLIGHTS, Flow
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.lane import Lane
from tidelog.stores.redis.wire import Wire

pytestmark = pytest.mark.anyio
TTL = 1000


def record(seq: int) -> Record:
    return Record(seq, 1.0, b"%d" % seq)


class Asked:
    """A flow, the groups that it sent, and what they are answered."""

    def __init__(self) -> None:
        self.sent: list[Sequence[bytes]] = []
        self.answers: list[asyncio.Future[Sequence[int]]] = []
        self.ended: list[str] = []
        self._sendings = asyncio.Semaphore(0)
        self.flow = Flow(
            self._send,
            self._lane,
            "me",
            ttl=TTL,
            patience=5.0,
            lost=self._lost,
            left=lambda lane: None,
            ended=self.ended.append,
        )

    def _lane(self, log: str, lease: Lease, after: int) -> Lane:
        lane = Lane(log, Keys("t").of(log), lease, base=after)
        lane.prefix = calls.prefix(lane, TTL)
        return lane

    async def _send(self, packed: Sequence[bytes]) -> Sequence[int]:
        self.sent.append(packed)
        self.answers.append(asyncio.get_running_loop().create_future())
        self._sendings.release()
        return await self.answers[-1]

    async def _lost(self, refused: Sequence[tuple[Lane, int]]) -> Sequence[bool]:
        return [False] * len(refused)

    async def flies(self) -> None:
        """Until the next group is sent."""
        await self._sendings.acquire()


async def test_one_of_a_group_is_refused() -> None:
    asked, told = Asked(), list[StoreError]()
    good = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
    bad = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    silent = asked.flow.append("run/c", 0, (record(1),), Lease("me", 1, told.append))
    await asked.flies()
    asked.answers[0].set_result([1, -1, -1])
    await good
    with pytest.raises(Conflict):
        await bad
    await silent  # of many logs: the lease was told before
    assert len(told) == 1
    assert asked.flow.lanes.keys() == {"run/a"}
    assert asked.flow.lanes["run/a"].stored == 1


async def test_what_comes_while_a_group_flies_is_the_next_one() -> None:
    asked, lease = Asked(), Lease("me", 1, lambda error: None)
    first = asked.flow.append("run/a", 0, (record(1),), lease)
    assert asked.flow.append("run/b", 0, (record(1),), lease) is first
    await asked.flies()
    second = asked.flow.append("run/a", 1, (record(2), record(3)), lease, b"head", True)
    assert second is not first
    assert asked.flow.append("run/a", 1, (record(2), record(3)), lease, b"head", True) is second  # repeated
    asked.answers[0].set_result([1, 1])
    await asked.flies()
    lane = asked.flow.lanes["run/a"]
    assert (lane.stored, lane.ended, asked.ended) == (1, False, [])
    asked.answers[1].set_result([1])
    await second
    assert (lane.stored, lane.head, lane.ended, asked.ended) == (3, b"head", True, ["run/a"])
    assert [len(packed) for packed in asked.sent] == [2, 1]


async def test_other_logs_do_not_wait_for_a_group_that_flies() -> None:
    """A log is in one group at a time that is under way; what comes of it goes behind that, with what gathers then."""
    asked, lease = Asked(), Lease("me", 1, lambda error: None)
    asked.flow.append("run/a", 0, (record(1),), lease)
    await asked.flies()
    behind = asked.flow.append("run/a", 1, (record(2),), lease)
    other = asked.flow.append("run/b", 0, (record(1),), lease)
    await asked.flies()
    asked.answers[1].set_result([1])
    await other
    assert not behind.done()
    a = asked.flow.lanes["run/a"]
    assert (a.stored, asked.flow.lanes["run/b"].stored) == (0, 1)
    asked.answers[0].set_result([1])
    await asked.flies()
    assert (a.stored, behind.done()) == (1, False)
    asked.answers[2].set_result([1])
    await behind
    assert a.stored == 2
    assert [len(packed) for packed in asked.sent] == [1, 1, 1]


async def test_so_many_groups_fly_and_the_rest_gathers() -> None:
    asked, lease = Asked(), Lease("me", 1, lambda error: None)
    for number in range(FLIGHTS):
        asked.flow.append(f"run/{number}", 0, (record(1),), lease)
        await asked.flies()
    futures = [asked.flow.append(f"run/late-{number}", 0, (record(1),), lease) for number in range(3)]
    again = [asked.flow.append(f"run/{number}", 1, (record(2),), lease) for number in range(FLIGHTS)]
    await turns(5)
    assert len(asked.sent) == FLIGHTS
    asked.answers[2].set_result([1])  # what followed it goes with the rest
    await asked.flies()
    assert len(asked.sent[-1]) == 3 + 1
    asked.answers[-1].set_result([1] * 4)
    await asyncio.gather(*futures, again[2])
    assert not any(future.done() for number, future in enumerate(again) if number != 2)
    assert asked.flow.lanes["run/2"].stored == 2
    for number in (3, 1, 0):
        asked.answers[number].set_result([1])
    await asked.flies()
    closing = asyncio.create_task(asked.flow.close())
    while not closing.done():
        for answer, packed in zip(asked.answers, asked.sent, strict=True):
            if not answer.done():
                answer.set_result([1] * len(packed))
        await turns()
    assert all(future.done() and future.exception() is None for future in again)
    assert {lane.stored for name, lane in asked.flow.lanes.items() if "late" not in name} == {2}


@pytest.mark.parametrize("flights", [1, FLIGHTS])
async def test_who_waits_for_a_log_that_is_forgotten_behind_a_group_waits_no_more(flights: int) -> None:
    """For its own next group, or for the one that gathers while so many are under way as there may be."""
    asked, lease = Asked(), Lease("me", 1, lambda error: None)
    for number in range(flights):
        asked.flow.append(f"run/{number}", 0, (record(1),), lease)
        await asked.flies()
    name, after = ("run/0", 1) if flights == 1 else ("run/late", 0)
    asked.flow.append(name, after, (record(after + 1),), lease)
    waits = asyncio.create_task(asked.flow.settled(asked.flow.lanes[name]))
    await asyncio.sleep(0)
    asked.flow.forget(name)
    for answer in asked.answers:
        answer.set_result([1])
    with pytest.raises(Conflict):
        await asyncio.wait_for(waits, PATIENCE)
    await asyncio.wait_for(asked.flow.close(), PATIENCE)


async def test_what_gathers_behind_a_group_is_forgotten_with_its_log() -> None:
    asked = Asked()
    asked.flow.append("run/a", 0, (record(1),), Lease("me"))
    await asked.flies()
    behind = asked.flow.append("run/a", 1, (record(2),), Lease("me"), b"head", True)
    asked.flow.forget("run/a")
    with pytest.raises(Conflict):
        await behind
    asked.answers[0].set_result([1])
    await asyncio.wait_for(asked.flow.close(), PATIENCE)
    assert len(asked.sent) == 1
    assert not asked.ended


async def test_a_group_of_which_all_logs_were_forgotten_is_not_sent() -> None:
    """Nobody would answer, and everything else would wait for that. One is forgotten while it gathers, one in its last moment."""
    asked = Asked()
    for last_moment in (False, True):
        future = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
        if last_moment:
            await asyncio.sleep(0)
        assert bool(asked.flow._flying) == last_moment
        asked.flow.forget("run/a")
        with pytest.raises(Conflict):
            await future
    other = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    await asked.flies()
    assert [len(packed) for packed in asked.sent] == [1]
    asked.answers[0].set_result([1])
    await other


async def test_a_log_that_is_forgotten_hears_of_it_and_the_others_go_on() -> None:
    asked = Asked()
    flying = asked.flow.append("run/a", 0, (record(1),), Lease("me"))
    other = asked.flow.append("run/b", 0, (record(1),), Lease("me"))
    await asked.flies()
    gathering = asked.flow.append("run/a", 1, (record(2),), Lease("me"))
    asked.flow.forget("run/a")
    asked.answers[0].set_result([1, 1])
    await other
    for future in (flying, gathering):
        with pytest.raises(Conflict):
            await future
    await asked.flow.close()
    assert len(asked.sent) == 1  # nothing is left to send


@pytest.mark.parametrize("cut", [*range(4, 45, 4)])
async def test_answers_of_many_batches_come_together(cut: int) -> None:
    transport = SimpleNamespace(set_protocol=lambda protocol: None, write=lambda data: None)
    wire = Wire(cast(Any, SimpleNamespace(_writer=SimpleNamespace(transport=transport))))
    batches = [wire.send([b"a"] * size, plain=plain) for size, plain in ((2, True), (1, True), (3, False), (4, True))]
    text = b":1\r\n" * 10
    for start in range(0, len(text), cut):
        wire.data_received(text[start : start + cut])
    assert [await batch for batch in batches] == [[1, 1], [1], [1, 1, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("cut", range(1, 12))
async def test_answers_come_in_any_pieces(cut: int) -> None:
    transport = SimpleNamespace(set_protocol=lambda protocol: None, write=lambda data: None)
    wire = Wire(cast(Any, SimpleNamespace(_writer=SimpleNamespace(transport=transport))))
    nothing = wire.send([])
    plain, mixed = wire.send([b"a", b"b"], plain=True), wire.send([b"a", b"WAIT"])
    text = b":1\r\n:-1\r\n:1\r\n:1\r\n"
    for start in range(0, len(text), cut):
        wire.data_received(text[start : start + cut])
    assert await nothing == []
    assert await plain == [1, -1]
    assert await mixed == [1, 1]
