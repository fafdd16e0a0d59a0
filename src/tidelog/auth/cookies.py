"""A cookie that names its principal and ends at a known time, signed with HMAC-SHA256.

A page's EventSource and WebSocket send it by themselves. Other sites' pages are kept out twice: `SameSite`, and the rules of
`Origin` and `Sec-Fetch-Site` that every start and verb passes.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from tidelog.auth.principal import Principal

MAX_AGE: Final = 12 * 3600.0
SECRET_CHARS: Final = 32


class Cookie:
    """A principal function for cookies that `put` has set: `<name>.<expires>.<signature>`."""

    def __init__(
        self, secret: str, *, name: str = "tidelog", max_age: float = MAX_AGE,
        same_site: Literal["lax", "strict"] = "lax", path: str = "/",
    ) -> None:  # fmt: skip
        """`max_age` is in seconds. Raises `ValueError` for a secret of less than SECRET_CHARS characters."""
        if len(secret) < SECRET_CHARS:
            raise ValueError(f"The secret of a cookie needs {SECRET_CHARS} characters or more.")
        self._key = hashlib.sha256(f"tidelog cookie {name} {secret}".encode()).digest()
        self._name = name
        self._max_age = max_age
        self._settings: dict[str, Any] = {"path": path, "httponly": True, "samesite": same_site}

    def __call__(self, request: Request) -> Principal | None:
        """Who the request's cookie names; None for one that is missing, changed or over its time."""
        payload, _, signature = request.cookies.get(self._name, "").rpartition(".")
        if not payload or not hmac.compare_digest(self._sign(payload).encode(), signature.encode("utf-8", "replace")):
            return None
        who, _, expires = payload.partition(".")
        if time.time() >= int(expires):
            return None
        return Principal(bytes.fromhex(who).decode(), float(expires))

    def put(self, response: Response, principal: str, *, request: Request) -> Principal:
        """Set the cookie for this principal, `Secure` where `request` came over https; what it says."""
        expires = int(time.time() + self._max_age)
        payload = f"{principal.encode().hex()}.{expires}"
        response.set_cookie(
            self._name, f"{payload}.{self._sign(payload)}", max_age=int(self._max_age),
            secure=request.scope["scheme"] == "https", **self._settings,
        )  # fmt: skip
        return Principal(principal, float(expires))

    def take_back(self, response: Response) -> None:
        """Delete the cookie in the browser. One that was copied before holds until its time is over."""
        response.delete_cookie(self._name, **self._settings)

    def _sign(self, payload: str) -> str:
        return hmac.digest(self._key, payload.encode("utf-8", "replace"), "sha256").hex()


def cookie(
    secret: str, *, name: str = "tidelog", max_age: float = MAX_AGE, same_site: Literal["lax", "strict"] = "lax",
    path: str = "/",
) -> Cookie:  # fmt: skip
    """Principals by a signed cookie, HttpOnly and of the same site. Its `put` signs somebody in, `take_back` out.

    Raises `ValueError` for a secret of less than SECRET_CHARS characters.
    """
    return Cookie(secret, name=name, max_age=max_age, same_site=same_site, path=path)
