"""The short way: what goes out without a task is what the plain way gives, held for one merge window at most."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

import pytest
from tests.parts import ENDED, PATIENCE, log_of, turns, until
from tests.transports.test_deliver import Socket, opened

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.frame import Envelope
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, run_log
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.memory import MemoryStore
from tidelog.transports.deliver import Pacing
from tidelog.transports.direct import Direct, DirectDelivery
from tidelog.window import LogWindow

pytestmark = pytest.mark.anyio


ENVELOPE = Envelope(lambda size: b"<", b">")


class Fast(Socket):
    """Takes direct writes, too: at every `every`-th asking, and not before something was sent the ordinary way."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.direct = 0
        self._every = every
        self._asked = 0

    def clear(self, sent: int) -> bool:
        return sent > 0

    def ready(self, sent: int) -> bool:
        self._asked += 1
        return sent > 0 and self._asked % self._every == 0

    def put(self, data: bytes) -> None:
        assert data.startswith(b"<"), "its envelope is around it; an empty chunk would end the body"
        assert data.endswith(b">")
        self.direct += 1
        self.writes.append(data.translate(None, b"<>"))

    async def room(self) -> None:
        await self.free.wait()

    async def write(self, data: bytes) -> None:
        assert b"<" not in data, "the server puts it into its own"
        await super().write(data)


class Door:
    """`direct.Direct` over a `Fast` socket, closed at every third look."""

    by_task = False
    envelope = ENVELOPE

    def __init__(self, socket: Fast) -> None:
        self.clear, self.ready, self.room, self.put = socket.clear, socket.ready, socket.room, socket.put
        self._looks = 0

    @property
    def open(self) -> bool:
        self._looks += 1
        return self._looks % 3 != 0


EVERYTHING = (
    e.Progress(task="t", done=1),
    e.Sources([e.Source(id="s1", title="T")]),
    e.ToolStarted(call="a", name="x"),
    e.ToolInputDelta(call="a", json="{"),
    e.ToolEnded(call="a", output=1),
    e.ToolStarted(call="b", name="y"),
    e.ToolInput(call="b", input={}),
    e.TextDelta(text="one"),
    e.Progress(task="t", done=2),
    e.TextDelta(text="two\nthree"),
    e.ToolEnded(call="b", outcome="failed", error="no"),
    e.Data(data=[1]),
    e.TextEnded(),
    ENDED,
)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("dialect", sorted(registry.DIALECTS))
@pytest.mark.parametrize("framing", ["sse", "lines"])
async def test_the_short_way_says_the_same(dialect: str, framing: str, every: int) -> None:
    """Whichever records a socket takes at once and whichever take the loop: the bytes are those of the plain composition."""
    records = log_of(*EVERYTHING)
    store, socket = await opened(), Fast(every)
    served = DirectDelivery(
        Cursor(store, run_log("r")), registry.dialect(dialect)("r"), registry.framing(framing)(5),
        write=socket.write, direct=Door(socket), pacing=Pacing(Granularity(0.0)),
    )  # fmt: skip
    task = asyncio.create_task(served.run())
    await turns()
    for record in records[1:]:
        last = record.seq == len(records)
        await store.append(run_log("r"), record.seq - 1, [record], lease=Lease("me"), ended=last)
        await turns()
    assert await asyncio.wait_for(task, PATIENCE) == "ended"
    plain, frames = registry.framing(framing)(5), registry.dialect(dialect)("r")
    wanted = b"".join(plain.encode(frame) for record in records for frame in frames.encode(record))
    assert b"".join(socket.writes) == wanted
    assert socket.direct > 0 or every > 1


class Open:
    """`direct.Direct` over a `Fast` socket that takes everything."""

    by_task = False
    envelope = ENVELOPE
    open = True

    def __init__(self, socket: Fast) -> None:
        self.clear, self.ready, self.room, self.put = socket.clear, socket.ready, socket.room, socket.put


