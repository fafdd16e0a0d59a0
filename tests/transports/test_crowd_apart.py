"""Members that their crowd lets go, or that stand elsewhere than it does: each still gets everything once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.parts import ENDED, PATIENCE, turns, until
from tests.transports.test_crowd import ENVELOPE, KINDS, LOG, MANY, Kind, Many, Wire, many, text

from tidelog.errors import Gone
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.memory import MemoryStore
from tidelog.transports import crowd as crowds
from tidelog.transports.crowd import Crowd
from tidelog.transports.viewer import FEWEST, Leader, Viewer

pytestmark = pytest.mark.anyio


@KINDS
async def test_who_is_let_go_where_nothing_is_to_be_read_hears_what_comes(kind: Kind) -> None:
    all_ = await many(kind)
    all_.crowd._task.cancel()
    await turns()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()


async def test_a_socket_that_is_full_at_a_heartbeat_is_told_later() -> None:
    all_ = await many()
    slow, leader = all_.wires[-1], all_.crowd._leader
    slow.open = False
    slow.free.clear()
    await leader._beat()
    await turns()
    assert all_.served[-1] not in all_.crowd._members
    slow.open = True
    slow.free.set()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()


class Forgetful(MemoryStore):
    """Keeps the end of no log in memory once it has ended, and takes its time to look it up."""

    def window(self, log: str) -> Window | None:
        found = super().window(log)
        return None if found is None or found.ended else found

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        page = await super().read(log, after, limit)
        await turns()
        return page


async def test_the_end_of_a_log_is_told_once_by_a_pass_of_many_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "AT_ONCE", 2)
    monkeypatch.setattr("tests.transports.test_deliver.MemoryStore", Forgetful)
    all_ = await many()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gathered()
    await all_.say(ENDED)
    assert [await asyncio.wait_for(task, PATIENCE) for task in all_.tasks] == ["ended"] * MANY
    assert [wire.seqs for wire in all_.wires] == [[1, 2, 3]] * MANY


async def newcomer() -> tuple[Many, Any, Crowd]:
    """The last of many, as one that a crowd at 1 finds at 2."""
    all_ = await many()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    member: Any = all_.served[-1]
    all_.crowd.part(member)
    crowd = Crowd((), {}, ENVELOPE, 1)
    crowd.join(member)
    member.crowd = crowd
    crowd._leader = all_.crowd._leader
    return all_, member, crowd


async def test_a_newcomer_is_not_brought_to_where_the_window_does_not_reach() -> None:
    """What the store has told the crowd may be more than what is in memory."""
    all_, member, crowd = await newcomer()
    assert member._cursor.window.stored == 2
    crowd.go(3)
    assert member.position == 2
    await all_.say(*text("b"))
    await until(lambda: all(wire.seqs == [1, 2, 3] for wire in all_.wires))
    await all_.gone()


async def test_a_newcomer_whose_socket_raises_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    all_, member, crowd = await newcomer()
    alone: list[Viewer] = []
    monkeypatch.setattr(Viewer, "go_alone", lambda member: alone.append(member))
    monkeypatch.setattr(Leader, "stretch", lambda *_: 1 / 0)
    crowd.go(3)
    assert alone == [member]
    monkeypatch.undo()
    member.go_alone()
    await all_.gone()


@KINDS
async def test_each_beat_of_the_crowd_is_one_of_each(kind: Kind) -> None:
    all_ = await many(kind)
    await turns()
    late = all_.wires[-4:]
    for beats in range(1, 4):
        for one in all_.served[-4:]:
            one._spoke_at = one._loop.time() - 59.99  # a little later than its leader
        await all_.crowd._leader._beat()
        await turns()
        assert [wire.writes.count(b"\n") for wire in late] == [beats] * 4
    await all_.gone()


async def test_a_leader_that_is_cancelled_while_it_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    monkeypatch.setattr(crowds, "AT_ONCE", 2)
    all_ = await many()
    crowd = all_.crowd
    crowd.go(crowd.position)
    waits = asyncio.create_task(crowd.room())
    await asyncio.sleep(0)
    assert not crowd.open
    waits.cancel()
    await until(lambda: crowd.open)
    assert not told
    await all_.gone()


async def test_a_leader_hears_the_bell_of_those_whom_it_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that lost records before the leader first read has another bell from then on, which says nothing of it."""
    free, plain = asyncio.Event(), Crowd._lead

    async def late(crowd: Crowd) -> None:
        await free.wait()
        await plain(crowd)

    monkeypatch.setattr(Crowd, "_lead", late)
    all_ = await many()
    bell = all_.store.changed(LOG)
    all_.store._logs[LOG].bell = None
    bell.lost = True
    bell.ring()
    free.set()
    ends = await asyncio.wait_for(asyncio.gather(*all_.tasks, return_exceptions=True), PATIENCE)
    assert all(isinstance(end, Gone) for end in ends)


async def test_a_leader_that_is_cancelled_before_it_has_begun_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, cancelled = Crowd.begin, list[bool]()

    def begin(crowd: Crowd, leader: Leader) -> None:
        plain(crowd, leader)
        if not cancelled:
            cancelled.append(crowd._task.cancel())

    monkeypatch.setattr(Crowd, "begin", begin)
    all_ = await many()
    assert cancelled
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()


class Layered(Wire):
    """Has layers in front of it: each write takes turns of the loop."""

    async def write(self, data: bytes) -> None:
        await turns(3)
        await super().write(data)


async def test_a_crowd_that_is_busy_with_a_record_waits_for_the_next_as_the_same() -> None:
    """Behind `@app.middleware("http")` all of them write at a time, and nobody waits: each record founded another crowd."""
    all_ = await many("by task", wire=Layered)
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gathered()
    crowd = all_.crowd
    for word in "bcdef":
        await all_.say(*text(word), apart=1.0)
        await until(lambda word=word: all(wire.words.endswith(word) for wire in all_.wires))  # type: ignore[misc]
    assert all_.crowd is crowd
    assert len(crowd._members) + len(crowd._excused) >= FEWEST
    await all_.gone()
    assert not all_.turn.crowds
    await until(crowd._task.done)
    assert not crowd._excused
