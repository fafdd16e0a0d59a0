"""Several ways in."""

from __future__ import annotations

import inspect

from starlette.requests import Request

from tidelog.auth.principal import Found, Identify


def first_of(*parts: Identify) -> Identify:
    """The first of these that knows who asks. Raises `TypeError` for no parts at all: nobody would ever get in."""
    if not parts:
        raise TypeError("first_of needs at least one part.")

    async def found(request: Request) -> Found:
        for part in parts:
            who = part(request)
            if inspect.isawaitable(who):
                who = await who
            if who:
                return who
        return None

    return found