class Viewer:
    """A delivery at work, and its log, whose records are numbered and timed here."""

    def __init__(
        self, store: MemoryStore, socket: Fast, direct: Direct, *, window: float, dialect: str = "native"
    ) -> None:
        self.socket = socket
        self._store = store
        self._seq, self._at = 1, 1000.0
        self.delivery = DirectDelivery(
            Cursor(store, run_log("r")), registry.dialect(dialect)("r"), registry.framing("lines")(5),
            write=socket.write, direct=direct, pacing=Pacing(Granularity(window)),
        )  # fmt: skip
        self.task = asyncio.create_task(self.delivery.run())

    async def say(self, *events: e.Event, apart: float = 0.001) -> None:
        """Store these one by one, by the records' clock so many seconds apart."""
        for event in events:
            self._seq, self._at = self._seq + 1, self._at + apart
            record = Record(self._seq, self._at, e.encode(event))
            await self._store.append(run_log("r"), self._seq - 1, [record], Lease("me"), ended=event is ENDED)
            await turns(3)

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.socket.text.splitlines() if line]

    @property
    def shown(self) -> list[str]:
        """What has come: texts, and types of what is none."""
        return [frame.get("text", frame["type"]) for frame in self.frames]


async def viewer(window: float, *, direct: type[Open] | type[Door] = Open, dialect: str = "native") -> Viewer:
    socket = Fast(1)
    found = Viewer(await opened(), socket, direct(socket), window=window, dialect=dialect)
    await turns()
    return found


def texts(*words: str, part: str = "p1") -> list[e.TextDelta]:
    return [e.TextDelta(text=word, part=part) for word in words]


async def test_the_first_text_goes_at_once_and_what_comes_within_the_window_goes_as_one() -> None:
    """It goes when the window is over, whether anything comes then or not, and the task sleeps meanwhile."""
    one = await viewer(0.1)
    await one.say(*texts("a"))
    assert one.shown == ["run.started", "a"]
    await one.say(*texts("b", "c", "d"))
    assert one.shown == ["run.started", "a"]
    await until(lambda: len(one.shown) > 2)
    assert one.shown == ["run.started", "a", "bcd"]
    assert (one.frames[-1]["from"], one.frames[-1]["seq"]) == (3, 5)
    assert one.socket.direct == 2
    await one.say(*texts("e"), apart=1.0)
    assert one.shown[-1] == "e", "the window is long over"
    one.delivery.leave()
    await one.task


@pytest.mark.parametrize(
    "other",
    [
        e.Progress(task="t", done=1),
        e.TextDelta(text="x", part="p2"),
        e.ReasoningDelta(text="x", part="p1"),
        e.TextEnded(),
    ],
    ids=lambda event: str(type(event).__name__),
)
async def test_whatever_is_no_text_of_this_part_takes_what_is_held_along(other: e.Event) -> None:
    one = await viewer(60.0)
    await one.say(*texts("a", "b", "c"))
    assert one.shown == ["run.started", "a"]
    await one.say(other)
    await turns()
    assert one.shown[:3] == ["run.started", "a", "bc"]
    assert len(one.shown) == 4
    one.delivery.leave()
    await one.task


async def test_what_did_not_wait_leaves_no_debt() -> None:
    """Text behind other events is held for one window at most."""
    one = await viewer(0.05)
    for number in range(50):
        await one.say(*texts("a", "b"), e.Progress(task="t", done=number), apart=0.0001)
    await one.say(*texts("last"))
    await until(lambda: one.shown[-1].endswith("last"))
    assert one.delivery._next_at <= one._at + 0.05 + 0.05
    one.delivery.leave()
    await one.task


