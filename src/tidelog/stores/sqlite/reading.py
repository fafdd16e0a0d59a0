"""What is read from the file, each in one snapshot: chunks, then the journal's tail. No decoding: that is the loop's.

`execute` is a connection's; a caller inside a transaction passes its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tidelog.errors import Gone
from tidelog.log import Due, Tail
from tidelog.seams import RECORD_COST
from tidelog.stores.sqlite.blocks import SEQ_BITS, Block, entries, mark_bytes, marks

Execute = Callable[..., Any]


class Found(NamedTuple):
    """A row of `logs`. `lease` None: every record is in chunks. `owner` None: a log that many write. `due`: it is parked."""

    id: int
    owner: str | None
    lease: int | None
    epoch: int
    head: bytes
    ended: float | None
    due: float | None = None


class Stretch(NamedTuple):
    """Encoded records from some place on. `complete`: up to the end of what is stored."""

    blocks: Sequence[Block]
    complete: bool
    ended: bool


class Changes(NamedTuple):
    """What other processes did. `marks` None: too much time has passed, anything may have changed."""

    seen: int
    marks: set[int] | None


def find(execute: Execute, name: str, mark: int) -> Found | None:
    """The log of this name."""
    sql = "SELECT id, owner, lease, epoch, head, ended, due FROM logs WHERE mark = ? AND name = ?"
    for row in execute(sql, (mark, name)):
        return Found(*row)
    return None


def read(execute: Execute, name: str, mark: int, after: int, limit: int, ours: bool) -> Stretch:
    """Blocks that hold at least `limit` bytes behind `after`, or all there are. Raises `Gone`.

    `ours`: while the log lives, what is in no chunk this process has in memory, and segments, which hold many logs, stay unread.
    """
    found = find(execute, name, mark)
    if found is None:
        raise Gone(code="expired" if is_expired(execute, name) else "not_found")
    blocks: list[Block] = []
    size, last = 0, after
    for block in _chunks(execute, found, after):
        if size > limit:
            return Stretch(blocks, False, False)
        blocks.append(block)
        last = block.last
        if block.first > after:
            size += len(block.data) + RECORD_COST * block.records
    if ours and blocks and found.lease is not None:
        return Stretch(blocks, False, False)
    blocks += blocks_behind(execute, found, mark, last)
    return Stretch(blocks, True, found.ended is not None)


def tail(execute: Execute, name: str, mark: int) -> Tail | None:
    """Where the log ends. Raises `Gone` (`expired`)."""
    found = find(execute, name, mark)
    if found is None:
        if is_expired(execute, name):
            raise Gone(code="expired")
        return None
    return _tail(found, last_of(execute, found, mark))


def listed(execute: Execute, prefix: str, principal: str | None, limit: int, row: int) -> Sequence[tuple[str, Tail]]:
    """Logs made by `open`, newest first. Of those whose lease is `row` only what is in chunks counts."""
    whose = "" if principal is None else "AND principal = :principal"
    rows = execute(
        "SELECT name, mark, id, owner, lease, epoch, head, ended FROM logs WHERE owner IS NOT NULL "
        f"AND substr(name, 1, length(:prefix)) = :prefix {whose} ORDER BY id DESC LIMIT :limit",
        {"prefix": prefix, "principal": principal, "limit": limit},
    ).fetchall()
    logs = [(name, mark, Found(*rest)) for name, mark, *rest in rows]
    return [(name, _tail(log, last_of(execute, log, 0 if log.lease == row else mark))) for name, mark, log in logs]


def owners(execute: Execute) -> Sequence[tuple[int, int, bool]]:
    """Every other process's lease: row, beat, and whether it is known as dead."""
    return [(row, beat, bool(dead)) for row, beat, dead in execute("SELECT id, beat, dead FROM owners")]


def owner(execute: Execute, name: str) -> tuple[int, int] | None:
    """Row and beat of the last lease of this name, unless it is dead."""
    found = execute("SELECT id, beat, dead FROM owners WHERE name = ? ORDER BY id DESC LIMIT 1", (name,)).get
    return None if found is None or found[2] else (found[0], found[1])


