"""Resuming at every cut gives the whole: for every dialect and every granularity, through the one reading loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.properties.logs import whole_logs

from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.dialects.native import Native
from tidelog.frame import Envelope, Frame
from tidelog.granularity import Granularity
from tidelog.log import Lease, Record, parse_position, run_log
from tidelog.stores.memory import MemoryStore
from tidelog.transcript import Fold, encode
from tidelog.transports.deliver import Delivery, Pacing

pytestmark = pytest.mark.soak

GRANULARITIES = {
    "token": Granularity(0.0), "merged": Granularity(0.001), "sentence": Granularity(0.0, "sentence"),
    "paragraph": Granularity(0.001, "paragraph"), "whole": Granularity(0.0, "whole"),
}  # fmt: skip


class Frames:
    """A framing whose bytes are turned back into frames: `kept` are those that were written."""

    media_type = "test/frames"
    heartbeat = b""
    _made: ClassVar[list[Frame]] = []

    def __init__(self) -> None:
        self.kept: list[Frame] = []

    def encode(self, frame: Frame) -> bytes:
        self._made.append(frame)
        return b"%d " % (len(self._made) - 1)

    def begin(self, run: bytes, envelope: Envelope) -> None:
        self._native = Native(run.decode())

    def verbatim(self, record: Record) -> bytes:
        (frame,) = self._native.encode(record)
        return self.encode(frame)

    async def write(self, data: bytes) -> None:
        self.kept += [self._made[int(number)] for number in data.split()]


async def shown(store: MemoryStore, dialect: str, granularity: Granularity, position: int, batch: int) -> list[Frame]:
    """What one viewer gets from `position` to the end."""
    frames = Frames()
    cursor = Cursor(store, run_log("r"), position, batch=batch)
    served = Delivery(cursor, registry.dialect(dialect)("r"), frames, write=frames.write, pacing=Pacing(granularity))
    assert await served.run() == "ended"
    return frames.kept


def told(dialect: str, frames: Sequence[Frame]) -> object:
    """What a reader makes of frames: a transcript, or named events with the text between them joined."""
    if dialect == "native":
        fold = Fold()
        fold.take(Record(json.loads(frame.data)["seq"], 0.0, frame.data) for frame in frames if frame.data is not None)
        return encode(fold.result())
    found: list[tuple[str | None, str]] = []
    for frame in frames:
        if frame.data is None:
            continue
        data = frame.data.decode()
        if frame.event is None and dialect == "simple":
            data = json.loads(data)["data"]
        if frame.event is None and found and found[-1][0] is None:
            found[-1] = (None, found[-1][1] + data)
        else:
            found.append((frame.event, data))
    return found


def position_of(frames: Sequence[Frame]) -> int:
    """Where a client stands that got these frames: the last id."""
    ids = [frame.id.decode() for frame in frames if frame.id is not None]
    position = parse_position(ids[-1]) if ids else None
    return position.seq if position is not None else 0


async def check(log: list[Record], dialect: str, granularity: Granularity, batch: int) -> None:
    store = MemoryStore()
    await store.start("me")
    await store.open(run_log("r"), b"", records=log[:-1])
    await store.append(run_log("r"), len(log) - 1, log[-1:], lease=Lease("me"), ended=True)
    uncut = await shown(store, dialect, granularity, 0, batch)
    whole = told(dialect, uncut)
    for cut in range(len(uncut) + 1):
        kept = uncut[:cut]
        while kept and kept[-1].id is None:
            kept.pop()  # frames of a record that was cut in the middle come again
        rest = await shown(store, dialect, granularity, position_of(kept), batch)
        assert told(dialect, [*kept, *rest]) == whole
        assert position_of([*kept, *rest]) == position_of(uncut)
    for position in range(1, len(log) + 1):
        rest = await shown(store, dialect, granularity, position, batch)
        assert all(frame.id is None or position_of([frame]) >= position for frame in rest[1:])


@pytest.mark.parametrize("dialect", registry.DIALECTS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@settings(max_examples=count(25, 500), deadline=None)
@given(log=whole_logs(20), batch=st.sampled_from([1, 500, 1 << 18]))
def test_resume_at_every_cut_equals_the_whole(dialect: str, granularity: str, log: list[Record], batch: int) -> None:
    asyncio.run(check(log, dialect, GRANULARITIES[granularity], batch))
