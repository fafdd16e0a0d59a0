"""What is done inside a transaction beside appending and removing: open, post, take, enter, close. Runs in the writer thread.

A job that raises is undone, and the transaction of its group goes on.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from tidelog.errors import Conflict, Mismatch
from tidelog.stores.sqlite.blocks import DATA_AT, SEQ_BITS, Block
from tidelog.stores.sqlite.commit import Transaction
from tidelog.stores.sqlite.reading import Found, blocks_behind, find, last_of


class Post(NamedTuple):
    """A record for a log that many write. `once`: its data, if that is not to be there twice."""

    name: str
    mark: int
    block: bytes
    once: bytes | None = None


class Birth(NamedTuple):
    """A log to be made, and what is posted beside it."""

    name: str
    mark: int
    head: bytes
    first: Block
    principal: str
    key: str | None
    fingerprint: bytes | None
    entry: Post | None = None


class Claim(NamedTuple):
    """A log to be taken, parked or a dead owner's. `dead`: owners seen dead, with the beat at which they stood still.

    `due`: it is parked again in the same step. `orphan`: it must not be parked.
    """

    name: str
    mark: int
    after: int
    records: int
    block: bytes
    head: bytes | None
    ended: bool
    dead: dict[int, int]
    due: float | None = None
    orphan: bool = False


class Taken(NamedTuple):
    """A log that was taken."""

    id: int
    epoch: int
    head: bytes


def open_log(birth: Birth, do: Transaction) -> tuple[str, int | None]:
    """Make it; (its name, its number), or (the name that won, None). Raises `Mismatch`, `Conflict`."""
    if birth.key is not None:
        for name, fingerprint in do.execute("SELECT name, fingerprint FROM logs WHERE key = ?", (birth.key,)):
            if fingerprint != birth.fingerprint:
                raise Mismatch
            return name, None
    taken = "SELECT EXISTS (SELECT 1 FROM logs WHERE mark = ?) OR EXISTS (SELECT 1 FROM expired WHERE name = ?)"
    if do.execute(taken, (birth.mark, birth.name)).get:
        raise Conflict(f"{birth.name} exists")
    row = do.hold()
    log = do.execute(
        "INSERT INTO logs (mark, name, owner, lease, principal, key, fingerprint, head) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (birth.mark, birth.name, do.owner, row, birth.principal, birth.key, birth.fingerprint, birth.head),
    ).get
    if birth.first.records:
        _insert(do, log, birth.first)
    do.ring(birth.mark)
    if birth.entry is not None:
        post(birth.entry, do)
    return birth.name, log


def post(made: Post, do: Transaction) -> int:
    """Add one record with the next number; the number of the one that is there. Raises `Conflict` for a log with an owner."""
    name, mark, block, once = made
    found = find(do.execute, name, mark)
    if found is not None and found.owner is not None:
        raise Conflict(f"{name} has an owner; only logs without one take posts")
    appear = "INSERT INTO logs (mark, name) VALUES (?, ?) RETURNING id"
    base = (found.id if found else do.execute(appear, (mark, name)).get) << SEQ_BITS
    if once is not None and found is not None:
        before = "SELECT id FROM chunks WHERE id > ? AND id < ? AND substr(data, ?) = ?"
        for (number,) in do.execute(before, (base, base + (1 << SEQ_BITS), DATA_AT, once)).fetchall():
            return int(number) - base
    number = do.execute(
        "INSERT INTO chunks SELECT coalesce(max(id), ?1) + 1, 1, 1, ?2 FROM chunks WHERE id > ?1 AND id < ?3 "
        "RETURNING id",
        (base, block, base + (1 << SEQ_BITS)),
    ).get
    do.ring(mark)
    return int(number) - base


def take(claim: Claim, do: Transaction) -> Taken:
    """Become the owner of a log that is parked, or whose owner is dead: one epoch up. Raises `Conflict`."""
    found = find(do.execute, claim.name, claim.mark)
    if found is None or (found.lease is None and (found.due is None or claim.orphan)) or found.ended is not None:
        raise Conflict(f"{claim.name} is nobody's to take")
    if found.lease is not None:
        _check_dead(do, found.lease, claim)
    if last_of(do.execute, found, claim.mark) != claim.after:
        raise Conflict(f"{claim.name} does not end at {claim.after}")
    if found.lease is not None:
        do.execute("UPDATE owners SET dead = 1 WHERE id = ?", (found.lease,))
        _gather(do, found, claim.mark)
    if claim.records:
        _insert(do, found.id, Block(claim.after + 1, claim.records, found.epoch + 1, claim.block))
    head = found.head if claim.head is None else claim.head
    lease = None if claim.ended or claim.due is not None else do.hold()
    do.execute(
        "UPDATE logs SET owner = ?, lease = ?, epoch = epoch + 1, head = ?, ended = ?, due = ? WHERE id = ?",
        (_owner(do, claim.due), lease, head, time.time() if claim.ended else None, claim.due, found.id),
    )
    if found.lease is not None:
        _clear(do, found.lease)
    do.ring(claim.mark)
    return Taken(found.id, found.epoch + 1, head)


def park(name: str, mark: int, after: int, epoch: int, due: float, do: Transaction) -> None:
    """Give up one log of ours: its records are chunks, no lease holds it. Raises `Conflict`."""
    found = find(do.execute, name, mark)
    if found is None or found.lease != do.row or found.epoch != epoch or last_of(do.execute, found, mark) != after:
        raise Conflict(f"{name} is not ours to park at {after}")
    _gather(do, found, mark)
    do.execute("UPDATE logs SET owner = ?, lease = NULL, due = ? WHERE id = ?", (_owner(do, due), due, found.id))
    do.ring(mark)


def defer(name: str, mark: int, seen: float, due: float, do: Transaction) -> None:
    """Have a parked log be due at another time. Raises `Conflict`."""
    if not do.execute("UPDATE logs SET due = ? WHERE mark = ? AND due = ? RETURNING 1", (due, mark, seen)).get:
        raise Conflict(f"{name} is not due at {seen}")


def close(do: Transaction) -> None:
    """Give up the lease. What is live is chunked: our segments can go, unless we were declared dead and know of nothing live."""
    if do.execute("UPDATE owners SET dead = 1 WHERE id = ? AND NOT dead RETURNING 1", (do.row,)).get:
        do.execute("DELETE FROM journal WHERE owner = ?", (do.row,))


def enter(do: Transaction) -> int:
    """The row of our lease. What dead owners left and nobody needs goes."""
    dead = do.execute("SELECT id FROM owners WHERE dead AND id NOT IN (SELECT lease FROM logs WHERE lease IS NOT NULL)")
    for (owner,) in dead.fetchall():
        _clear(do, owner)
    return do.hold()


def bury(owner: int, beat: int, do: Transaction) -> None:
    """An owner that stood still and has no log left."""
    if do.execute("UPDATE owners SET dead = 1 WHERE id = ? AND beat = ? RETURNING 1", (owner, beat)).get:
        _clear(do, owner)


def _owner(do: Transaction, due: float | None) -> str:
    """Who owns a log that is due then: we, unless it is parked."""
    return do.owner if due is None else ""


def _insert(do: Transaction, log: int, block: Block) -> None:
    row = (log << SEQ_BITS | block.first, block.records, block.epoch, block.data)
    do.execute("INSERT INTO chunks VALUES (?, ?, ?, ?)", row)


def _check_dead(do: Transaction, owner: int, claim: Claim) -> None:
    for beat, dead in do.execute("SELECT beat, dead FROM owners WHERE id = ?", (owner,)):
        if not dead and (owner == do.row or claim.dead.get(owner) != beat):
            raise Conflict(f"the owner of {claim.name} lives")


def _gather(do: Transaction, found: Found, mark: int) -> None:
    """Move the log's journal tail to a chunk: later records must lie behind it."""
    blocks = blocks_behind(do.execute, found, mark, last_of(do.execute, found, 0))
    if blocks:
        count = sum(block.records for block in blocks)
        data = b"".join(block.data for block in blocks)
        _insert(do, found.id, Block(blocks[0].first, count, found.epoch, data))


def _clear(do: Transaction, owner: int) -> None:
    """Remove what a dead owner leaves, once no log hangs on it."""
    if not do.execute("SELECT EXISTS (SELECT 1 FROM logs WHERE lease = ?)", (owner,)).get:
        do.execute("DELETE FROM journal WHERE owner = ?", (owner,))
        do.execute("DELETE FROM owners WHERE id = ? AND dead", (owner,))
