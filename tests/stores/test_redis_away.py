"""Starts that meet a Redis which is away: they wait as runs do, and each begins one run, however often it had to be tried."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from tests.redis_server import ON_DISK, RedisServer, redis_server, wait_for
from tests.stores.redis_views import comes_to, ending, two
from tests.test_several_keepers import LATER, died_at_work, replaced, started, tail_of

from tidelog import head as heads
from tidelog.errors import Conflict, Unavailable
from tidelog.launch import Launched
from tidelog.log import Lease, Tail
from tidelog.stores.redis import RedisStore, claims, nodes, persist
from tidelog.stores.redis.births import Births
from tidelog.testing import Server, Viewer, rebuild
from tidelog.testing.conformance import eventually, records, whole


class Absence:
    """How Redis goes away, and comes back with all that it had. Nobody waits long for it meanwhile."""

    def __init__(self, redis: RedisServer, patch: pytest.MonkeyPatch, *, killed: bool) -> None:
        self._redis = redis
        self._patch = patch
        self._killed = killed
        connected = nodes.connected

        async def within_limits(kwargs: dict[str, Any]) -> Any:
            async with asyncio.timeout(nodes.SOCKET_TIMEOUT):
                return await connected(kwargs)

        patch.setattr(nodes, "connected", within_limits)

    def begin(self) -> None:
        self._patch.setattr(nodes, "SOCKET_TIMEOUT", 0.2)
        self._patch.setattr(persist, "LONGEST_WAIT", 0.2)
        (self._redis.kill if self._killed else self._redis.pause)()

    def end(self) -> None:
        self._patch.setattr(nodes, "SOCKET_TIMEOUT", 5.0)
        (self._redis.start if self._killed else self._redis.go_on)()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(*ON_DISK) as found:
        yield found


@pytest.fixture(params=["frozen", "killed"])
def absence(request: pytest.FixtureRequest, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Absence:
    return Absence(redis, monkeypatch, killed=request.param == "killed")


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each log was tried to be opened, or looked at."""
    found, tried, tail = Counter[str](), Births._try, RedisStore.tail

    async def counted(births: Births, log: str, *rest: Any) -> str:
        found[log] += 1
        return await tried(births, log, *rest)

    async def looked_at(store: RedisStore, log: str) -> Tail | None:
        found[log] += 1
        return await tail(store, log)

    monkeypatch.setattr(Births, "_try", counted)
    monkeypatch.setattr(RedisStore, "tail", looked_at)
    return found


def tried_again(tries: Counter[str], logs: int) -> None:
    """So many logs were tried more than once."""
    wait_for(lambda: sum(count > 1 for count in list(tries.values())) == logs, "they were tried again")


class Source:
    """Counts how often it was opened."""

    def __init__(self) -> None:
        self.opened = 0

    async def __call__(self) -> AsyncIterator[str]:
        self.opened += 1
        yield "on "
        yield "and on"


def runs(server: Server) -> list[dict[str, Any]]:
    """Those that are known; none before it has heard Redis again."""
    return list(server.client.get("/runs", params={"limit": 100}).json().get("runs", ()))


@pytest.mark.parametrize("keyed", [True, False], ids=["one key", "no key"])
def test_starts_wait(redis: RedisServer, tries: Counter[str], absence: Absence, keyed: bool) -> None:
    """Twenty at once through two processes: with one key they are one run, else each is its own; also in one thread each."""
    source = Source()
    with two(redis.url, source, source) as servers, ThreadPoolExecutor(20) as pool:

        def start(number: int) -> Viewer:
            headers = {"Idempotency-Key": "k"} if keyed else {"Thread-Id": f"t{number}"}
            return servers[number % 2].watch("/run", headers=headers)

        absence.begin()
        viewers = [pool.submit(start, number) for number in range(20)]
        tried_again(tries, 20)
        assert not any(viewer.done() for viewer in viewers)
        absence.end()
        for waiting in viewers:
            viewer = waiting.result()
            viewer.rest()
            assert viewer.status == 200
            assert rebuild(viewer.frames) == "on and on"
            assert ending(viewer) == ("completed", None)
        started = {waiting.result().run for waiting in viewers}
        assert len(started) == source.opened == (1 if keyed else 20)
        comes_to(lambda: {run["run"] for run in runs(servers[0])} == started)


def test_a_start_whose_client_has_left_begins_once(redis: RedisServer, tries: Counter[str], absence: Absence) -> None:
    """Leaving ends no run, and none that is about to begin; nobody has asked for a second one."""
    source = Source()
    with two(redis.url, source) as (one, other):
        absence.begin()
        with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as client:
            client.sendall(b"GET /run HTTP/1.1\r\nHost: test\r\n\r\n")
            tried_again(tries, 1)
        absence.end()
        comes_to(lambda: [run["outcome"] for run in runs(other)] == ["completed"])
        assert source.opened == 1


@pytest.mark.parametrize("absence", ["frozen"], indirect=True)
def test_a_redis_that_stays_away_is_told(redis: RedisServer, absence: Absence) -> None:
    """After `store_patience`; what reaches it late begins nothing, and is ended."""
    source = Source()
    with two(f"{redis.url}?store_patience=1", source) as (one, other):
        before = one.watch("/run")
        before.rest()  # the connection stands
        absence.begin()
        refused = one.watch("/run", accept="application/x-ndjson")
        assert (refused.status, refused.json["code"]) == (503, "store_unavailable")
        back = other.watch(f"/runs/{before.run}/events")  # as an EventSource, which any other status would end for good
        back.rest()
        assert (back.status, back.body[:7]) == (200, b"retry: ")
        absence.end()
        comes_to(lambda: [run["outcome"] for run in runs(other)] == ["interrupted", "completed"])
        assert source.opened == 1


