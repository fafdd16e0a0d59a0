"""The values of authentication: who asks, and for what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request


class Principal(NamedTuple):
    """Who asks. Runs and threads belong to the `name`; the credential holds until `expires` (Unix time; None: for good)."""

    name: str
    expires: float | None = None


class Target(NamedTuple):
    """What somebody asks for: a run, a thread (`run` is None), or the list of what a principal owns (both are None)."""

    owner: str | None
    """The name of the principal that it belongs to; None: nobody's."""
    run: str | None = None
    thread: str | None = None
    route: str | None = None
    """The path whose endpoint started the run."""


Found = Principal | str | None
Identify = Callable[[Request], Awaitable[Found] | Found]
"""Tells who made a request; async or not. The handshake of a WebSocket comes as a GET request."""

Authorize = Callable[[str | None, Target, str], Awaitable[bool] | bool]
"""Tells whether this principal may do this: `authorize(principal, run, verb)`; async or not. What it raises is a no.

The verbs are `list`, `read`, `stop`, `pause`, `resume`, `answer`, `retry`, `continue`, `delete`, `publish`: a name in the
path of a POST is its verb.
"""


def is_owner(principal: str | None, run: Target, verb: str) -> bool:
    """The rule without `authorize`: everybody may do everything with what is theirs, and nothing with what is not."""
    return principal == run.owner


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
