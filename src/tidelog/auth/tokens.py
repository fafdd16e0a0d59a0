"""JSON Web Tokens, by PyJWT (the extra `auth`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request

from tidelog.auth.principal import Identify, Principal, bearer

EXTRA: Final = 'JWT needs a package that is not installed: pip install "tidelog[auth]".'
MAX_TOKEN_CHARS: Final = 8192
"""A longer one is refused unread."""


def jwt(
    key: Any, *, algorithms: Sequence[str], audience: str | Sequence[str] | None = None,
    issuer: str | Sequence[str] | None = None, claim: str = "sub", leeway: float = 0.0, need_exp: bool = True,
) -> Identify:  # fmt: skip
    """Principals by a JWT in `Authorization: Bearer`; the name is the text of `claim`, and `exp` is when it expires.

    `key` verifies: a secret of 32 bytes or more for HS algorithms, a public key (PEM, or an object that PyJWT takes) for all
    others. `algorithms` are those that may stand in a token; its own word does not count. `leeway` is in seconds. A token with
    an audience is refused where no `audience` is named, one without `exp` unless `need_exp=False`.
    Raises `ValueError` for no algorithm, `none`, a mixture of secrets and public keys or a short secret, `ImportError` without
    PyJWT.
    """
    try:
        import jwt as pyjwt
    except ImportError:
        raise ImportError(EXTRA) from None
    _check(key, algorithms)
    needed = [claim, "exp"] if need_exp else [claim]

    def found(request: Request) -> Principal | None:
        token = bearer(request)
        if token is None or len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            claims = pyjwt.decode(
                token, key, algorithms=list(algorithms), options={"require": needed}, audience=audience, issuer=issuer,
                leeway=leeway,
            )  # fmt: skip
            exp = claims.get("exp")
            until = float(exp) + leeway if exp is not None else None
        except (pyjwt.PyJWTError, ValueError, TypeError, OverflowError):  # what a token holds is nobody's 500
            return None
        name = claims[claim]
        return Principal(name, until) if isinstance(name, str) and name else None

    return found


def _check(key: Any, algorithms: Sequence[str]) -> None:
    if isinstance(algorithms, str) or not algorithms or "none" in {one.lower() for one in algorithms}:
        raise ValueError('algorithms must be a list of those that you sign with, such as ["EdDSA"].')
    secret = {one.startswith("HS") for one in algorithms}
    if len(secret) > 1:
        raise ValueError("HS algorithms and those of public keys together would let a public key sign.")
    if secret == {True} and len(key.encode() if isinstance(key, str) else key) < 32:
        raise ValueError("A secret for HS algorithms needs 32 bytes or more.")
