"""Viewers who are served as one: each gets what it would get alone, and who cannot keep up goes on alone."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Literal, get_args

import pytest
from starlette.types import Message, Send
from tests.parts import ENDED, PATIENCE, turns, until
from tests.transports.test_deliver import Socket, opened

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.errors import Gone
from tidelog.frame import Envelope
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, run_log
from tidelog.server.viewing import Body
from tidelog.stores.memory import MemoryStore
from tidelog.transports import crowd as crowds
from tidelog.transports import viewer as viewers
from tidelog.transports.crowd import AT_ONCE, Crowd
from tidelog.transports.deliver import SLICE_BYTES, Delivery, Pacing
from tidelog.transports.viewer import FEWEST, Viewer
from tidelog.turn import Turn

pytestmark = pytest.mark.anyio

MANY = FEWEST + 8
LOG = run_log("r")
ENVELOPE = Envelope(lambda size: b"<", b">")


class Wire(Socket):
    """A socket that takes direct writes as long as it is `open`."""

    by_task = False
    envelope = ENVELOPE
    open = True

    def clear(self, sent: int) -> bool:
        return True

    def ready(self, sent: int) -> bool:
        return self.open

    async def room(self) -> None:
        await self.free.wait()

    def put(self, data: bytes) -> None:
        assert self.open, "nothing may be put into a socket that is full"
        self.writes.append(data.translate(None, b"<>"))

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line]

    @property
    def seqs(self) -> list[int]:
        return [seq for frame in self.frames for seq in range(frame.get("from", frame["seq"]), frame["seq"] + 1)]

    @property
    def words(self) -> str:
        return "".join(frame.get("text", "") for frame in self.frames)


class Restless(Wire):
    """Takes no direct write at every seventh look."""

    looks = 0

    @property
    def open(self) -> bool:  # type: ignore[override]
        self.looks += 1
        return self.looks % 7 != 0

    def put(self, data: bytes) -> None:
        self.writes.append(data.translate(None, b"<>"))


Kind = Literal["direct", "by task"]
KINDS = pytest.mark.parametrize("kind", get_args(Kind))


def sends(wire: Wire) -> Send:
    """The way through an application to this socket."""

    async def send(message: Message) -> None:
        await wire.write(message["body"])

    return send


class Many:
    """Viewers of one log, and whoever writes it. `kind` tells who writes to a viewer: whoever has something, or its own task."""

    def __init__(self, store: MemoryStore, kind: Kind, window: float) -> None:
        self.store, self.kind, self.window = store, kind, window
        self.turn = Turn()
        self.seq, self.at = 1, 1000.0
        self.wires: list[Wire] = []
        self.served: list[Delivery] = []
        self.tasks: list[asyncio.Task[str]] = []

    async def come(self, count: int, *, wire: type[Wire] = Wire, heartbeat: float = 60.0) -> None:
        for _ in range(count):
            socket, cursor = wire(), Cursor(self.store, LOG)
            direct: Wire | Body = socket if self.kind == "direct" else Body(sends(socket), cursor.rouse)
            one = Viewer(
                cursor, registry.dialect("native")("r"), registry.framing("lines")(5),
                write=direct.write, direct=direct, pacing=Pacing(Granularity(self.window), heartbeat), turn=self.turn,
            )  # fmt: skip
            self.wires.append(socket)
            self.served.append(one)
            self.tasks.append(asyncio.create_task(one.run()))
            await turns()

    async def say(self, *events: e.Event, apart: float = 0.001) -> None:
        for event in events:
            self.seq, self.at = self.seq + 1, self.at + apart
            record = Record(self.seq, self.at, e.encode(event))
            await self.store.append(LOG, self.seq - 1, [record], Lease("me"), ended=event is ENDED)
            await turns(3)

    @property
    def crowd(self) -> Crowd:
        (found,) = self.turn.crowds.values()
        assert isinstance(found, Crowd)
        return found

    async def gathered(self) -> None:
        """Until those who came later are all of the crowd, and hear no bell themselves."""
        await until(lambda: len(self.turn.crowds) == 1)
        await until(lambda: all(one.position == self.crowd.position for one in self.crowd._members))
        assert self.store.changed(LOG).count <= FEWEST

    async def gone(self) -> list[str]:
        for one in self.served:
            one.leave()
        return [await asyncio.wait_for(task, PATIENCE) for task in self.tasks]


async def many(kind: Kind = "direct", *, window: float = 0.0, count: int = MANY, **more: Any) -> Many:
    found = Many(await opened(), kind, window)
    await found.come(count, **more)
    await found.gathered()
    return found


def text(*words: str) -> list[e.TextDelta]:
    return [e.TextDelta(text=word) for word in words]


@KINDS
async def test_all_are_told_and_one_hears_the_bell(kind: Kind) -> None:
    all_ = await many(kind)
    heard = all_.store.changed(LOG).count
    assert heard == FEWEST, "those who were there before it, and its leader for all who came since"
    await all_.say(*text("a", "b"), e.Progress(task="t", done=1))
    await until(lambda: all(wire.seqs == [1, 2, 3, 4] for wire in all_.wires))
    assert {wire.text for wire in all_.wires} == {all_.wires[0].text}
    await all_.say(ENDED)
    assert [await asyncio.wait_for(task, PATIENCE) for task in all_.tasks] == ["ended"] * MANY
    assert all(wire.seqs == [1, 2, 3, 4, 5] for wire in all_.wires)
    assert not all_.turn.crowds


async def test_a_write_wakes_nobodys_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crowd is told goes into the sockets by whoever stored it, or at the next tick."""
    all_ = await many()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    members, woken = tuple(all_.crowd._members), list[Viewer]()
    assert len(members) >= MANY - FEWEST
    monkeypatch.setattr(Viewer, "_stop_waiting", woken.append)
    await all_.say(*text("b"), e.Progress(task="t", done=1), apart=1.0)
    await until(lambda: all(wire.seqs == [1, 2, 3, 4] for wire in all_.wires))
    assert {member.position for member in members} == {4}
    assert not woken
    monkeypatch.undo()
    await all_.gone()


