"""What dead processes left behind is ended truthfully, and what is old goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.parts import ENDED, legal, legal_events, log_of, until

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Conflict, Gone, Unavailable
from tidelog.head import Head
from tidelog.keeper import Keeper
from tidelog.log import Lease, Record, control_log, run_log
from tidelog.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

OPEN: tuple[e.Event, ...] = (
    e.TextDelta(text="Hel"), e.ReasoningDelta(text="hm"), e.Usage(input=1, output=2), e.TextDelta(text="lo"),
    e.ToolStarted(call="a", name="n"), e.ToolInputDelta(call="a", json="{"),
    e.ToolStarted(call="b", name="n"), e.ToolEnded(call="b"),
)  # fmt: skip


SAID = e.TokenUsage(0, 1, "estimated"), e.TokenUsage(1, 2, "provider"), e.TokenUsage(1, 3, "estimated")
USED = (e.TokenUsage(), SAID[0], SAID[0], SAID[1], SAID[2], SAID[2], SAID[2], SAID[2], SAID[2])
"""What is told of the usage where the log is cut behind each of these: what was told last, and an estimate of what came since."""


class LeaseStore(MemoryStore):
    """A memory store whose logs belong to a process that is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[str] = []
        self.patience = 0.0
        self.takes = 0
        self.fails: list[type[Exception]] = []

    async def orphans(self, patience: float) -> Sequence[str]:
        self.patience = patience
        return list(self.dead)

    async def age(self, owner: str) -> float | None:
        return 0.0

    async def take(
        self, log: str, after: int, records: Sequence[Record], *, head: bytes | None = None, ended: bool = True
    ) -> Lease:
        self.takes += 1
        if self.fails:
            raise self.fails.pop()()
        found = self._logs[log]
        found.lease = Lease("me", found.lease.epoch + 1)
        await self.append(log, after, records, lease=found.lease, head=head, ended=ended)
        self.dead.remove(log)
        return found.lease


async def put(store: MemoryStore, *events: e.Event, run: str = "r", owner: str = "dead") -> None:
    await store.start(owner)
    head = heads.encode(Head(run=run, thread="t", message="m", created=0.0))
    await store.open(run_log(run), head, records=log_of(*events, run=run))


@pytest.mark.parametrize("cut", range(len(OPEN) + 1))
async def test_an_orphan_cut_anywhere_is_ended_as_interrupted(cut: int) -> None:
    store = LeaseStore()
    await put(store, *OPEN[:cut])
    store.dead = [run_log("r"), "thread/0:/t"]
    await Keeper(store, lease_patience=3.0).reap()
    assert store.patience == 3.0
    events = await legal(store, "r")
    ended = events[-1]
    assert isinstance(ended, e.RunEnded)
    assert (ended.outcome, ended.error) == ("interrupted", e.Error.of("interrupted"))
    assert ended.usage == USED[cut]
    page = await store.read(run_log("r"), 0)
    assert [record.epoch for record in page.records] == [1] * (cut + 1) + [2] * (len(events) - cut - 1)


@pytest.mark.parametrize("error", [Conflict, Gone])
async def test_somebody_else_was_first(error: type[Exception]) -> None:
    store = LeaseStore()
    await put(store, *OPEN)
    store.dead, store.fails = [run_log("r")], [error]
    await Keeper(store).reap()
    tail = await store.tail(run_log("r"))
    assert tail is not None
    assert not tail.ended


async def test_a_log_that_cannot_be_ended_does_not_save_the_others() -> None:
    store = LeaseStore()
    await put(store, *OPEN, run="bad")
    await put(store, *OPEN, run="good")
    store._logs[run_log("bad")].head = b"not a head"
    store.dead = [run_log("bad"), run_log("good")]
    await Keeper(store).reap()
    assert store.dead == [run_log("bad")]
    await legal(store, "good")


async def test_events_of_a_later_version_do_not_hinder() -> None:
    store = LeaseStore()
    await put(store, e.TextDelta(text="x"))
    later = [Record(3, 0.0, b'{"type":"text.sung","part":"p1"}'), Record(4, 0.0, e.encode(e.ToolEnded(call="sung")))]
    await store.append(run_log("r"), 2, later, lease=Lease("dead"))
    store.dead = [run_log("r")]
    await Keeper(store).reap()
    tail = await store.tail(run_log("r"))
    assert tail is not None
    assert tail.ended