# The store alone


@pytest.mark.anyio
async def test_opens_of_one_key_wait(
    tries: Counter[str], stores: tuple[RedisStore, RedisStore], absence: Absence
) -> None:
    absence.begin()
    opens = [stores[n % 2].open(f"run/{n}", b"h", records=records(0, 1), key="k", fingerprint=b"f") for n in range(20)]
    opening = asyncio.gather(*opens)

    async def tried() -> bool:
        return len(tries) == 20 and min(tries.values()) > 1

    assert await eventually(tried)
    await asyncio.to_thread(absence.end)
    won = set(await opening)
    assert [f"run/{n}" for n in range(20) if await stores[0].tail(f"run/{n}") is not None] == list(won)
    assert await whole(stores[1], won.pop()) == records(0, 1)


@pytest.mark.anyio
async def test_of_two_that_claim_a_key_one_opens_however_late(
    stores: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one was waited for in vain, and lives."""
    one, two = stores
    opened, goes_on = Births._opened, asyncio.Event()

    async def late(births: Births, log: str, *rest: Any) -> bool:
        if log == "run/late":
            await goes_on.wait()
        return await opened(births, log, *rest)

    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.2)
    monkeypatch.setattr(Births, "_opened", late)
    opening = asyncio.create_task(one.open("run/late", b"", key="k", fingerprint=b"f"))

    async def claimed() -> bool:
        return bool(await one._link.one("EXISTS", one._keys.claim("k")))

    assert await eventually(claimed)
    assert await two.open("run/a", b"", key="k", fingerprint=b"f") == "run/a"
    goes_on.set()
    assert await opening == "run/a"
    with pytest.raises(Conflict):
        await one.open("run/late", b"")
    assert [log for log, _ in await two.list("run/", None, 10)] == ["run/a"]


@pytest.mark.anyio
async def test_a_key_is_free_whose_claimant_may_not_open_any_more(stores: tuple[RedisStore, RedisStore]) -> None:
    """Whoever forbade it has died before it claimed the key itself: nobody waits."""
    one, two = stores
    assert await one._claims.claim("k", "run/never", b"f") == "run/never"
    assert await two._claims._forbidden("run/never")
    assert await two.open("run/a", b"", key="k", fingerprint=b"f") == "run/a"


@pytest.mark.anyio
async def test_an_open_that_was_fenced_before_it_was_answered_is_not_ours(
    stores: tuple[RedisStore, RedisStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others had taken us for dead between two tries. What was opened is there, for whoever ends it, and for its key."""
    one, two = stores
    opened, tried = Births._opened, 0

    async def fenced(births: Births, log: str, *rest: Any) -> bool:
        nonlocal tried
        tried += 1
        found = await opened(births, log, *rest)
        if tried == 1:
            await two._leases.fence("one", [log])
            raise Unavailable("no answer")
        return found

    monkeypatch.setattr(Births, "_opened", fenced)
    with pytest.raises(Conflict):
        await one.open("run/a", b"", records=records(0, 1), key="k", fingerprint=b"f")
    assert tried == 2
    with pytest.raises(Conflict):
        await one.append("run/a", 1, records(1, 1), lease=Lease("one"))
    assert await two.open("run/b", b"", key="k", fingerprint=b"f") == "run/a"


# Work elsewhere


@pytest.mark.anyio
@pytest.mark.parametrize("patience", [30.0, 0.5], ids=["for a moment", "for longer than anybody waits"])
async def test_a_run_that_takes_the_place_of_another_waits(
    redis: RedisServer, tries: Counter[str], monkeypatch: pytest.MonkeyPatch, absence: Absence, patience: float
) -> None:
    """Redis goes exactly when it is to be opened. Who gave up has left it to the next look, of whomever."""
    async with started(f"{redis.url}?beat=0.05&store_patience={patience}", 2) as (one, other):
        await died_at_work(one.tide.store_url)
        elsewhere = one.tide.runner.elsewhere
        hand_on = elsewhere.hand_on

        async def meets_trouble(*given: Any) -> Launched:
            absence.begin()
            tries.clear()
            return await hand_on(*given)

        monkeypatch.setattr(elsewhere, "hand_on", meets_trouble)
        monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.1)  # less than anybody waits for the store
        reaping = asyncio.create_task(one.keeper.reap())

        async def tried() -> bool:
            return any(count > 1 for log, count in tries.items() if log != "run/r")

        async def seen_to() -> bool:
            with suppress(Unavailable):  # on a busy machine its patience is over, too, before it has a connection
                await other.keeper.look(LATER)
            return heads.decode((await tail_of(other, "r")).head).ended is not None

        assert await eventually(tried)
        if patience < 1:
            with suppress(Unavailable):  # that is its keeper's to tell
                await reaping
            await one.tide.aclose()
        await asyncio.to_thread(absence.end)
        if patience > 1:
            await reaping
        else:
            assert await eventually(seen_to)
        assert len(await replaced([other])) == 1
        assert len(one.queue.sent) + len(other.queue.sent) == 1
