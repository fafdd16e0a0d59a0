"""How records lie in the file. Pure.

A *block* is the records of one append, one behind the other: time, length, data. Blocks joined are the data of a chunk
(one log) or of a segment (many logs). Numbers are not stored: the first is in the chunk's id or the segment's index.

A segment's *index* is one entry of 32 bytes for each block. It is searched for a log's mark as bytes, in C, without
decoding. An entry without records only tells other processes that the log changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from tidelog.errors import InvalidRequest
from tidelog.log import Record
from tidelog.seams import RECORD_COST, Page

SEQ_BITS: Final = 32
"""A chunk's id is its log's id and, in the low bits, the number of its first record."""

_header: Final = Struct("<dI")
_entry: Final = Struct("<QIIIIII")
_whose: Final = Struct("<QII")
_mark: Final = Struct("<Q")

ENTRY_BYTES: Final = _entry.size
pack_header = _header.pack
"""What precedes the data of a record: its time, the length of its data."""
DATA_AT: Final = _header.size + 1
"""The first byte of the data in a block of one record, counted from 1."""
pack_whose = _whose.pack
"""How all entries of a log begin: mark, log, epoch."""
pack_entry = Struct("<16sIIII").pack
"""An entry: its beginning, then first, records, offset, size."""


class Block(NamedTuple):
    """The encoded records from number `first` on."""

    first: int
    records: int
    epoch: int
    data: bytes

    @property
    def last(self) -> int:
        """The number of the last record."""
        return self.first + self.records - 1


class Entry(NamedTuple):
    """Where a segment keeps a block. `at` is the entry's own place in the index."""

    at: int
    log: int
    epoch: int
    first: int
    records: int
    offset: int
    size: int


def mark_of(name: str) -> int:
    """The log's name as 63 bits. The file refuses two logs of one mark; bells may share one.

    Raises `InvalidRequest` for what is no text.
    """
    return int.from_bytes(blake2b(encode_text(name), digest_size=8).digest(), "little") >> 1


def encode_text(text: str) -> bytes:
    """The text in UTF-8. Raises `InvalidRequest` for a lone surrogate, which the file could not hold."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{text!r} is no text that can be stored.") from None


def mark_bytes(mark: int) -> bytes:
    """The mark as an index holds it."""
    return _mark.pack(mark)


def encode(records: Sequence[Record]) -> bytes:
    """The records as a block."""
    return b"".join([piece for one in records for piece in (pack_header(one.at, len(one.data)), one.data)])


def page(blocks: Sequence[Block], after: int, limit: int, *, complete: bool, ended: bool) -> Page:
    """The records behind `after`, up to `limit` bytes. `complete`: these blocks reach the end of what is stored."""
    records: list[Record] = []
    left = limit
    for block in blocks:
        for record in _decode(block, after):
            left -= len(record.data) + RECORD_COST
            if left < 0 and records:
                return Page(records, True, False)
            records.append(record)
    return Page(records, not complete, ended and complete)


def entries(index: bytes, mark: int) -> Iterator[Entry]:
    """The entries of a log in an index, in order."""
    sought, at = _mark.pack(mark), -1
    while (at := index.find(sought, at + 1)) >= 0:
        if at % ENTRY_BYTES == 0:
            yield Entry(at, *_entry.unpack_from(index, at)[1:])


def marks(index: bytes) -> set[int]:
    """The marks of all logs in an index."""
    return {entry[0] for entry in _entry.iter_unpack(index)}


def _decode(block: Block, after: int) -> Iterator[Record]:
    data, at = block.data, 0
    for seq in range(block.first, block.first + block.records):
        when, size = _header.unpack_from(data, at)
        start = at + _header.size
        at = start + size
        if seq > after:
            yield Record(seq, when, data[start:at], block.epoch)
