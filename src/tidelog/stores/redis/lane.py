"""A log that this process writes: how far it gathers, is under way and stored, and its end in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from tidelog.errors import StoreError
from tidelog.log import Lease, Record
from tidelog.stores.redis.keys import LogKeys
from tidelog.window import OwnWindow

if TYPE_CHECKING:
    from tidelog.stores.redis.group import Group


class Birth(NamedTuple):
    """What a log was opened with."""

    principal: str
    key: str
    records: int
    block: bytes


class Lane(OwnWindow):
    """Up to `sent` a group is under way, up to `last` one gathers."""

    __slots__ = (
        "birth",
        "error",
        "flight",
        "group",
        "keys",
        "known",
        "life",
        "plain_until",
        "prefix",
        "sure",
    )

    def __init__(self, name: str, keys: LogKeys, lease: Lease, *, base: int, records: Sequence[Record] = ()) -> None:
        super().__init__(name, lease, head=b"", base=base, records=records)
        self.keys = keys
        self.group: Group | None = None
        """The one that gathers what came of it."""
        self.flight: Group | None = None
        """The one with which it is under way."""
        self.error: StoreError | None = None
        """Why nothing more of it is stored."""
        self.known = False
        """Whether `head` is that of the store: of a log that was not opened here, it is not."""
        self.sure = False
        """Whether what is `stored` is known to have been: if Redis has less, it has lost it."""
        self.birth: Birth | None = None
        """How it was opened, where that was here."""
        self.life = ""
        """The life of Redis in which it came here."""
        self.prefix = b""
        """How every command begins that stores a part of it: see `calls.append`."""
        self.plain_until = float("-inf")
        """Until when its records are stored and nothing else is said: its keys need no more time to live."""

    def fail(self, error: StoreError) -> None:
        """Nothing that is not stored will be: whoever writes is told."""
        live = not self.ended
        self.closed, self.error = True, error
        if live:
            self.lease.tell(error)
        self.ring()