def held(execute: Execute, owner: int) -> Sequence[str]:
    """The logs that an owner has not ended."""
    return [name for (name,) in execute("SELECT name FROM logs WHERE lease = ? ORDER BY id", (owner,))]


def parked(execute: Execute, due: float) -> Sequence[Due]:
    """The parked logs that are due at this Unix time, the earliest first."""
    return [Due(*row) for row in execute("SELECT name, due FROM logs WHERE due <= ? ORDER BY due, id", (due,))]


def changes(execute: Execute, since: int, row: int) -> Changes:
    """Which logs other processes changed behind segment `since`; `row` is ours."""
    newest = execute("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'journal'), 0)").get
    found: set[int] = set()
    count = 0
    for owner, index in execute("SELECT owner, iif(owner = ?, NULL, idx) FROM journal WHERE id > ?", (row, since)):
        count += 1
        if owner != row:
            found |= marks(index)
    return Changes(newest, found if count == newest - since else None)


def leased(execute: Execute, owner: int) -> set[int] | None:
    """The numbers of the logs that an owner has not ended; None for one that was declared dead."""
    if not execute("SELECT EXISTS (SELECT 1 FROM owners WHERE id = ? AND NOT dead)", (owner,)).get:
        return None
    return {log for (log,) in execute("SELECT id FROM logs WHERE lease = ?", (owner,))}


def gone(execute: Execute) -> Sequence[int]:
    """The numbers of the dropped logs that have bytes left."""
    return [log for (log,) in execute("SELECT id FROM gone")]


def is_expired(execute: Execute, name: str) -> bool:
    """Whether retention dropped a log of this name."""
    return bool(execute("SELECT EXISTS (SELECT 1 FROM expired WHERE name = ?)", (name,)).get)


def last_of(execute: Execute, found: Found, mark: int) -> int:
    """The number of the last record; with `mark` 0 the last in chunks."""
    sql = "SELECT id, count FROM chunks WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1"
    last = 0
    for row, count in execute(sql, _span(found)):
        last = row - (found.id << SEQ_BITS) + count - 1
    if found.lease is None or not mark:
        return last
    tails = "SELECT idx FROM journal WHERE owner = ? AND instr(idx, ?)"
    for (index,) in execute(tails, (found.lease, mark_bytes(mark))):
        for entry in entries(index, mark):
            if entry.log == found.id:
                last = max(last, entry.first + entry.records - 1)
    return last


def blocks_behind(execute: Execute, found: Found, mark: int, last: int) -> list[Block]:
    """The log's blocks in the journal from the one that holds record `last` + 1 on."""
    if found.lease is None:
        return []
    sql = "SELECT idx, data FROM journal WHERE owner = ? AND instr(idx, ?) ORDER BY id"
    blocks = []
    for index, data in execute(sql, (found.lease, mark_bytes(mark))):
        for entry in entries(index, mark):
            if entry.log == found.id and entry.first + entry.records - 1 > last:
                piece = data[entry.offset : entry.offset + entry.size]
                blocks.append(Block(entry.first, entry.records, entry.epoch, piece))
    return blocks


def _chunks(execute: Execute, found: Found, after: int) -> Any:
    """The chunks from the one that holds record `after` + 1 on."""
    base, end = _span(found)
    sql = (
        "SELECT id, count, epoch, data FROM chunks WHERE id < ?2 AND id >= coalesce("
        "(SELECT max(id) FROM chunks WHERE id >= ?1 AND id <= ?1 + ?3), ?1) ORDER BY id"
    )
    for row, count, epoch, data in execute(sql, (base, end, after + 1)):
        if row - base + count - 1 > after:
            yield Block(row - base, count, epoch, data)


def _span(found: Found) -> tuple[int, int]:
    return found.id << SEQ_BITS, (found.id + 1) << SEQ_BITS


def _tail(found: Found, last: int) -> Tail:
    return Tail(1, last, found.ended is not None, found.epoch, found.head, found.owner or "")
