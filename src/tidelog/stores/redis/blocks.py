"""How records lie in an entry of a stream, and pages of them. Pure.

A block is one flush of one log, as MessagePack: the epoch, the times, the data. Numbers are not stored: the entry's id is that of
the last record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

import msgspec

from tidelog.log import Record
from tidelog.seams import Page
from tidelog.window import LogWindow

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[float], list[bytes]]).decode


def encode(records: Sequence[Record]) -> bytes:
    """The records of one epoch as a block."""
    if not records:
        return b""
    return _encode((records[0].epoch, [one.at for one in records], [one.data for one in records]))


def decode(entry: bytes, block: bytes) -> Iterator[Record]:
    """The records of the entry of this id."""
    epoch, times, data = _decode(block)
    first = int(entry.partition(b"-")[0]) - len(data) + 1
    for seq, (at, one) in enumerate(zip(times, data, strict=True), first):
        yield Record(seq, at, one, epoch)


def print_of(block: bytes) -> int:
    """What tells a repeated flush from another one with the same place and count."""
    return crc32(block)


def page(found: Sequence[Any], after: int, limit: int) -> Page:
    """What `scripts.READ` has found behind `after`."""
    last, ended, entries = int(found[0]), found[1] == b"1", found[2]
    records = [
        record
        for entry, block in zip(entries[::2], entries[1::2], strict=True)
        for record in decode(entry, block)
        if record.seq > after
    ]
    cut = LogWindow(after, records).page(after, limit)
    more = bool(cut.records) and cut.records[-1].seq < last
    return Page(cut.records, more, ended and not more)
