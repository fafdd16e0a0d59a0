"""What is sent of a log that this process writes. Pure, but for the time and for names."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tidelog.log import Lease, Record, new_id
from tidelog.stores.redis import blocks, scripts
from tidelog.stores.redis.keys import Keys, LogKeys
from tidelog.stores.redis.lane import Flush, Lane
from tidelog.stores.redis.link import Commands, call
from tidelog.stores.redis.wire import Command


def append(flush: Flush, ttl: int) -> Command:
    """Store what gathered of a log."""
    lane = flush.lane
    return call(
        scripts.APPEND, (lane.keys.meta, lane.keys.stream),
        (lane.lease.owner, lane.lease.epoch, flush.after, flush.count, flush.block, blocks.print_of(flush.block),
         int(flush.ended), int(flush.head is not None), flush.head or b"", ttl, lane.keys.channel, int(lane.sure)),
    )  # fmt: skip


def opening(lane: Lane, ttl: int, epoch: int = 1) -> Command:
    """Open a log as it was born."""
    keys, birth = lane.keys, lane.birth
    if birth is None:
        raise AssertionError(f"{lane.name} was not opened here")
    return call(
        scripts.OPEN, (keys.meta, keys.stream, keys.tomb),
        (lane.lease.owner, lane.head, birth.principal, birth.key, birth.records, birth.block, ttl, keys.channel, epoch,
         new_id()),
    )  # fmt: skip


def opening_again(lane: Lane, keys: Keys, ttl: int) -> Commands:
    """Open a log as it was born, under the next epoch: Redis has lost it."""
    return [opening(lane, ttl, lane.lease.epoch + 1), *listing(lane, keys, ttl)]


def take(
    keys: LogKeys, was: str, after: int, records: Sequence[Record], lease: Lease, *,
    head: bytes | None, ended: bool, due: float | None, ttl: int,
) -> Command:  # fmt: skip
    """Take a log that was somebody's, or nobody's, to hold it under this lease, or to park it."""
    return call(
        scripts.TAKE, (keys.meta, keys.stream),
        (was, lease.owner, lease.epoch, after, len(records), blocks.encode(records), int(ended), int(head is not None),
         head or b"", ttl, keys.channel, new_id(), "" if due is None else due),
    )  # fmt: skip


def listing(lane: Lane, keys: Keys, ttl: int) -> Commands:
    """Put a log into the lists; what they name for longer than `ttl` is not there any more."""
    now, found = time.time(), Commands()
    mine = keys.mine(lane.birth.principal if lane.birth is not None else "")
    for name in (keys.all, mine):
        found += ("ZADD", name, "NX", now, lane.name), ("EXPIRE", name, ttl)
    return [*found, ("ZREMRANGEBYSCORE", mine, "-inf", now - ttl)]