@pytest.mark.parametrize("how", ["ended", "left", "sent_away"])
async def test_the_end_does_not_wait(how: str) -> None:
    """What is held comes before the ending; who goes leaves it to the next connection."""
    one = await viewer(60.0)
    await one.say(*texts("a", "b", "c"))
    if how == "ended":
        await one.say(e.TextEnded(), ENDED)
    elif how == "left":
        one.delivery.leave()
    else:
        one.delivery.send_away()
    assert await asyncio.wait_for(one.task, PATIENCE) == how
    wanted = {"ended": ["bc", "text.ended", "run.ended"], "left": [], "sent_away": ["reconnect"]}
    assert one.shown[2:] == wanted[how]


@pytest.mark.parametrize("dialect", sorted(registry.DIALECTS))
@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_held_and_whatever_waits_nothing_is_lost_or_turned_around(dialect: str, seed: int) -> None:
    """Against the plain way, with a socket that closes now and then, and a window that ends at any time."""
    luck = random.Random(seed)
    script: list[e.Event] = []
    for number in range(60):
        part = luck.choice(["p1", "p1", "p1", "p1", "p2"])
        word = e.TextDelta(text=f"{number},", part=part)
        script.append(luck.choice([word, word, word, word, e.Progress(task="t", done=number)]))
    one = await viewer(0.004, direct=Door, dialect=dialect)
    for event in (*script, ENDED):
        await one.say(event, apart=luck.choice([0.0, 0.0005, 0.002, 0.01]))
        if not luck.randrange(8):
            await asyncio.sleep(0.002)
    assert await asyncio.wait_for(one.task, PATIENCE) == "ended"
    plain = await viewer(0.0, dialect=dialect)
    await plain.say(*script, ENDED)
    await plain.task
    if dialect != "native":
        assert words_of(one.socket.text) == words_of(plain.socket.text)
        return
    covered = [seq for frame in one.frames for seq in range(frame.get("from", frame["seq"]), frame["seq"] + 1)]
    assert covered == list(range(1, len(script) + 3))
    for part in ("p1", "p2"):
        assert text_of(one.frames, part) == text_of(plain.frames, part)


def words_of(text: str) -> list[str]:
    """The words in their order: the frames of two ways may be cut differently."""
    return re.findall(r"[0-9]+,", text)


def text_of(frames: list[dict[str, Any]], part: str) -> str:
    return "".join(frame["text"] for frame in frames if frame.get("part") == part)


class Taken(MemoryStore):
    """The end of its log in memory is `end`; a read waits for `gate`."""

    end: LogWindow | None = None

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    def window(self, log: str) -> Window | None:
        return self.end

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        self.reads += 1
        await self.gate.wait()
        return await super().read(log, after, limit)


async def test_who_reads_from_the_store_is_shown_nothing_of_an_end_that_begins_behind_it() -> None:
    """This process takes the log over while a viewer reads the record before: what gathers here is not stored yet."""
    told = log_of(*[e.Data(data=number) for number in range(3)])
    store, lease, socket = Taken(), Lease("me"), Fast(1)
    await store.start("me")
    await store.open(run_log("r"), b"", records=told[:1])
    store.end = LogWindow(1)
    viewer = Viewer(store, socket, Open(socket), window=0.0)
    await turns()
    store.end.records += told[1:2]
    store.end.stored = 2
    await store.append(run_log("r"), 1, told[1:2], lease)
    await turns()
    assert [frame["seq"] for frame in viewer.frames] == [1, 2]
    store.end = LogWindow(3)
    store.end.records += told[3:]
    store.gate.clear()
    reads = store.reads
    await store.append(run_log("r"), 2, told[2:3], lease)
    await until(lambda: store.reads > reads)
    store.changed(run_log("r")).ring()
    await turns()
    assert [frame["seq"] for frame in viewer.frames] == [1, 2]
    store.gate.set()
    await until(lambda: viewer.delivery.position == 3)
    store.end.stored = 4
    store.changed(run_log("r")).ring()
    await until(lambda: viewer.delivery.position == 4)
    assert [frame["seq"] for frame in viewer.frames] == [1, 2, 3, 4]
    viewer.delivery.leave()
    await viewer.task
