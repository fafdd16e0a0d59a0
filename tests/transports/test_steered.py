"""A view that is held, let go and moved: what it shows is what a viewer would see that came to that place."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import ENDED, PATIENCE, turns, until
from tests.properties.logs import whole_logs
from tests.properties.test_resume import GRANULARITIES, Frames, shown
from tests.test_paced import played
from tests.transports.test_deliver import Socket, opened

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, run_log
from tidelog.paced import Paced
from tidelog.stores.memory import MemoryStore
from tidelog.transports.deliver import Pacing
from tidelog.transports.steered import Steered

pytestmark = pytest.mark.anyio


def steered(
    store: MemoryStore, socket: Socket, *, dialect: str = "native", cursor: Cursor | None = None,
    pacing: Pacing = Pacing(Granularity(0.0)), hold_limit: float = 60.0,
) -> Steered:  # fmt: skip
    return Steered(
        cursor or Cursor(store, run_log("r")), registry.dialect(dialect)("r"), registry.framing("messages")(5),
        write=socket.write, pacing=pacing, hold_limit=hold_limit,
    )  # fmt: skip


async def say(store: MemoryStore, *texts: str, after: int, ended: bool = False) -> None:
    for seq, text in enumerate(texts, after + 1):
        record = Record(seq, 1000.0, e.encode(ENDED if text == "END" else e.TextDelta(text=text)))
        await store.append(run_log("r"), seq - 1, [record], lease=Lease("me"), ended=text == "END")
        await turns()


async def test_a_held_view_shows_nothing_and_then_all() -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket)
    task = asyncio.create_task(view.run())
    await say(store, "a", "b", after=1)
    await until(lambda: '"b"' in socket.text)
    view.hold()  # at once: what is stored in the same turn is not shown
    before = socket.text
    await say(store, "c", "d", "END", after=3)
    assert socket.text == before
    view.go()
    assert await asyncio.wait_for(task, PATIENCE) == "ended"
    assert [socket.text.count(f'"{text}"') for text in "abcd"] == [1, 1, 1, 1]


async def test_a_held_view_beats_and_lets_its_viewer_go() -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket, pacing=Pacing(heartbeat=0.01))
    view.hold()
    task = asyncio.create_task(view.run())
    await until(lambda: socket.text.count('{"type":"heartbeat"}\n') >= 3)
    assert "run.started" not in socket.text
    view.leave()
    assert await asyncio.wait_for(task, PATIENCE) == "left"
    assert not store.changed(run_log("r"))._waiting


@pytest.mark.parametrize("held", [True, False])
async def test_who_is_sent_away_hears_it_though_it_holds(held: bool) -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket)
    task = asyncio.create_task(view.run())
    await turns()
    if held:
        view.hold()
        await turns()
    view.send_away()
    assert await asyncio.wait_for(task, PATIENCE) == "sent_away"
    assert '"type":"reconnect"' in socket.text


async def test_nobody_holds_for_ever() -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket, hold_limit=0.02)
    view.hold()
    assert await asyncio.wait_for(view.run(), PATIENCE) == "idle"


async def test_a_held_viewer_that_takes_no_heartbeat_is_given_up() -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket, pacing=Pacing(heartbeat=0.01, send_timeout=0.02))
    view.hold()
    socket.free.clear()
    assert await asyncio.wait_for(view.run(), PATIENCE) == "stalled"


async def test_what_it_is_told_stands_between_frames() -> None:
    store, socket = await opened(e.TextDelta(text="a")), Socket()
    view = steered(store, socket)
    task = asyncio.create_task(view.run())
    await until(lambda: '"a"' in socket.text)
    view.seek(0)
    assert await view.tell(b"moved\n")
    await until(lambda: socket.text.count('"a"') == 2)
    first, second = socket.text.split("moved\n")
    assert first == second
    view.leave()
    assert not await view.tell(b"late\n")
    await task
    assert not await view.tell(b"later\n")
    assert "late" not in socket.text


async def test_who_waits_for_its_answer_hears_when_the_view_is_over() -> None:
    store, socket = await opened(), Socket()
    view = steered(store, socket)
    task = asyncio.create_task(view.run())
    await turns()
    socket.free.clear()
    waiting = asyncio.create_task(view.tell(b"x\n"))
    await turns()
    view.leave()
    assert await asyncio.wait_for(task, PATIENCE) == "left"
    assert not await asyncio.wait_for(waiting, PATIENCE)


async def test_a_viewer_that_moves_back_is_slow_under_lockstep() -> None:
    store, socket, moves = await opened(e.TextDelta(text="a"), e.TextDelta(text="b")), Socket(), list[int]()
    view = steered(store, socket)
    view.moved = moves.append
    task = asyncio.create_task(view.run())
    await until(lambda: moves == [3])
    view.seek(1)
    await until(lambda: len(moves) == 3)
    assert moves == [3, 1, 3]
    view.leave()
    await task


def test_time_stands_still_while_a_replay_is_held() -> None:
    async def work() -> None:
        records = [Record(n, 10.0 * n, e.encode(e.TextDelta(text=str(n)))) for n in range(1, 6)]
        store, loop = MemoryStore(), asyncio.get_running_loop()
        await store.start("me")
        await store.open(run_log("r"), b"", records=records)
        await store.append(run_log("r"), 5, [], lease=Lease("me"), ended=True)
        times: list[float] = []

        class Timed(Socket):
            async def write(self, data: bytes) -> None:
                times.append(loop.time() - begun)

        begun = loop.time()
        view = steered(store, Timed(), cursor=Paced(store, run_log("r"), pace=10.0))
        task = asyncio.create_task(view.run())
        await asyncio.sleep(1.5)  # two are out
        view.hold()
        await asyncio.sleep(3.0)
        view.go()
        await asyncio.sleep(1.5)  # four are out
        view.seek(3)
        assert await task == "ended"
        assert times == pytest.approx([0, 1, 4.5, 5.5, 6, 7])

    played(work)


async def check(
    log: Sequence[Record], dialect: str, granularity: Granularity, moves: dict[int, int], batch: int
) -> None:
    store = MemoryStore()
    await store.start("me")
    await store.open(run_log("r"), b"", records=log[:-1])
    await store.append(run_log("r"), len(log) - 1, log[-1:], lease=Lease("me"), ended=True)
    moves = {step: min(position, len(log)) for step, position in moves.items()}
    last = 0
    frames = Frames()

    async def write(data: bytes) -> None:
        nonlocal last
        await frames.write(data)
        writes = next(steps)
        if writes in moves:
            last = moves[writes]
            view.seek(last)
            marks.append(len(frames.kept))

    marks, steps = [0], iter(range(1, 10_000))
    cursor = Cursor(store, run_log("r"), batch=batch)
    view = Steered(cursor, registry.dialect(dialect)("r"), frames, write=write, pacing=Pacing(granularity))
    assert await view.run() == "ended"
    wanted = await shown(store, dialect, granularity, last, batch)
    found = frames.kept[marks[-1] :]
    assert found[len(found) - len(wanted) :] == wanted
    assert len(found) - len(wanted) <= batch // 8, "what was on its way, and no more"


async def rhythm(pace: float, gaps: Sequence[float], pacing: Pacing) -> list[tuple[float, bytes]]:
    """What is written of deltas with these gaps between them, and when."""
    loop, store, at = asyncio.get_running_loop(), MemoryStore(), 100.0
    records = [Record(1, at, e.encode(e.TextDelta(text="x")))]
    for gap in gaps:
        at += gap
        records.append(Record(len(records) + 1, at, records[0].data))
    await store.start("me")
    await store.open(run_log("r"), b"", records=records)
    await store.append(run_log("r"), len(records), [], lease=Lease("me"), ended=True)
    written: list[tuple[float, bytes]] = []
    begun = loop.time()

    class Timed(Socket):
        async def write(self, data: bytes) -> None:
            written.append((loop.time() - begun, data))

    view = steered(store, Timed(), cursor=Paced(store, run_log("r"), pace=pace), pacing=pacing)
    assert await view.run() == "ended"
    return written


def test_merging_counts_the_time_of_the_viewer() -> None:
    """Fifty words, 20 ms apart: four times as fast they come joined, ten times as slow each alone."""

    async def work() -> None:
        fast = await rhythm(4.0, [0.02] * 49, Pacing(Granularity(0.02)))
        assert 12 <= len(fast) <= 16
        assert fast[-1][0] == pytest.approx(49 * 0.02 / 4, abs=0.021)
        slow = await rhythm(0.1, [0.02] * 49, Pacing(Granularity(0.02)))
        assert [at for at, _ in slow] == pytest.approx([n * 0.2 for n in range(50)])

    played(work)


def test_a_replay_beats_while_nothing_is_due() -> None:
    async def work() -> None:
        written = await rhythm(1.0, [3.5], Pacing(heartbeat=1.0))
        assert [at for at, data in written if b"heartbeat" in data] == pytest.approx([1, 2, 3])

    played(work)


@pytest.mark.soak
@pytest.mark.parametrize("dialect", registry.DIALECTS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@settings(max_examples=count(15, 300), deadline=None)
@given(
    log=whole_logs(20), batch=st.sampled_from([1, 500, 1 << 18]),
    moves=st.dictionaries(st.integers(1, 12), st.integers(0, 40), max_size=4),
)  # fmt: skip
def test_who_moves_sees_what_one_sees_that_comes_there(
    dialect: str, granularity: str, log: list[Record], batch: int, moves: dict[int, int]
) -> None:
    asyncio.run(check(log, dialect, GRANULARITIES[granularity], moves, batch))
