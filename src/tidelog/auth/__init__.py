"""Who asks, and what they may do: ready parts for `Tidelog(principal=..., authorize=...)`.

    tide = Tidelog(principal=first_of(api_keys("keys.txt"), jwt(key, algorithms=["EdDSA"], audience="chat")))

A principal function takes the request and gives a name, a `Principal` where its credential ends at a known time, or None. A
credential is looked at and never kept: nothing here logs, and what is refused is None, whatever was wrong with it.
"""

from __future__ import annotations

from tidelog.auth.combined import first_of
from tidelog.auth.cookies import Cookie, cookie
from tidelog.auth.keys import api_keys, hash_key, new_key
from tidelog.auth.principal import Authorize, Identify, Principal, Target, is_owner
from tidelog.auth.tokens import jwt

__all__ = [
    "Authorize",
    "Cookie",
    "Identify",
    "Principal",
    "Target",
    "api_keys",
    "cookie",
    "first_of",
    "hash_key",
    "is_owner",
    "jwt",
    "new_key",
]
