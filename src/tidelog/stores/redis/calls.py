"""What is sent of a log that this process writes. Pure, but for the time and for names."""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import hiredis

from tidelog.log import Lease, Record, new_id
from tidelog.stores.redis import blocks, scripts
from tidelog.stores.redis.group import Group
from tidelog.stores.redis.keys import Keys, LogKeys
from tidelog.stores.redis.lane import Lane
from tidelog.stores.redis.link import Commands, call
from tidelog.stores.redis.wire import Command

_PLAIN: Final = b"$1\r\n1\r\n$1\r\ns\r\n$0\r\n\r\n"
"""How nearly every command of a log ends: see `_rest`."""
MARK_BYTES: Final = 16
"""Of what was added once, in the hash of its log."""
TOUCHES: Final = 50
"""How often the keys of a log are given their time to live anew, within that time."""


def prefix(lane: Lane, ttl: int) -> bytes:
    """How every command begins that stores a part of this log."""
    command = call(
        scripts.APPEND, (lane.keys.meta, lane.keys.stream),
        (lane.lease.owner, lane.lease.epoch, ttl, lane.keys.channel, "", "", "", "", ""),
    )  # fmt: skip
    packed: bytes = hiredis.pack_command(command)
    return packed.removesuffix(b"$0\r\n\r\n" * 5)


def appends(group: Group, ttl: int, *, now: float) -> list[bytes]:
    """A command for each log of the group: store what gathered of it, which is under way from now on. The hot loop.

    `now` is the clock of the loop. Packed here: most of a command is the same every time, and hiredis takes three times as long.
    """
    found, odd = [], group.heads.keys() | group.ended
    for lane in group.lanes:
        after, last = lane.sent, lane.last
        lane.sent, lane.flight, lane.group = last, group, None
        if last - after == 1:
            record = lane.records[-1]
            block = blocks.pack((record.epoch, (record.at,), (record.data,)))
        else:
            block = blocks.encode(lane.records[after - lane.base :])
        if last - after != 1 or lane.plain_until <= now or lane in odd:
            rest = _rest(lane, group, ttl, now=now, after=after)
        else:
            rest = _PLAIN
        digits = len(str(after)) if after > 999 else 3 if after > 99 else 2 if after > 9 else 1
        found.append(b"%b$%d\r\n%d\r\n$%d\r\n%b\r\n%b" % (lane.prefix, digits, after, len(block), block, rest))
    return found


def _rest(lane: Lane, group: Group, ttl: int, *, now: float, after: int) -> bytes:
    """What else is said where this ends the log, gives it a head, or may make its stream, which is to expire, too."""
    count, head = b"%d" % (lane.sent - after), group.heads.get(lane)
    touch = not after or lane.plain_until <= now
    flags = b"s" if lane.sure else b""
    if lane in group.ended:
        flags += b"e"
    if head is not None:
        flags += b"h"
    if touch:
        flags += b"t"
        if after and lane.sure:
            lane.plain_until = now + ttl / TOUCHES
    return b"$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(count), count, len(flags), flags, len(head or b""), head or b""
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


def posting(keys: LogKeys, data: bytes, ttl: int, *, once: bool) -> Command:
    """Add a record to a log that many write; with `once` unless its data was added so before."""
    block = blocks.encode((Record(0, time.time(), data),))
    mark = b"once " + blake2b(data, digest_size=MARK_BYTES).digest() if once else b""
    return call(scripts.POST, (keys.meta, keys.stream), (block, ttl, keys.channel, new_id(), mark))


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
