"""The reading loop: it ends, it beats, it gives up, it sends away; and it holds a source back only when it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from tests.parts import ENDED, PATIENCE, launch, log_of, outcome, running, turns, until

from tidelog import events as e
from tidelog import registry
from tidelog.asking import head_of
from tidelog.cursor import Cursor
from tidelog.errors import Gone, Unavailable
from tidelog.frame import Frame
from tidelog.granularity import Granularity
from tidelog.limits import Limits
from tidelog.log import Lease, Record, run_log
from tidelog.seams import BATCH_BYTES, Page, Window
from tidelog.stores.memory import MemoryStore
from tidelog.transports import deliver
from tidelog.transports.deliver import SLICE_BYTES, Delivery, Pacing

pytestmark = pytest.mark.anyio


class Socket:
    """Keeps what is written; blocks while `full`."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, data: bytes) -> None:
        await self.free.wait()
        self.writes.append(data)

    @property
    def text(self) -> str:
        return b"".join(self.writes).decode()


async def opened(*events: e.Event, ended: bool = False) -> MemoryStore:
    store = MemoryStore()
    await store.start("me")
    await store.open(run_log("r"), b"", records=log_of(*events))
    if ended:
        await store.append(run_log("r"), len(events) + 1, [], lease=Lease("me"), ended=True)
    return store


def delivery(
    store: MemoryStore, socket: Socket, *, dialect: str = "native", position: int = 0, pacing: Pacing = Pacing()
) -> Delivery:
    cursor = Cursor(store, run_log("r"), position)
    return Delivery(
        cursor, registry.dialect(dialect)("r"), registry.framing("sse")(5), write=socket.write, pacing=pacing
    )


async def test_it_ends_with_the_log() -> None:
    store, socket = await opened(e.TextDelta(text="x"), ENDED, ended=True), Socket()
    assert await delivery(store, socket).run() == "ended"
    assert socket.text.count("\n\n") == 3
    assert len(socket.writes) == 1


async def test_it_beats_while_nothing_comes() -> None:
    store, socket = await opened(), Socket()
    served = delivery(store, socket, pacing=Pacing(heartbeat=0.01))
    task = asyncio.create_task(served.run())
    await until(lambda: socket.text.count(": hb\n\n") >= 3)
    served.leave()
    assert await task == "left"


@pytest.mark.parametrize("how", ["leave", "send_away"])
@pytest.mark.parametrize("writing", [False, True])
async def test_whoever_goes_is_let_go_at_once(how: str, writing: bool) -> None:
    store, socket = await opened(e.TextDelta(text="x")), Socket()
    if writing:
        socket.free.clear()
    served = delivery(store, socket, pacing=Pacing(retry=77))
    task = asyncio.create_task(served.run())
    await turns()
    getattr(served, how)()
    if writing and how == "send_away":
        socket.free.set()
    assert await asyncio.wait_for(task, PATIENCE) == ("left" if how == "leave" else "sent_away")
    assert ('"retry":77' in socket.text) == (how == "send_away")
    assert not store.changed(run_log("r"))._waiting


async def test_a_viewer_that_takes_nothing_is_given_up() -> None:
    store, socket = await opened(), Socket()
    socket.free.clear()
    task = asyncio.create_task(delivery(store, socket, pacing=Pacing(send_timeout=0.02)).run())
    assert await asyncio.wait_for(task, PATIENCE) == "stalled"
    assert not task.cancelled()
    assert task.cancelling() == 0


async def test_who_cancels_the_task_cancels_it() -> None:
    store, socket = await opened(), Socket()
    task = asyncio.create_task(delivery(store, socket).run())
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not store.changed(run_log("r"))._waiting


async def test_a_dropped_log_is_gone() -> None:
    store, socket = await opened(), Socket()
    task = asyncio.create_task(delivery(store, socket).run())
    await turns()
    await store.drop(run_log("r"))
    with pytest.raises(Gone):
        await asyncio.wait_for(task, PATIENCE)


async def test_what_is_written_at_once_is_bounded() -> None:
    words = [e.TextDelta(text="x" * 1000) for _ in range(300)]
    store, socket = await opened(*words, ENDED, ended=True), Socket()
    await delivery(store, socket, pacing=Pacing(Granularity(0.0))).run()
    assert socket.text.count("\n\n") == 302
    assert max(map(len, socket.writes)) <= SLICE_BYTES


async def test_the_first_delta_goes_at_once_and_the_next_are_merged() -> None:
    store, socket = await opened(), Socket()
    task = asyncio.create_task(delivery(store, socket, pacing=Pacing(Granularity(0.2))).run())
    await until(lambda: len(socket.writes) == 1)
    for n in range(1, 9):
        await store.append(run_log("r"), n, [Record(n + 1, 0.0, e.encode(e.TextDelta(text=str(n))))], lease=Lease("me"))
        await turns()
    await store.append(run_log("r"), 9, [Record(10, 0.0, e.encode(ENDED))], lease=Lease("me"), ended=True)
    assert await asyncio.wait_for(task, PATIENCE) == "ended"
    frames = [json.loads(line[6:]) for line in socket.text.splitlines() if line.startswith("data: ")]
    deltas = [frame for frame in frames if frame["type"] == "text.delta"]
    assert "".join(frame["text"] for frame in deltas) == "12345678"
    assert len(deltas) <= 3
    assert deltas[-1]["from"] + len(deltas[-1]["text"]) - 1 == deltas[-1]["seq"] == 9


