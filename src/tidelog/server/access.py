"""Who asks, and whether they may: the one place that every route of runs and threads, and every start, comes through (spec §12).

Once a principal function is configured everything is denied that it does not allow: a request of nobody's is 401 before
anything is looked at, and what is somebody else's is 404, as if it were not there.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from starlette.requests import HTTPConnection, Request
from starlette.types import Scope

from tidelog.auth import Authorize, Identify, Principal, Target, is_owner
from tidelog.errors import NotFound, Refused
from tidelog.head import Head
from tidelog.seams import Store
from tidelog.server.tickets import Ticket, Tickets

log = logging.getLogger("tidelog")

TICKET: Final = "ticket"
"""The parameter in which a ticket comes."""
_CALLER: Final = "tidelog.caller"
"""The key in the ASGI scope of who asks: a request is asked once, and a ticket is spent once."""
_VERBS: Final = {"GET": "read", "HEAD": "read", "DELETE": "delete", "PUT": "publish"}
_NAMED: Final = {"events": "publish"}


class Caller(NamedTuple):
    """Who asks; `ticket` is the one that they came by. Nobody has neither."""

    principal: Principal | None = None
    ticket: Ticket | None = None

    @property
    def name(self) -> str | None:
        """The name to which runs belong; None is nobody's."""
        return self.principal.name if self.principal is not None else None


NOBODY: Final = Caller()


class Access:
    """Asks the application's hooks. `anonymous` lets in whom the principal function does not know, as nobody."""

    def __init__(
        self, store: Store, ready: Callable[[], Awaitable[None]], *,
        principal: Identify | None = None, authorize: Authorize | None = None, anonymous: bool = False,
    ) -> None:  # fmt: skip
        """Raises `ValueError` for `authorize` without `principal`: everybody would be nobody."""
        if authorize is not None and principal is None:
            raise ValueError("authorize= needs principal=: it decides about somebody.")
        self.asks = principal is not None
        """Whether anybody is asked who they are."""
        self.tickets = Tickets(store)
        self._ready = ready
        self._identify = principal
        self._authorize: Authorize = authorize or is_owner
        self._anonymous = anonymous or principal is None

    async def caller(self, connection: HTTPConnection) -> Caller:
        """Who made this request, or opened this WebSocket. Raises `Refused` (`unauthorized`) where nobody did who may."""
        scope = connection.scope
        found: Caller | None = scope.get(_CALLER)
        if found is None:
            found = await self._find(scope, self._identify) if self._identify is not None else NOBODY
            scope[_CALLER] = found
        if found.principal is None and not self._anonymous:
            raise Refused(code="unauthorized")
        return found

    async def start(self, connection: HTTPConnection) -> str | None:
        """Whose a run will be that this request starts. Raises `Refused` (`unauthorized`)."""
        caller = await self.caller(connection)
        if caller.ticket is not None and caller.ticket.run is not None:
            raise Refused("This ticket is for a run.", code="unauthorized")
        return caller.name

    async def check(self, connection: HTTPConnection, target: Target, verb: str, *, route: bool = True) -> str | None:
        """Who asks, if they may do this; `route` is false where an endpoint of the application asks, and no route of ours.

        Raises `NotFound` where they may not, `Refused` (`forbidden`) where it is theirs, and `unauthorized` for nobody.
        """
        caller = await self.caller(connection)
        if caller.ticket is not None and not caller.ticket.covers(target.run, verb, route=route):
            raise Refused("This ticket is for something else.", code="unauthorized")
        if not await self._allows(caller.name, target, verb):
            raise Refused(code="forbidden") if caller.name is not None and caller.name == target.owner else NotFound
        return caller.name

    async def _find(self, scope: Scope, identify: Identify) -> Caller:
        request = Request({**scope, "type": "http", "method": scope.get("method", "GET")})
        ticket = request.query_params.get(TICKET) if request.method == "GET" else None
        if ticket:
            await self._ready()
            redeemed = await self.tickets.redeem(ticket)
            if redeemed is not None:
                return Caller(_valid(Principal(redeemed.principal, redeemed.until)), redeemed)
        found: Any = identify(request)
        if inspect.isawaitable(found):
            found = await found
        return Caller(_valid(Principal(found) if isinstance(found, str) else found))

    async def _allows(self, principal: str | None, target: Target, verb: str) -> bool:
        try:
            allowed = self._authorize(principal, target, verb)
            if inspect.isawaitable(allowed):
                allowed = await allowed
        except Exception as error:  # its words may hold what the log must not
            log.error("authorize raised %s for %s of run %s: refused", type(error).__name__, verb, target.run)
            return False
        return bool(allowed)


def _valid(found: Principal | None) -> Principal | None:
    """Nobody has the empty name: it would be a way into what belongs to nobody. Nor is anybody whose time is over."""
    if found is None or not found.name or (found.expires is not None and not found.expires > time.time()):
        return None
    return found


def expires(scope: Scope) -> float | None:
    """When the credential ends (Unix time) by which the caller of this request came in; None for one that does not."""
    caller: Caller | None = scope.get(_CALLER)
    return caller.principal.expires if caller is not None and caller.principal is not None else None


def target_of(head: Head) -> Target:
    """The run as something that is asked for."""
    return Target(head.principal, head.run, head.thread, head.route)


def stored_query(request: Request) -> str:
    """The query as it may be kept with a run: without the ticket, which is a credential, and another one each time."""
    query: str = request.scope["query_string"].decode("utf-8", "replace")
    if TICKET not in query and "%" not in query:
        return query
    return "&".join(part for part in query.split("&") if unquote_plus(part.partition("=")[0]) != TICKET)


def verb_of(scope: Scope) -> str:
    """What a request to one of our routes wants: the name in the path of a POST is its verb."""
    method = scope.get("method", "GET")
    name = str(scope["path"]).rstrip("/").rpartition("/")[2]
    return _VERBS.get(method) or _NAMED.get(name, name)
