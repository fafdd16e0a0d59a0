"""Redis stopped, killed, away for too long, and without its last records. Real servers, over HTTP."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.redis_server import ON_DISK, RedisServer, redis_server
from tests.stores.redis_app import make
from tests.stores.redis_views import PATIENCE, comes_to, ending, epochs, read_to, two, watched

from tidelog.cursor import Cursor
from tidelog.errors import Unavailable
from tidelog.stores.redis import RedisStore, claims, hub, nodes
from tidelog.testing import Gate, Script, Viewer, rebuild, serve, serve_process, transcript, watch
from tidelog.testing.conformance import eventually, records, whole

ROOT = Path(__file__).parents[2]
NUMBERS = [f"{number} " for number in range(40)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(*ON_DISK) as found:
        yield found


def hears_heartbeats(viewer: Viewer, *, seconds: float) -> None:
    until, before = time.monotonic() + seconds, len(viewer.parser.comments)
    while time.monotonic() < until or len(viewer.parser.comments) < before + 2:
        assert viewer.more(), "the body ended"


def test_stopped_for_a_while(redis: RedisServer) -> None:
    """The run holds, viewers hear heartbeats, and everything goes on: nothing is lost or doubled."""
    produced = 0

    async def source() -> AsyncIterator[str]:
        nonlocal produced
        for produced in range(200):
            yield f"{produced:>8192} "
            await asyncio.sleep(0.002)

    with two(redis.url, source) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            viewer.read(5)
        redis.pause()
        seen = produced
        hears_heartbeats(far, seconds=3.0)
        held = produced
        hears_heartbeats(mine, seconds=0.0)
        assert held < seen + 100, "the source is not pulled for ever while nothing can be stored"
        redis.go_on()
        mine.rest()
        far.rest()
        assert rebuild(mine.frames) == "".join(f"{number:>8192} " for number in range(200))
        assert transcript(mine.frames) == transcript(far.frames)
        assert ending(mine) == ("completed", None)


def test_killed_and_started_again(redis: RedisServer) -> None:
    """With all that it had: scripts are loaded again, channels heard again."""
    gates = Gate(), Gate()
    with two(redis.url, Script(*NUMBERS[:20], gates[0], *NUMBERS[20:30], gates[1], *NUMBERS[30:])) as (one, other):
        mine, far = watched(one, other)
        for gate, text in zip(gates, (NUMBERS[19], NUMBERS[29]), strict=True):
            for viewer in (mine, far):
                read_to(viewer, text)
            redis.kill()
            gate.open()
            redis.start()
        for viewer in (mine, far):
            viewer.rest()
            assert rebuild(viewer.frames) == "".join(NUMBERS)
            assert ending(viewer) == ("completed", None)
        assert epochs(far) == {"1"}, "nobody else has owned it"
        assert one.watch("/run").run != mine.run


@pytest.mark.parametrize("does", [False, True], ids=["did nothing", "did it"])
def test_killed_when_a_run_was_just_opened(redis: RedisServer, monkeypatch: pytest.MonkeyPatch, does: bool) -> None:
    """The start waits: the run stands in its thread once, whatever became of the first try, and goes its way."""
    post, tries = RedisStore.post, 0

    async def meets_trouble(store: RedisStore, log: str, data: bytes, *, once: bool = False) -> int:
        nonlocal tries
        if not log.startswith("thread/"):
            return await post(store, log, data, once=once)
        tries += 1
        if tries == 1:
            if does:
                await post(store, log, data, once=once)
            redis.kill()
        if tries == 2:
            redis.start()
        return await post(store, log, data, once=once)

    with two(redis.url, Script(*NUMBERS)) as (one, other):
        monkeypatch.setattr(RedisStore, "post", meets_trouble)
        mine = one.watch("/run", params={"thread": "t"})
        far = other.watch(f"/runs/{mine.run}/events")
        for viewer in (mine, far):
            viewer.rest()
            assert rebuild(viewer.frames) == "".join(NUMBERS)
            assert ending(viewer) == ("completed", None)
        assert tries > 1
        assert [found["run"] for found in other.client.get("/threads/t").json()["runs"]] == [mine.run]


def away_for_too_long(url: str, away: Callable[[], Any], back: Callable[[], Any]) -> tuple[Viewer, Viewer]:
    """The run fails while Redis is away, its source closes; two viewers that hear of it once Redis is back."""
    gate, script = Gate(), Script()
    script.steps = ("on", gate, *NUMBERS, Gate())
    with two(url + "?store_patience=0.3", script) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, "on")
        away()
        gate.open()
        script.wait_closed()
        back()
        for viewer in (mine, far):
            viewer.rest()
            assert ending(viewer) == ("failed", "store_unavailable")
    return mine, far


def test_away_for_too_long(redis: RedisServer) -> None:
    """The run ends, its source closes, and its log says so as soon as Redis is back."""
    away_for_too_long(redis.url, redis.kill, redis.start)


def test_what_reaches_a_frozen_redis_late_does_not_keep_the_ending_out(redis: RedisServer) -> None:
    mine, far = away_for_too_long(redis.url, redis.pause, redis.go_on)
    assert transcript(mine.frames) == transcript(far.frames)


@pytest.mark.parametrize("everything", [False, True], ids=["the last records", "everything"])
def test_without_what_it_had_stored(redis: RedisServer, everything: bool) -> None:
    """The run ends under a new epoch; whoever has seen more is told, on an open view and when it comes back."""
    gate, script = Gate(), Script()
    script.steps = (*NUMBERS[:3], gate, *NUMBERS[3:6], Gate())
    with two(redis.url, script) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[2])
        kept = mine.parser.last_id
        size = redis.written()
        gate.open()
        for viewer in (mine, far):
            read_to(viewer, NUMBERS[5])
        redis.kill()
        redis.forget(0 if everything else size)
        redis.start()
        script.wait_closed()
        for viewer in (mine, far):
            viewer.rest()
            assert viewer.complete and viewer.frames[-1].json["type"] == "text.delta", "it ends as if cut"
        events = f"/runs/{mine.run}/events"
        comes_to(lambda: one.client.get(f"/runs/{mine.run}").json().get("state") == "ended")
        for server in (one, other):
            found = server.client.get(f"/runs/{mine.run}").json()
            assert (found["epoch"], found["outcome"]) == (2, "failed")
            ahead = server.watch(events, last_event_id=far.parser.last_id)
            assert (ahead.status, ahead.json["code"]) == (410, "cursor_ahead")
            again = server.watch(events, last_event_id=None if everything else kept, params={"merge": "0"})
            again.rest()
            assert ending(again) == ("failed", "store_unavailable") if everything else again.frames
            assert again.frames[-1].json["error"]["code"] == "store_unavailable"
            assert again.frames[-1].id.split(".")[1] == "2"
            assert rebuild(server.watch(events).rest()) == ("" if everything else "".join(NUMBERS[:3]))


def test_without_an_ending_that_it_had_stored(redis: RedisServer) -> None:
    """Nobody writes that log any more: its owner finds it, and ends it again."""
    gate = Gate()
    with two(redis.url, Script("on", gate)) as (one, other):
        mine, far = watched(one, other)
        for viewer in (mine, far):
            read_to(viewer, "on")
        size = redis.written()
        gate.open()
        for viewer in (mine, far):
            viewer.rest()
            assert ending(viewer) == ("completed", None)
        redis.kill()
        redis.forget(size)
        redis.start()
        comes_to(lambda: other.client.get(f"/runs/{mine.run}").json().get("outcome") == "interrupted")
        ahead = other.watch(f"/runs/{mine.run}/events", last_event_id=far.parser.last_id)
        assert (ahead.status, ahead.json["code"]) == (410, "cursor_ahead")


def test_a_frozen_process_stops_writing_and_spending(redis: RedisServer, tmp_path: Path) -> None:
    env = {"APP_STORE": f"{redis.url}?beat=0.2", "APP_LEASE_PATIENCE": "1.0"}
    spent = tmp_path / "spent"
    with (
        serve_process("tests.stores.redis_app:app", cwd=ROOT, env=env) as process,
        serve(make(env["APP_STORE"], lease_patience=1.0)) as other,
    ):
        busy = watch(f"{process.url}/count", params={"merge": "0"})
        quiet = watch(f"{process.url}/spend", params={"file": str(spent)})
        busy.read(5)
        read_to(quiet, "on")
        process.signal(signal.SIGSTOP)
        for run in (busy.run, quiet.run):
            far = other.watch(f"/runs/{run}/events", params={"merge": "0"}, timeout=PATIENCE)
            far.rest()
            assert ending(far) == ("interrupted", "interrupted")
        stored = other.client.get(f"/runs/{busy.run}").json()["last_seq"]
        assert spent.read_text() == "spending"
        process.signal(signal.SIGCONT)
        comes_to(lambda: spent.read_text() == "closed")
        for viewer in (busy, quiet):
            viewer.rest()
            assert viewer.frames[-1].json["outcome"] == "interrupted"
        assert other.client.get(f"/runs/{busy.run}").json()["last_seq"] == stored
        assert watch(f"{process.url}/count", params={"to": "3"}).rest()[-1].json["outcome"] == "completed"


# The store alone


@pytest.mark.anyio
async def test_a_key_whose_claimant_died_is_claimed_again(
    stores: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stores
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.2)
    assert await one._claims.claim("k", "run/never", b"f") == "run/never"
    assert await two.open("run/a", b"", key="k", fingerprint=b"f") == "run/a"
    assert await one.open("run/b", b"", key="k", fingerprint=b"f") == "run/a"


@pytest.mark.anyio
async def test_a_burst_waits_for_connections(stores: tuple[RedisStore, RedisStore]) -> None:
    one, two = stores
    await one.open("run/a", b"h", records=records(0, 3))
    found = await asyncio.gather(*(two.read("run/a", 1) for _ in range(500)))
    assert all(list(page.records) == records(1, 2) for page in found)


@pytest.mark.anyio
async def test_an_open_that_nobody_knows_the_outcome_of_is_ended(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen Redis takes the command, and nobody waits so long for its answer."""
    store = RedisStore(f"{redis.url}?store_patience=0.5")
    with monkeypatch.context() as patch:
        patch.setattr(nodes, "SOCKET_TIMEOUT", 0.3)
        await store.start("one")
        await store.post("control/x", b"")  # the connection stands
        redis.pause()
        with pytest.raises(Unavailable):
            await store.open("run/a", b"h", records=records(0, 1))
    redis.go_on()

    async def found() -> bool:
        return list(await store.orphans(8.0)) == ["run/a"]

    assert await eventually(found)
    await store.take("run/a", 1, records(1, 1, epoch=2))
    assert await whole(store, "run/a") == records(0, 1) + records(1, 1, epoch=2)
    assert list(await store.orphans(8.0)) == []
    await store.aclose()


