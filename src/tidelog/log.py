"""The values of a log: records, tails, leases, and how logs are named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from tidelog.errors import InvalidRequest, StoreError

RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""From any byte to a letter of base32, each as often as the others."""
_CURSOR: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,14})")


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event in its place. `data` is the event's JSON, encoded once; `at` is Unix time in seconds."""

    seq: int
    at: float
    data: bytes
    epoch: int = 1


class Tail(NamedTuple):
    """What a log knows of its end. `head` is a small blob that its writer keeps with it."""

    first: int
    last: int
    ended: bool
    epoch: int
    head: bytes
    owner: str = ""
    """The process that holds the lease; empty where nobody does."""


class Due(NamedTuple):
    """A log that nobody holds, and when somebody must look at it: Unix time, `inf` for never."""

    log: str
    at: float


class Lease:
    """The right to append: it holds as long as the store knows `owner` as alive and the log's epoch is `epoch`.

    Leases of one owner and epoch are equal. The store calls `lost` of the one that was last used when an append that was under
    way failed: nobody else may be waiting for it. It may do so as well when it learns that the log is lost to this process.
    """

    __slots__ = ("epoch", "lost", "owner")

    def __init__(self, owner: str, epoch: int = 1, lost: Callable[[StoreError], None] | None = None) -> None:
        self.owner = owner
        self.epoch = epoch
        self.lost = lost

    def tell(self, error: StoreError) -> None:
        """Call `lost`, if anybody wants to know."""
        if self.lost is not None:
            self.lost(error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lease) and (self.owner, self.epoch) == (other.owner, other.epoch)

    def __hash__(self) -> int:
        return hash((self.owner, self.epoch))

    def __repr__(self) -> str:
        return f"Lease({self.owner!r}, {self.epoch})"


class Position(NamedTuple):
    """A place in a run's log, as it travels: `<run>.<epoch>.<seq>`."""

    run: str
    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.run}.{self.epoch}.{self.seq}"


def parse_position(text: str) -> Position | None:
    """The position in an SSE id; None for an id that is not ours.

    Raises `InvalidRequest` (`invalid_cursor`) for one that has our form and makes no sense.
    """
    text = text.strip()
    if text.count(".") != 2:
        return None
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidRequest(code="invalid_cursor")
    return Position(found[1], int(found[2]), int(found[3]))


def new_id() -> str:
    """26 lowercase base32 characters, all of them random: 130 bits."""
    return os.urandom(26).translate(_LETTERS).decode()


def run_log(run: str) -> str:
    """The name of the run's log of records."""
    return f"run/{run}"


def control_log(run: str) -> str:
    """The name of the log of what others ask of the run."""
    return f"control/{run}"


def feed_log(run: str) -> str:
    """The name of the log of what an outside producer posts for the run."""
    return f"feed/{run}"


def thread_log(thread: str, principal: str | None) -> str:
    """The name of the log of a thread's runs: threads belong to a principal, so the name holds both."""
    return f"thread/{len(principal or '')}:{principal or ''}/{thread}"