async def test_an_ended_log_stays_as_it_is() -> None:
    store = LeaseStore()
    await put(store, ENDED)
    await store.append(run_log("r"), 2, [], lease=Lease("dead"), ended=True)
    store.dead = [run_log("r")]
    await Keeper(store).reap()
    assert not store.takes


async def test_a_lost_ending_is_stored_under_our_own_lease_only() -> None:
    for owner in ("me", "somebody else"):
        store = MemoryStore()
        await put(store, *OPEN, owner=owner)
        ending = await Keeper(store).end_lost("r", e.Error.of("store_unavailable"), lease=Lease("me"))
        assert (ending is not None) == (owner == "me")
        tail = await store.tail(run_log("r"))
        assert tail is not None
        assert tail.ended == (owner == "me")
        if tail.ended:
            legal_events((await store.read(run_log("r"), 0)).records)


@pytest.mark.parametrize("owner", ["me", "somebody else"])
async def test_an_ending_that_was_stored_and_reported_as_failed_is_told_once_it_is_seen(owner: str) -> None:
    store = MemoryStore()
    await put(store, owner=owner)
    head = heads.ended_head(Head(run="r", thread="t", message="m", created=0.0), ENDED)
    last = Record(2, 1000.0, e.encode(ENDED))
    await store.append(run_log("r"), 1, [last], lease=Lease(owner), head=heads.encode(head), ended=True)
    ending = await Keeper(store).end_lost("r", e.Error.of("store_unavailable"), lease=Lease("me"))
    found = None if ending is None else (ending.run, ending.outcome, ending.error, ending.records)
    assert found == (("r", "completed", None, 2) if owner == "me" else None)
    assert len((await store.read(run_log("r"), 0)).records) == 2


async def test_it_works_for_ever_and_tries_again() -> None:
    store = LeaseStore()
    await put(store, *OPEN)
    store.dead, store.fails = [run_log("r")], [Unavailable, Unavailable]
    task = asyncio.create_task(Keeper(store, lease_patience=0.01).work())
    await until(lambda: not store.dead)
    assert store.takes == 3
    assert not task.done()
    task.cancel()
    await legal(store, "r")


@pytest.mark.parametrize(("retention", "kept"), [(None, True), (1000.0, True), (-1.0, False)])
async def test_what_ended_long_ago_is_dropped(retention: float | None, kept: bool) -> None:
    store = MemoryStore()
    await put(store, ENDED)
    await store.append(run_log("r"), 2, [], lease=Lease("dead"), ended=True)
    await put(store, run="live")
    await store.post(control_log("r"), b"{}")
    await Keeper(store, retention=retention).expire()
    assert await store.tail(run_log("live")) is not None
    assert (await store.tail(control_log("r")) is not None) == kept
    if kept:
        assert await store.tail(run_log("r")) is not None
    else:
        with pytest.raises(Gone):
            await store.tail(run_log("r"))


async def test_one_log_that_cannot_be_read_keeps_no_other_from_being_looked_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A later version's, perhaps: who looks after the others must not die of it."""
    store, looked = LeaseStore(), list[str]()
    await store.start("me")
    for run in ("odd", "good"):
        found = heads.encode(Head(run=run, thread="t", message="m", created=0.0)) if run == "good" else b"?"
        await store.open(run_log(run), found, records=log_of(*OPEN, run=run))
    store.dead = [run_log("odd"), run_log("good")]
    keeper = Keeper(store)
    await keeper.reap()
    await legal(store, "good")

    async def wake(run: str, due: float | None) -> None:
        assert due == 0.0
        looked.append(run)
        if run == "odd":
            raise ValueError(run)

    keeper.wake = wake
    for run in ("odd", "parked"):
        store._logs[run_log(run)] = store._logs[run_log("odd")]
        store._logs[run_log(run)].due = 0.0
    await keeper.look(1.0)
    assert sorted(looked) == ["odd", "parked"]
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "run odd cannot be looked after"
    ] * 2