class Elsewhere(MemoryStore):
    """Keeps the end of no log in memory; `away`: it cannot be reached."""

    away = False

    def window(self, log: str) -> Window | None:
        return None

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        if self.away:
            raise Unavailable("away")
        return await super().read(log, after, limit)


async def test_what_was_read_before_the_store_went_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held for the merge window was taken from the cursor: nobody reads it again."""
    monkeypatch.setattr("tests.transports.test_deliver.MemoryStore", Elsewhere)
    monkeypatch.setattr(deliver, "STORE_AGAIN", 0.01)
    store, socket = await opened(e.TextDelta(text="a")), Socket()
    assert isinstance(store, Elsewhere)
    served = delivery(store, socket, pacing=Pacing(Granularity(0.2)))
    task = asyncio.create_task(served.run())
    await until(lambda: '"a"' in socket.text)
    at = served._next_at - 0.2

    async def say(seq: int, event: e.Event) -> None:
        await store.append(run_log("r"), seq - 1, [Record(seq, at, e.encode(event))], Lease("me"), ended=event is ENDED)
        await turns()

    await say(3, e.TextDelta(text="b"))
    store.away = True
    await say(4, e.TextDelta(text="c"))
    await until(lambda: '"b"' in socket.text or task.done())
    assert not task.done()
    store.away = False
    await say(5, ENDED)
    assert await asyncio.wait_for(task, PATIENCE) == "ended"
    assert [line[4:] for line in socket.text.splitlines() if line.startswith("id: ")] == [
        f"r.1.{seq}" for seq in range(1, 6)
    ]


async def test_lockstep_keeps_the_source_near_its_slowest_viewer() -> None:
    made = 0

    async def work() -> AsyncIterator[str]:
        nonlocal made
        while made < 200:
            made += 1
            yield "x" * 100

    async with running() as runner:
        run = await launch(runner, work, limits=Limits(lockstep=1000))
        head = await head_of(runner.store, run.id)
        socket = Socket()
        socket.free.clear()
        cursor = Cursor(runner.store, run_log(run.id))
        served = Delivery(cursor, registry.dialect("native")(run.id), registry.framing("lines")(5), write=socket.write)
        with runner.watch(head, served, 0):
            served.moved = lambda position: run.viewers.moved(served, position)
            task = asyncio.create_task(served.run())
            await turns(200)
            assert made <= 10
            socket.free.set()
            assert await asyncio.wait_for(task, PATIENCE) == "ended"
        assert await outcome(run) == "completed"
        assert made == 200


def test_a_frame_without_data_is_no_write() -> None:
    assert registry.framing("lines")(1).encode(Frame(None, None, b"x")) == b""


async def test_events_that_do_not_wait_leave_no_debt_for_text() -> None:
    """The merge window holds text for one window at most, whatever went before."""
    store, socket = await opened(), Socket()
    served = delivery(store, socket, pacing=Pacing(Granularity(1.0)))
    task = asyncio.create_task(served.run())
    await turns()
    for seq, record in enumerate(log_of(*[e.Progress(task="t", done=n) for n in range(30)])[1:], 2):
        await store.append(run_log("r"), seq - 1, [record], lease=Lease("me"))
        await turns()
    assert socket.text.count("progress") == 30
    assert served._next_at <= log_of()[0].at + 1.0
    served.leave()
    await task


async def test_events_without_words_do_not_silence_the_heartbeat() -> None:
    """A reasoning phase, in a dialect that does not tell it, is quiet on the wire."""
    store, socket = await opened(), Socket()
    served = delivery(store, socket, dialect="simple", pacing=Pacing(heartbeat=0.01))
    task = asyncio.create_task(served.run())
    seq = 1
    while socket.text.count(": hb") < 3:
        seq += 1
        delta = e.encode(e.ReasoningDelta(text="hm"))
        await store.append(run_log("r"), seq - 1, [Record(seq, 1000.0 + seq * 0.02, delta)], lease=Lease("me"))
        await asyncio.sleep(0.002)
        assert seq < 2000
    served.leave()
    await task


async def test_bare_text_that_is_quiet_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    store, socket, waits = await opened(), Socket(), list[float | None]()
    cursor = Cursor(store, run_log("r"))
    nexts = cursor.next

    async def counted(timeout: float | None = None) -> Sequence[Record]:
        waits.append(timeout)
        return await nexts(timeout)

    monkeypatch.setattr(Cursor, "next", lambda self, timeout=None: counted(timeout))
    served = Delivery(
        cursor,
        registry.dialect("text")("r"),
        registry.framing("text")(5),
        write=socket.write,
        pacing=Pacing(heartbeat=0.02),
    )
    task = asyncio.create_task(served.run())
    await until(lambda: len(waits) > 4)
    served.leave()
    await task
    assert all(wait == 0.02 for wait in waits)


@pytest.mark.parametrize("dialect", sorted(registry.DIALECTS))
async def test_who_is_sent_away_before_the_first_frame_learns_its_run(dialect: str) -> None:
    store, socket = await opened(), Socket()
    served = delivery(store, socket, dialect=dialect)
    served.send_away()
    assert await served.run() == "sent_away"
    assert socket.text.startswith("id: r.1.1\n") or dialect == "text"