async def test_a_burst_is_one_write() -> None:
    """In the crowd of those who stand at the live end, even its first record waits for those that come along."""
    all_ = await many(window=0.03)
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    wire, before = all_.wires[-1], len(all_.wires[-1].writes)
    all_.at += 10.0
    for _ in range(64):
        all_.seq, all_.at = all_.seq + 1, all_.at + 0.00001
        all_.store.append(LOG, all_.seq - 1, [Record(all_.seq, all_.at, e.encode(*text("b")))], Lease("me"))
    await until(lambda: wire.words == "a" + "b" * 64)
    assert len(wire.writes) == before + 1
    await all_.gone()


@KINDS
async def test_text_that_comes_within_the_window_goes_as_one(kind: Kind) -> None:
    all_ = await many(kind, window=0.05)
    await all_.say(*text("a", "b", "c", "d"))
    wire = all_.wires[-1]
    await until(lambda: wire.words == "abcd")
    assert len(wire.frames) <= 3
    await all_.gone()


@KINDS
async def test_who_comes_in_the_middle_gets_each_record_once(kind: Kind) -> None:
    all_ = await many(kind, window=0.03)
    for number in range(12):
        await all_.say(*text(*"abc"))
        await all_.come(2)
        if number % 3 == 2:
            await asyncio.sleep(0.01)
    await all_.say(ENDED)
    assert {await asyncio.wait_for(task, PATIENCE) for task in all_.tasks} == {"ended"}
    assert all(wire.seqs == list(range(1, all_.seq + 1)) for wire in all_.wires)
    assert {wire.words for wire in all_.wires} == {"abc" * 12}


