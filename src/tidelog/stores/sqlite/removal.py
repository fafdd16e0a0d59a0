"""How logs leave the file: first their rows, so that readers find them gone at once, then their bytes. Runs in the writer thread.

One transaction removes about `commit.REMOVE_BYTES`, because everybody waits for it. Of what is left the table `gone` tells:
whoever opens the file later finds it there and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tidelog.stores.sqlite.blocks import ENTRY_BYTES, SEQ_BITS, entries, mark_bytes
from tidelog.stores.sqlite.commit import Transaction
from tidelog.stores.sqlite.reading import find

ROW_COST: Final = 512
"""What a row counts for beside its bytes."""
EXPIRED_NAMES: Final = 1_000_000
"""So many names of expired logs stay known, the last ones; about 80 bytes each."""
FORGET_NAMES: Final = 1000
"""Names that one transaction forgets at most."""


class Removed(NamedTuple):
    """What one transaction removed. `logs` are the numbers of those that are gone, `left` of those that have bytes left."""

    names: Sequence[str]
    logs: Sequence[int]
    left: Sequence[int]


def drop(name: str, mark: int, do: Transaction) -> Removed:
    """Let go of the log. `logs` also names earlier ones of this name that somebody else has not finished."""
    do.execute("DELETE FROM expired WHERE name = ?", (name,))
    found = find(do.execute, name, mark)
    if found is not None:
        _condemn(do, found.id, mark)
    logs = [log for (log,) in do.execute("SELECT id FROM gone WHERE mark = ?", (mark,))]
    return Removed([name] if found else [], logs, sweep(logs, do))


def expire(before: float, limit: int, do: Transaction) -> Removed:
    """Let go of up to `limit` logs that ended before this time and keep their names; the oldest first."""
    sql = "SELECT id, mark, name FROM logs WHERE ended < ? ORDER BY ended LIMIT ?"
    old = do.execute(sql, (before, limit)).fetchall()
    for log, mark, name in old:
        _condemn(do, log, mark)
        do.execute("INSERT OR IGNORE INTO expired (name) VALUES (?)", (name,))
    do.execute(
        "DELETE FROM expired WHERE id <= (SELECT max(id) FROM expired) - ? AND id < (SELECT min(id) FROM expired) + ?",
        (EXPIRED_NAMES, FORGET_NAMES),
    )
    logs = [log for log, _, _ in old]
    return Removed([name for _, _, name in old], logs, sweep(logs, do))


def sweep(logs: Sequence[int], do: Transaction) -> Sequence[int]:
    """Remove bytes of these logs, which are gone, as far as the transaction may; those that have some left."""
    return [log for log in logs if not _sweep(do, log)]


def finish(logs: Sequence[int], do: Transaction) -> None:
    """Not a byte of these is anywhere any more."""
    for log in logs:
        do.execute("DELETE FROM gone WHERE id = ?", (log,))


def _condemn(do: Transaction, log: int, mark: int) -> None:
    do.execute("DELETE FROM logs WHERE id = ?", (log,))
    do.execute("INSERT INTO gone VALUES (?, ?)", (log, mark))
    do.ring(mark)


def _sweep(do: Transaction, log: int) -> bool:
    """Whether nothing is left."""
    if do.budget <= 0:
        return False
    mark = do.execute("SELECT mark FROM gone WHERE id = ?", (log,)).get
    return mark is None or (_blank(do, log, mark) and _delete(do, log))


def _blank(do: Transaction, log: int, mark: int) -> bool:
    """Overwrite what the journal holds of it; the segments hold other logs too, so they stay."""
    segments = do.execute("SELECT id, idx FROM journal WHERE instr(idx, ?)", (mark_bytes(mark),)).fetchall()
    for segment, index in segments:
        for entry in entries(index, mark):
            if entry.log != log:  # a later log of this name
                continue
            if do.budget <= 0:
                return False
            do.blank(segment, "idx", entry.at, ENTRY_BYTES)
            do.blank(segment, "data", entry.offset, entry.size)
            do.budget -= entry.size + ROW_COST
    return True


def _delete(do: Transaction, log: int) -> bool:
    """Delete its chunks, from the first on."""
    base, end = log << SEQ_BITS, (log + 1) << SEQ_BITS
    upto = base
    for row, size in do.execute(
        "SELECT id, length(data) FROM chunks WHERE id >= ? AND id < ? ORDER BY id", (base, end)
    ):
        if do.budget <= 0:
            break
        upto = row
        do.budget -= size + ROW_COST
    else:
        upto = end - 1
    do.execute("DELETE FROM chunks WHERE id >= ? AND id <= ?", (base, upto))
    return upto == end - 1