@pytest.mark.anyio
async def test_numbers_of_posts_that_were_lost_are_not_given_again(
    redis: RedisServer, stores: tuple[RedisStore, RedisStore]
) -> None:
    """Who has obeyed number 3 must not pass over another number 3."""
    one, two = stores
    cursor = Cursor(one, "control/a")
    await two.post("control/a", b"1")
    size = redis.written()
    for said in (b"2", b"3"):
        await two.post("control/a", said)
    found: list[bytes] = []
    while len(found) < 3:
        found += [record.data for record in await cursor.next(PATIENCE)]
    redis.kill()
    redis.forget(size)
    redis.start()

    async def mended() -> bool:
        return (await one._stand("control/a")).last == 3

    assert await eventually(mended)
    assert await two.post("control/a", b"4") == 4
    assert [record.data for record in await cursor.next(PATIENCE)] == [b"4"]
    cursor.close()


@pytest.mark.anyio
async def test_whoever_reads_what_nobody_watches_any_more_waits_for_nobody(
    stores: tuple[RedisStore, RedisStore],
) -> None:
    """The watch ends before its channel is heard, and leaves nobody waiting for that."""
    one, two = stores
    await one.open("run/a", b"h", records=records(0, 1))
    bell = two.changed("run/a")
    reading = asyncio.create_task(two.read("run/a", 0))
    await asyncio.sleep(0)  # it waits for the channel
    del bell
    async with asyncio.timeout(hub.READY_TIMEOUT / 2):
        assert list((await reading).records) == records(0, 1)


@pytest.mark.anyio
async def test_what_is_opened_after_a_death_is_not_lost_with_what_was_before(redis: RedisServer) -> None:
    """The beat that finds the death may be heard of only once the process lives again; each later one counts."""
    store = RedisStore(f"{redis.url}?beat=60")
    await store.start("one")
    await store.open("run/old", b"h", records=records(0, 1))
    sent = time.monotonic()
    await store._link.one("SET", store._keys.beat("one"), "dead")
    await store.open("run/new", b"h", records=records(0, 1))
    store._died(sent)
    await asyncio.sleep(0)
    assert [store.window(log) is not None for log in ("run/old", "run/new")] == [False, True]
    store._died(time.monotonic())
    await asyncio.sleep(0)
    assert store.window("run/new") is None
    await store.aclose()