@KINDS
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_nothing_is_lost_or_doubled(
    kind: Kind, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets that are full now and then, windows that end at any time, viewers that come and go, rounds of several turns."""
    luck = random.Random(seed)
    if seed:
        monkeypatch.setattr(crowds, "AT_ONCE", luck.choice([1, 3, AT_ONCE]))
        monkeypatch.setattr(crowds, "BROUGHT", luck.choice([40, crowds.BROUGHT]))
    all_ = await many(kind, window=luck.choice([0.0, 0.002, 0.01]), wire=luck.choice([Wire, Restless]))
    if seed == 0:
        await all_.come(AT_ONCE)
    left: list[int] = []
    for number in range(60):
        word = e.TextDelta(text=f"{number},")
        await all_.say(
            luck.choice([word, word, word, e.Progress(task="t", done=number)]), apart=luck.choice([0.0, 0.01])
        )
        if not luck.randrange(6):
            await all_.come(1, wire=luck.choice([Wire, Restless]))
        if not luck.randrange(8):
            left.append(luck.randrange(len(all_.served)))
            all_.served[left[-1]].leave()
        if not luck.randrange(6):
            await asyncio.sleep(0.003)
    await all_.say(ENDED)
    for number, (task, wire) in enumerate(zip(all_.tasks, all_.wires, strict=True)):
        how = await asyncio.wait_for(task, PATIENCE)
        assert how == "ended" or number in left
        assert wire.seqs == list(range(1, len(wire.seqs) + 1))
        assert how == "left" or wire.seqs[-1] == all_.seq
    assert not all_.turn.crowds


async def test_who_takes_nothing_holds_up_nobody_and_goes_on_later() -> None:
    all_ = await many()
    slow = all_.wires[-1]
    slow.open = False
    slow.free.clear()
    await all_.say(*text("a"))
    await all_.say(*text("b"), apart=1.0)
    await until(lambda: all(wire.words == "ab" for wire in all_.wires[:-1]))
    assert slow.words == ""
    assert all_.served[-1] not in all_.crowd._members
    slow.open = True
    slow.free.set()
    await until(lambda: slow.words == "ab")
    await all_.say(*text("c"), apart=1.0)
    await until(lambda: all(wire.seqs == [1, 2, 3, 4] for wire in all_.wires))
    assert all_.served[-1] in all_.crowd._members
    await all_.gone()


async def test_a_socket_that_raises_hurts_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    all_ = await many()

    def broken(data: bytes) -> None:
        raise OSError("no such socket")

    all_.wires[-2].put = broken  # type: ignore[method-assign]
    await all_.say(*text("a"))
    await all_.say(*text("b"), apart=1.0)
    await until(lambda: all_.wires[-1].words == "ab")
    assert "no such socket" in caplog.text
    for one in all_.served:
        one.leave()
    await asyncio.gather(*all_.tasks, return_exceptions=True)


@KINDS
async def test_it_beats_for_all_of_them(kind: Kind) -> None:
    all_ = await many(kind, heartbeat=0.05)
    await until(lambda: all(wire.writes.count(b"\n") >= 2 for wire in all_.wires))
    assert all_.served[-1].position == 1
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()


class Kept(Wire):
    """Keeps the very bytes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[bytes] = []

    def put(self, data: bytes) -> None:
        self.given.append(data)
        super().put(data)

    async def write(self, data: bytes) -> None:
        self.given.append(data)
        await super().write(data)


@KINDS
@pytest.mark.parametrize("ended", [False, True])
async def test_a_frame_that_is_larger_than_a_slice_is_made_once_for_all(kind: Kind, ended: bool) -> None:
    """It is one write however large it is (spec §5.1), so what many hold of it must be the same bytes."""
    all_ = await many(kind, wire=Kept)
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    members = all_.wires[FEWEST:]
    large = Record(3, 2000.0, e.encode(e.Data(data="x" * (2 * SLICE_BYTES))))
    more = [Record(4, 2000.0, e.encode(ENDED))] if ended else []
    await all_.store.append(LOG, 2, [large, *more], Lease("me"), ended=ended)
    await until(lambda: all(3 in wire.seqs for wire in all_.wires))
    given = [data for wire in members if isinstance(wire, Kept) for data in wire.given if len(data) > SLICE_BYTES]
    assert len(given) == len(members)
    assert len({id(data) for data in given}) <= 2, "the last may be alone at the bell while the others gather"
    await all_.gone()


async def test_what_is_more_than_a_slice_goes_to_all_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is full after the first goes alone from there; the others stay."""
    all_ = await many()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gathered()
    monkeypatch.setattr(viewers, "SLICE_BYTES", 256)
    all_.crowd._leader._cursor.batch = 512
    monkeypatch.setattr(all_.crowd, "open", False)  # while it is written to: what comes is too much for one page
    for seq in range(3, 67):
        await all_.store.append(LOG, seq - 1, [Record(seq, 2000.0, e.encode(e.Data(data=seq)))], Lease("me"))
    await turns()
    leading, all_.seq = all_.crowd, 66
    leading._write_some()
    await until(lambda: all(wire.seqs == list(range(1, 67)) for wire in all_.wires))
    assert all_.crowd is leading
    assert leading._members
    assert max(len(data) for one in leading._members for data in one._direct.writes[2:]) <= 256  # type: ignore[attr-defined]
    await all_.gone()


@KINDS
@pytest.mark.parametrize("how", ["leave", "send_away", "drop"])
async def test_who_goes_is_let_go_at_once_and_the_last_takes_the_crowd_along(kind: Kind, how: str) -> None:
    all_ = await many(kind)
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    leading = all_.crowd._task
    if how == "drop":
        await all_.store.drop(LOG)
        ends = await asyncio.wait_for(asyncio.gather(*all_.tasks, return_exceptions=True), PATIENCE)
        assert all(isinstance(end, Gone) for end in ends)
    else:
        for one in all_.served:
            getattr(one, how)()
        wanted = {"leave": "left", "send_away": "sent_away"}[how]
        assert {await asyncio.wait_for(task, PATIENCE) for task in all_.tasks} == {wanted}
        assert all(('"reconnect"' in wire.text) == (how == "send_away") for wire in all_.wires)
    await asyncio.wait_for(leading, PATIENCE)
    assert not all_.turn.crowds
    assert not all_.store.changed(LOG).count


async def test_who_holds_the_source_back_and_who_wants_other_forms_stays_alone() -> None:
    all_ = await many()
    told: list[int] = []
    await all_.come(1)
    alone = all_.served[-1]
    assert alone in all_.crowd._members
    held = Viewer(
        Cursor(all_.store, LOG), registry.dialect("native")("r"), registry.framing("lines")(5),
        write=(wire := Wire()).write, direct=wire, turn=all_.turn,
    )  # fmt: skip
    held.moved = told.append
    all_.served.append(held)
    all_.tasks.append(asyncio.create_task(held.run()))
    await turns()
    await all_.say(*text("a"))
    await until(lambda: wire.words == "a")
    assert held not in all_.crowd._members
    assert told[-1] == 2
    await all_.gone()
