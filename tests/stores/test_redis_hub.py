"""What is watched here of logs that others write: whoever is rung finds the last record there, and never that of another time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.parts import PATIENCE, until
from tests.redis_server import RedisServer, redis_server
from tests.transports.test_deliver import Socket

from tidelog import events as e
from tidelog import registry
from tidelog.bell import Bell
from tidelog.cursor import Cursor
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record
from tidelog.seams import Page
from tidelog.stores.redis import RedisStore
from tidelog.stores.redis.hub import Hub, Stand, Watch
from tidelog.testing.conformance import records
from tidelog.transports.deliver import Delivery, Pacing
from tidelog.window import LOOK_EVERY

pytestmark = pytest.mark.anyio
LOG = "run/r"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


async def test_a_viewer_elsewhere_hears_of_each_large_record(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of large ones a window holds few; the one that was just stored stays."""
    one, two = RedisStore(redis.url), RedisStore(redis.url)
    await one.start("one")
    await two.start("two")
    await one.open(LOG, b"", records=records(0, 1))
    socket, dialect, framing = Socket(), registry.dialect("native")("r"), registry.framing("sse")(5)
    viewer = Delivery(Cursor(two, LOG), dialect, framing, write=socket.write, pacing=Pacing(Granularity(0.0)))
    watching = asyncio.create_task(viewer.run())
    await until(lambda: viewer.position == 1)
    for seq in range(2, 2 * LOOK_EVERY):
        event = e.encode(e.Data(data="x" * 40_000))
        await one.append(LOG, seq - 1, [Record(seq, 1.0, event)], Lease("one"))
        await until(lambda seq=seq: viewer.position == seq)  # type: ignore[misc]
    viewer.leave()
    assert await asyncio.wait_for(watching, PATIENCE) == "left"
    assert not caplog.records
    await one.aclose()
    await two.aclose()


async def test_a_log_that_begins_anew_has_another_end() -> None:
    """Whoever has the old one sees that it is the end no more, and reads."""
    watch = Watch(LOG, "c", Bell())
    watch.begin(Stand(1, 1))
    before = watch.end
    assert before is not None
    watch.begin(Stand(2, 2))
    assert watch.end is not before
    assert (before.stored, watch.end and watch.end.stored) == (1, 2)


@pytest.mark.parametrize("gone", [False, True])
async def test_what_was_read_behind_an_end_that_is_none_any_more_goes_nowhere(gone: bool) -> None:
    async def read(log: str, after: int) -> Page:
        if gone:
            watch.end = None
        else:
            watch.begin(Stand(7, 2))
        return Page([Record(after + 1, 1.0, b"{}", 1)], False, False)

    nothing: Any = None
    hub = Hub(
        nothing, read=read, stand=nothing, mend=nothing, ours=nothing, touched=nothing, again=nothing,
    )  # fmt: skip
    watch = Watch(LOG, "c", Bell())
    watch.begin(Stand(1, 1))
    assert watch.end is not None
    await hub._read_on(watch, watch.end)
    if gone:
        assert watch.end is None
    else:
        assert watch.end is not None
        assert (watch.end.stored, watch.end.records, watch.epoch) == (7, [], 2)
