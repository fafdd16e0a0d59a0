"""Tickets: one use, one minute, for what can send no header: a bare EventSource, a WebSocket.

A ticket is 256 random bits, and the store knows its hash alone: as the name of a log, in whose head stands whom it lets in, and
to what. To redeem it is to post to a log beside that one, and whoever gets the first place has redeemed it, in whatever process.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections import deque
from typing import Final, NamedTuple

import msgspec
from starlette.requests import Request

from tidelog.auth import Principal
from tidelog.errors import Gone, InvalidRequest, Refused, TooLarge
from tidelog.seams import Listing, Store

LIFETIME: Final = 60.0
"""Seconds for which a ticket is good."""
GRACE: Final = 60.0
"""Seconds for which a mark outlives its ticket, so that nobody who was slow finds it unspent again."""
MOST_TICKETS: Final = 10_000
"""Marks of a process that are not dropped yet; over it no ticket is given."""
DROPS: Final = 8
"""Old marks that are dropped whenever a ticket is given: more than come, so they never gather."""
BODY_BYTES: Final = 4096
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_OWNER: Final = "tidelog:tickets"
"""Whose the marks are, for a store that lists them; runs have other names in front, so nobody finds them among theirs."""


class Ticket(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom a ticket lets in. Times are Unix time; `until` is when the credential ends for which it was given."""

    principal: str
    expires: float
    until: float | None = None
    run: str | None = None
    """The run that it lets read; None: it lets start one by GET, and read on in that."""

    def covers(self, run: str | None, verb: str, *, route: bool) -> bool:
        """Whether it is for this: by a route of ours, or by an endpoint that starts runs."""
        return verb == "read" and run is not None and (run == self.run if self.run is not None else not route)


class Asked(msgspec.Struct, frozen=True):
    """The body of a request for a ticket."""

    run: str | None = None


class Issued(NamedTuple):
    """A new ticket, and until when it is good (Unix time)."""

    ticket: str
    expires: float


class Tickets:
    """The tickets of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._marks: deque[tuple[str, float]] = deque()
        """Names of marks and when they may be dropped, in order."""
        self._looked = False

    async def issue(self, principal: Principal, run: str | None = None) -> Issued:
        """A ticket for this principal. Raises `Refused` (`overloaded`) while too many are about, and `StoreError`."""
        if not self._looked:
            self._looked = True
            left = await self._left()
            self._marks = deque(sorted([*left, *self._marks], key=_at))
        await self._drop_old()
        if len(self._marks) >= MOST_TICKETS:
            raise Refused(code="overloaded", retry_after=LIFETIME)
        text = secrets.token_urlsafe(32)
        made = Ticket(principal.name, time.time() + LIFETIME, principal.expires, run)
        mark = _mark(text)
        await self._store.open(f"ticket/{mark}", msgspec.json.encode(made), principal=_OWNER)
        self._marks.append((mark, made.expires + GRACE))
        return Issued(text, made.expires)

    async def redeem(self, text: str) -> Ticket | None:
        """What this ticket is for, once; None for one that is spent, over its time or none of ours. Raises `StoreError`."""
        if _FORM.fullmatch(text) is None:
            return None
        mark = _mark(text)
        try:
            tail = await self._store.tail(f"ticket/{mark}")
        except Gone:
            return None
        if tail is None:
            return None
        found = msgspec.json.decode(tail.head, type=Ticket)
        if time.time() >= found.expires or await self._store.post(f"spent/{mark}", b"") != 1:
            return None
        return found

    async def _drop_old(self) -> None:
        now = time.time()
        for _ in range(DROPS):
            if not self._marks or self._marks[0][1] > now:
                return
            mark, _ = self._marks.popleft()
            await self._store.drop(f"ticket/{mark}")
            await self._store.drop(f"spent/{mark}")

    async def _left(self) -> list[tuple[str, float]]:
        """What other processes have not dropped: those that died never will, and to drop a mark twice is no error."""
        if not isinstance(self._store, Listing):
            return []
        found = await self._store.list("ticket/", _OWNER, MOST_TICKETS // 2)
        heads = ((name, msgspec.json.decode(tail.head, type=Ticket)) for name, tail in found)
        return [(name.partition("/")[2], ticket.expires + GRACE) for name, ticket in heads]


async def asked_run(request: Request) -> str | None:
    """The run that the body names; None for a ticket to start one. Raises `InvalidRequest` and `TooLarge`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLarge
    try:
        return msgspec.json.decode(body, type=Asked).run if body else None
    except msgspec.MsgspecError:
        raise InvalidRequest('The body is {"run": "<id>"}, or empty.') from None


def _at(mark: tuple[str, float]) -> float:
    return mark[1]


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
