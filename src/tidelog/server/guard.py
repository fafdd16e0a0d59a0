"""Who may ask for what: cross-site and prefetch rules for starts and verbs, and who counts as local (spec §4, §8)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import Scope

from tidelog.errors import Refused


def check_start(request: Request, origins: Collection[str]) -> None:
    """Raise `Refused` for a prefetch, and for what `check_site` refuses."""
    purpose = request.headers.get("sec-purpose", "") + request.headers.get("purpose", "")
    if "prefetch" in purpose or "prerender" in purpose:
        raise Refused(code="prefetch")
    _check_site(request.scope, request.headers, origins)


def check_site(scope: Scope, origins: Collection[str]) -> None:
    """Raise `Refused` for a request that another site's page makes, unless `origins` or the app's CORS settings allow it."""
    _check_site(scope, Headers(scope=scope), origins)


def _check_site(scope: Scope, headers: Headers, origins: Collection[str]) -> None:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:
        foreign = site == "cross-site"
    else:
        foreign = origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    if foreign and not (origin and (origin in origins or _cors_allows(scope, origin))):
        raise Refused(code="cross_site")


def _cors_allows(scope: Scope, origin: str) -> bool:
    app = scope.get("app")
    for middleware in getattr(app, "user_middleware", ()):
        if middleware.cls is CORSMiddleware:
            allowed: Any = CORSMiddleware(_nothing, *middleware.args, **middleware.kwargs)
            return bool(allowed.is_allowed_origin(origin))
    return False


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """An app that is never called."""


def is_local(scope: Scope) -> bool:
    """Whether the request comes from this machine and through no proxy that says otherwise."""
    headers = Headers(scope=scope)
    if any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")):
        return False
    client = scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
