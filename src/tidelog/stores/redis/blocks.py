"""How records lie in an entry of a stream, and pages of them. Pure.

A block is one flush of one log, as MessagePack: the epoch, the times, the data. Numbers are not stored: the entry's id is that of
the last record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import msgspec

from tidelog.log import Record
from tidelog.seams import RECORD_COST, Page

pack = msgspec.msgpack.Encoder().encode
"""Of a block of one record: `(epoch, (at,), (data,))`, so that it costs no call more."""
_decode = msgspec.msgpack.Decoder(tuple[int, list[float], list[bytes]]).decode


def encode(records: Sequence[Record]) -> bytes:
    """The records of one epoch as a block."""
    if not records:
        return b""
    return pack((records[0].epoch, [one.at for one in records], [one.data for one in records]))


def decode(entry: bytes, block: bytes) -> Iterator[Record]:
    """The records of the entry of this id."""
    epoch, times, data = _decode(block)
    first = int(entry.partition(b"-")[0]) - len(data) + 1
    for seq, (at, one) in enumerate(zip(times, data, strict=True), first):
        yield Record(seq, at, one, epoch)


def page(found: Sequence[Any], after: int, limit: int) -> Page:
    """What `scripts.READ` has found behind `after`."""
    last, ended, entries = int(found[0]), found[1] == b"1", found[2]
    records = [
        record
        for entry, block in zip(entries[::2], entries[1::2], strict=True)
        for record in decode(entry, block)
        if record.seq > after
    ]
    sizes = accumulate([len(record.data) + RECORD_COST for record in records])
    taken = records[: bisect_right(list(sizes), limit) or 1]
    more = bool(taken) and taken[-1].seq < last
    return Page(taken, more, ended and not more)
