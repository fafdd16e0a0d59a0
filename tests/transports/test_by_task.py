"""A viewer for whom only a task can write: it is told what others are told, and reads nothing of the log to be told it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message
from tests.parts import ENDED, PATIENCE, log_of, turns, until
from tests.transports.test_crowd import Wire
from tests.transports.test_deliver import opened
from tests.transports.test_direct import EVERYTHING, texts

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.errors import Gone
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, run_log
from tidelog.seams import BATCH_BYTES
from tidelog.server.viewing import Body
from tidelog.stores.memory import MemoryStore
from tidelog.transports.deliver import SLICE_BYTES, Pacing
from tidelog.transports.viewer import FEWEST, Viewer
from tidelog.turn import Turn

pytestmark = pytest.mark.anyio
LOG = run_log("r")


class Layers(Wire):
    """The way through an application: each write takes turns of the loop, where `slow`."""

    slow = False

    async def send(self, message: Message) -> None:
        if self.slow:
            await turns(2)
        await self.write(message["body"])

    @property
    def shown(self) -> list[str]:
        return [frame.get("text", frame["type"]) for frame in self.frames]


class One:
    """A viewer alone at its log, which is written here."""

    def __init__(
        self, store: MemoryStore, layers: Layers, *,
        dialect: str = "native", framing: str = "lines", window: float = 0.0, pacing: Pacing = Pacing(), turn: Turn | None = None,
    ) -> None:  # fmt: skip
        self.store, self.layers = store, layers
        self.seq, self.at = 1, 1000.0
        cursor = Cursor(store, LOG)
        self.body = Body(layers.send, cursor.rouse)
        self.delivery = Viewer(
            cursor, registry.dialect(dialect)("r"), registry.framing(framing)(5),
            write=self.body.write, direct=self.body, pacing=pacing._replace(granularity=Granularity(window)),
            turn=turn,
        )  # fmt: skip
        self.task = asyncio.create_task(self.delivery.run())

    def store_now(self, event: e.Event, apart: float = 0.001) -> None:
        self.seq, self.at = self.seq + 1, self.at + apart
        record = Record(self.seq, self.at, e.encode(event))
        self.store.append(LOG, self.seq - 1, [record], Lease("me"), ended=event is ENDED)

    async def say(self, *events: e.Event, apart: float = 0.001) -> None:
        for event in events:
            self.store_now(event, apart)
            await turns(3)

    async def how(self) -> str:
        return await asyncio.wait_for(self.task, PATIENCE)


async def one(**how: Any) -> One:
    found = One(await opened(), Layers(), **how)
    await turns()
    await found.say(*texts("a"), apart=1.0)  # the first goes by the task, and finds the short way free
    await until(lambda: found.layers.shown[-1:] == ["a"])
    return found


@pytest.mark.parametrize("dialect", sorted(registry.DIALECTS))
@pytest.mark.parametrize("framing", ["sse", "lines"])
async def test_it_is_told_the_same(dialect: str, framing: str) -> None:
    records, layers = log_of(*EVERYTHING), Layers()
    alone = One(await opened(), layers, dialect=dialect, framing=framing)
    await turns()
    await alone.say(*EVERYTHING)
    assert await alone.how() == "ended"
    await alone.body.end(b"")
    plain, frames = registry.framing(framing)(5), registry.dialect(dialect)("r")
    wanted = b"".join(plain.encode(frame) for record in records for frame in frames.encode(record))
    assert b"".join(layers.writes) == wanted


async def test_what_it_is_given_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, pages = await one(), list[int]()
    plain = Cursor._read

    async def counted(cursor: Cursor) -> Any:
        pages.append(cursor.position)
        return await plain(cursor)

    monkeypatch.setattr(Cursor, "_read", counted)
    await alone.say(*texts("b"), apart=1.0)  # found to be free
    pages.clear()
    for word in "cdefg":
        await alone.say(*texts(word), apart=1.0)
        await until(lambda word=word: alone.layers.shown[-1] == word)  # type: ignore[misc]
    assert not pages
    alone.delivery.leave()
    assert await alone.how() == "left"


@pytest.mark.parametrize("window", [0.0, 0.03])
async def test_what_comes_before_the_task_has_its_turn_is_told_too(window: float) -> None:
    """Nobody rings for it any more: in the turn in which something was put, deltas are held and others wait for the socket."""
    alone = await one(window=window)
    await alone.say(*texts("b"), apart=1.0)
    for events in (texts("c", "d"), [*texts("e"), e.Progress(task="t", done=1)], texts("f", "g", "h")):
        alone.at += 1.0
        for event in events:
            alone.store_now(event)
        await until(lambda: alone.layers.frames[-1]["seq"] == alone.seq)
    assert alone.layers.words == "abcdefgh"
    alone.delivery.leave()
    assert await alone.how() == "left"


async def held_up(alone: One, *events: e.Event, apart: float = 1.0) -> None:
    """One text is being written, for many turns of the loop, while these are stored."""
    alone.layers.free.clear()
    alone.store_now(e.TextDelta(text="b"), 1.0)
    await turns()
    assert not alone.body.open
    for event in events:
        alone.store_now(event, apart)
        await turns()


async def test_what_comes_while_it_writes_is_told_behind_that() -> None:
    """The end as well: nothing rings behind it."""
    alone = await one(window=0.02)
    await held_up(alone, e.Progress(task="t", done=1), ENDED)
    alone.layers.free.set()
    assert await alone.how() == "ended"
    assert alone.layers.shown == ["run.started", "a", "b", "progress", "run.ended"]


async def test_what_is_held_while_it_writes_is_told_behind_that() -> None:
    alone = await one(window=0.02)
    await held_up(alone, *texts("c"), apart=0.0001)
    await until(lambda: alone.delivery._turn._ticks == {})  # it was due meanwhile
    alone.layers.free.set()
    await until(lambda: alone.layers.shown[-1] == "c")
    await alone.say(*texts("d"), apart=1.0)
    await until(lambda: alone.layers.shown[-1] == "d")
    alone.delivery.leave()
    await alone.how()


async def test_an_end_in_the_turn_in_which_held_text_is_due() -> None:
    alone = await one(window=0.02)
    await alone.say(*texts("b"), apart=1.0)
    alone.store_now(e.TextDelta(text="c"), 0.0001)
    assert alone.delivery._same is not None

    def together() -> None:
        alone.store_now(ENDED, 0.001)
        alone.delivery._due()

    asyncio.get_running_loop().call_soon(together)
    assert await alone.how() == "ended"
    assert alone.layers.shown == ["run.started", "a", "b", "c", "run.ended"]


async def test_a_ring_without_news_holds_up_nothing_that_was_put() -> None:
    alone = await one(window=0.02)
    await alone.say(*texts("b"), apart=1.0)
    alone.store_now(e.TextDelta(text="c"), 0.0001)
    asyncio.get_running_loop().call_soon(lambda: (alone.delivery._due(), alone.delivery._cursor.ring()))
    await until(lambda: alone.layers.shown[-1] == "c")
    alone.delivery.leave()
    await alone.how()


async def test_a_source_that_is_held_back_goes_on_when_it_is_written() -> None:
    alone, moved = await one(), list[int]()
    await alone.say(*texts("b"), apart=1.0)
    alone.delivery.moved = moved.append
    alone.layers.free.clear()
    await alone.say(*texts("c"), apart=1.0)
    assert not moved
    alone.layers.free.set()
    await until(lambda: moved == [4])
    assert alone.layers.shown[-1] == "c"
    alone.delivery.leave()
    await alone.how()


@pytest.mark.parametrize("history", [1, 200])
async def test_many_are_one_crowd_and_come_back_to_it(history: int) -> None:
    """Behind pages of history, and behind a moment in which nobody took anything."""
    many = [One(await opened(), Layers())]
    for number in range(history):
        many[0].store_now(e.Data(data="x" * 200 + str(number)), 0.001)
    turn = many[0].delivery._turn
    for _ in range(2 * FEWEST):
        many.append(One(many[0].store, Layers(), window=0.02, turn=turn))
        await turns()
    watching = many[1:]

    def members() -> int:
        return sum(len(crowd._members) for crowd in turn.crowds.values())

    async def say_until(done: Callable[[], bool]) -> None:
        for _ in range(200):
            if done():
                return
            many[0].store_now(e.TextDelta(text="y"), 1.0)
            await turns(20)
            await asyncio.sleep(0.001)
        raise AssertionError(f"{members()} in the crowd")

    await say_until(lambda: members() >= len(watching) - 1)
    for one_ in watching:
        one_.layers.free.clear()
    await say_until(lambda: members() <= 1)  # the first one takes all
    for one_ in watching:
        one_.layers.free.set()
    await say_until(lambda: members() >= len(watching) - 1)
    many[0].store_now(ENDED, 1.0)
    assert {await one_.how() for one_ in many} == {"ended"}
    for one_ in watching:
        assert one_.layers.seqs == list(range(1, many[0].seq + 1))


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_nothing_is_lost_or_doubled(seed: int) -> None:
    luck = random.Random(seed)
    alone = await one(window=luck.choice([0.0, 0.002, 0.01]))
    for number in range(80):
        alone.layers.slow = luck.random() < 0.3
        if not luck.randrange(9):
            alone.layers.free.clear()
        for _ in range(luck.choice([1, 1, 2, 5])):
            alone.store_now(
                luck.choice([*texts("x", "y"), e.Progress(task="t", done=number)]), luck.choice([0.0, 0.02])
            )
        await turns(luck.randrange(5))
        alone.layers.free.set()
        if not luck.randrange(6):
            await asyncio.sleep(0.003)
    await alone.say(ENDED)
    assert await alone.how() == "ended"
    assert alone.layers.seqs == list(range(1, alone.seq + 1))


@pytest.mark.parametrize("taken", [False, True])
async def test_who_is_sent_away_is_told_first_what_was_put(taken: bool) -> None:
    """Also while that is being written."""
    alone = await one()
    await alone.say(*texts("b"), apart=1.0)
    alone.layers.slow = True
    alone.store_now(e.TextDelta(text="c"), 1.0)
    assert not alone.body.open
    await turns(1 if taken else 0)
    alone.delivery.send_away()
    assert await alone.how() == "sent_away"
    await alone.body.end(b"")
    assert alone.layers.shown[-2:] == ["c", "reconnect"]


@pytest.mark.parametrize("goes", [False, True])
async def test_who_takes_nothing_of_what_was_put(goes: bool) -> None:
    alone = await one(pacing=Pacing(send_timeout=PATIENCE if goes else 0.02))
    await alone.say(*texts("b"), apart=1.0)
    alone.layers.free.clear()
    await alone.say(*texts("c"), apart=1.0)
    if goes:
        alone.delivery.leave()
    assert await alone.how() == ("left" if goes else "stalled")
    assert alone.task.cancelling() == 0


async def test_a_log_that_is_dropped_while_something_is_put() -> None:
    alone = await one()
    await alone.say(*texts("b"), apart=1.0)
    alone.store_now(e.TextDelta(text="c"), 1.0)
    await alone.store.drop(LOG)
    with pytest.raises(Gone):
        await alone.how()
    await alone.body.end(b"")
    assert alone.layers.shown[-1] == "c"


async def test_it_beats_while_nothing_comes() -> None:
    alone = await one(pacing=Pacing(heartbeat=0.02))
    for word in "bcd":
        await alone.say(*texts(word), apart=1.0)
        beats = alone.layers.writes.count(b"\n")
        await until(lambda beats=beats: alone.layers.writes.count(b"\n") >= beats + 2)  # type: ignore[misc]
    alone.delivery.leave()
    assert await alone.how() == "left"


class Far(MemoryStore):
    """Has nothing in memory for its readers."""

    def window(self, log: str) -> None:
        return None


async def test_one_that_is_behind_holds_one_write() -> None:
    """What it is given while its peer takes nothing is a slice at most, and goes on from there."""
    store, layers = Far(), Layers()
    await store.start("me")
    await store.open(LOG, b"", records=log_of(*(e.Data(data="x" * 4000) for _ in range(40)), ENDED))
    await store.append(LOG, 42, [], lease=Lease("me"), ended=True)
    layers.free.clear()
    alone = One(store, layers)
    await turns()
    layers.free.set()
    assert await alone.how() == "ended"
    assert max(map(len, layers.writes)) <= SLICE_BYTES < BATCH_BYTES
    assert [frame["seq"] for frame in layers.frames] == list(range(1, 43))
