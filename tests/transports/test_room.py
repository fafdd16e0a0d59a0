"""A viewer that is behind: its socket is waited for before the log is read, and it holds nothing of the log meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import ref

import pytest
from tests.parts import ENDED, PATIENCE, turns, until
from tests.transports.test_crowd import Wire
from tests.transports.test_deliver import opened

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, run_log
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.memory import MemoryStore
from tidelog.transports import direct
from tidelog.transports.deliver import SLICE_BYTES, How, Pacing
from tidelog.transports.direct import DirectDelivery

pytestmark = pytest.mark.anyio
LOG = run_log("r")
WORDS = [f"{number},{'x' * 400}" for number in range(50)]


class Records(list[Record]):
    """Of one page; can be referred to weakly."""


class Far(MemoryStore):
    """Has nothing in memory for its readers, and knows which pages somebody still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[ref[Records]] = []

    def window(self, log: str) -> Window | None:
        return None

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        page = await super().read(log, after, limit)
        records = Records(page.records)
        self.pages.append(ref(records))
        return Page(records, page.more, page.ended)

    @property
    def held(self) -> int:
        return sum(1 for page in self.pages if page() is not None)


class Narrow(Wire):
    """Is full with every `put`."""

    def put(self, data: bytes) -> None:
        super().put(data)
        self.fill()

    def fill(self) -> None:
        self.open = False
        self.free.clear()

    def drain(self) -> None:
        self.open = True
        self.free.set()


class One:
    """A viewer at work, whose log is written here."""

    def __init__(self, store: MemoryStore, wire: Wire, *, send_timeout: float, resting: bool, batch: int) -> None:
        self.wire = wire
        self._store = store
        self._seq = 1
        self.delivery = DirectDelivery(
            Cursor(store, LOG, batch=batch), registry.dialect("native")("r"), registry.framing("lines")(5),
            write=wire.write, direct=wire, pacing=Pacing(Granularity(0.0), send_timeout=send_timeout),
        )  # fmt: skip
        self.run(resting=resting)

    def run(self, *, resting: bool = False) -> None:
        self.task = asyncio.create_task(self.delivery.run(resting=resting))

    async def say(self, *events: e.Event) -> None:
        for event in events:
            self._seq += 1
            record = Record(self._seq, 1000.0 + self._seq, e.encode(event))
            await self._store.append(LOG, self._seq - 1, [record], Lease("me"), ended=event is ENDED)
        await turns()

    async def how(self) -> How:
        return await asyncio.wait_for(self.task, PATIENCE)


async def one(
    store: MemoryStore, wire: Wire, *, send_timeout: float = 60.0, resting: bool = False, batch: int = 1000
) -> One:  # fmt: skip
    found = One(store, wire, send_timeout=send_timeout, resting=resting, batch=batch)
    await until(lambda: wire.frames)
    return found


async def far() -> Far:
    store = Far()
    store.__dict__.update((await opened()).__dict__)
    store.pages = []
    return store


def texts() -> list[e.Event]:
    return [e.TextDelta(text=word) for word in WORDS]


async def test_who_waits_for_room_holds_no_page() -> None:
    store, wire = await far(), Narrow()
    served = await one(store, wire)
    await served.say(*texts(), ENDED)
    reads = 0
    while not served.task.done():
        await until(lambda: not wire.open or served.task.done())
        await turns()
        assert store.held == 0
        assert len(store.pages) <= reads + 3, "it reads on only as there is room"
        reads = len(store.pages)
        wire.drain()
        await turns()
    assert await served.how() == "ended"
    assert wire.words == "".join(WORDS)
    assert len(wire.writes) > len(WORDS) / 4


@pytest.mark.parametrize("waits", [0.5, 1.3, 1.7, 3.0])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_the_rest_of_a_page_is_given_back(waits: float, in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever takes nothing for longer than HOLD, wherever in the page that is: half of a half, too. Nothing is lost by it,
    and nothing comes twice.
    """
    hold = 0.02
    monkeypatch.setattr(direct, "HOLD", hold)
    store, wire = await (opened() if in_memory else far()), Narrow()
    served = await one(store, wire, batch=4 * SLICE_BYTES)
    await served.say(*(e.Progress(task="t", done=number) for number in range(1500)), ENDED)
    given_back = 0
    while not served.task.done():
        await asyncio.sleep(waits * hold)
        given_back += isinstance(store, Far) and store.held == 0
        wire.drain()
        await turns()
    assert await served.how() == "ended"
    assert wire.seqs == list(range(1, 1503))
    if isinstance(store, Far):
        assert (given_back > 5) is (waits > 1)


async def test_who_waits_for_room_holds_no_window_either() -> None:
    """One that a store has let go of would stay with the viewer."""
    wire = Wire()
    served = await one(await opened(), wire)
    Narrow.fill(wire)  # type: ignore[arg-type]
    await served.say(*texts())
    await until(lambda: served.delivery._cursor.window is None)
    await served.say(*texts())
    assert served.delivery._cursor.window is None
    assert wire.words == ""
    Narrow.drain(wire)  # type: ignore[arg-type]
    await until(lambda: wire.words == "".join(WORDS) * 2)
    await served.say(ENDED)
    assert await served.how() == "ended"


async def test_a_page_of_several_writes_waits_between_them() -> None:
    wire = Narrow()
    served = await one(await opened(), wire, batch=4 * SLICE_BYTES)
    await served.say(*(e.Progress(task="t", done=number) for number in range(1500)), ENDED)
    while not served.task.done():
        await turns()
        wire.drain()
    assert await served.how() == "ended"
    assert wire.seqs == list(range(1, 1503))
    assert max(map(len, wire.writes)) <= SLICE_BYTES
    assert len(wire.writes) < 40


async def test_who_takes_nothing_comes_to_rest_and_goes_on_in_another_task() -> None:
    """Also where the log has ended meanwhile, and nothing is left but its end."""
    store, wire = await opened(), Narrow()
    served = await one(store, wire, resting=True)
    await served.say(*texts(), ENDED)
    assert await served.how() == "resting"
    served.run()
    while not served.task.done():
        await turns()
        wire.drain()
    assert await served.how() == "ended"
    assert wire.words == "".join(WORDS)


async def test_who_has_it_all_does_not_rest() -> None:
    served = await one(await opened(), Wire(), resting=True)
    await served.say(ENDED)
    assert await served.how() == "ended"


@pytest.mark.parametrize("how", ["stalled", "left", "sent_away"])
async def test_a_wait_for_room_ends(how: str) -> None:
    wire = Narrow()
    served = await one(await opened(), wire, send_timeout=0.05 if how == "stalled" else 60.0)
    await served.say(*texts())
    if how == "left":
        served.delivery.leave()
    elif how == "sent_away":
        served.delivery.send_away()
        await turns()
        wire.drain()
    told: Any = await served.how()
    assert told == how
    assert ("reconnect" in wire.text) == (how == "sent_away")


async def test_who_is_sent_away_and_takes_nothing_is_given_up() -> None:
    wire = Narrow()
    served = await one(await opened(), wire)
    await served.say(*texts())
    served.delivery.send_away()
    assert await served.how() == "stalled"


async def test_what_came_as_a_wait_ended_is_read_once_there_is_room() -> None:
    """It was to be written in the next turn of the loop; before that a heartbeat was due, and found the socket full."""
    wire = Wire()
    served = await one(await opened(), wire)
    served.delivery._stop_waiting()
    Narrow.fill(wire)  # type: ignore[arg-type]
    served.delivery._catch_up()
    assert served.delivery._cursor._waiter.woken
    served.task.cancel()
    await asyncio.wait((served.task,))
