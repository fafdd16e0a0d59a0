"""API keys. Only their SHA-256 is held: a key is long and random, so a slow hash would add nothing."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request

from tidelog.auth.principal import Identify, bearer

KEY_CHARS: Final = 20
"""The fewest characters of a key."""
MOST_KEYS: Final = 1000
"""Each request is compared with all of them; who has more looks them up in a database."""
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")


def api_keys(
    keys: Mapping[str, str | Iterable[str]] | str | os.PathLike[str], *, cookie: str | None = None
) -> Identify:
    """Principals by API key, sent as `Authorization: Bearer <key>` or `X-API-Key: <key>`; or in a cookie, if one is named.

    `keys` gives each principal's name its key, or several while they are changed: the key itself (`KEY_CHARS` characters at
    least), or `sha256:<hex>` as `hash_key` gives it. A path names a file with a line `name:key` for each, read once; empty
    lines and those that begin with `#` do not count.
    Raises `ValueError` for keys that are too short, shared, too many or none, and never says one; `OSError` for the file.
    """
    pairs = _mapped(keys) if isinstance(keys, Mapping) else parse_keys(Path(keys).read_text("utf-8").splitlines())
    known: dict[bytes, str] = {}
    for name, key in pairs:
        digest = _digest_of(name, key)
        if known.setdefault(digest, name) != name:
            raise ValueError(f"{known[digest]} and {name} have the same key.")
    if not 0 < len(known) <= MOST_KEYS:
        raise ValueError(f"There must be from 1 to {MOST_KEYS} keys, not {len(known)}.")

    def found(request: Request) -> str | None:
        key = bearer(request) or request.headers.get("x-api-key") or (request.cookies.get(cookie) if cookie else None)
        given, who = hashlib.sha256((key or "").encode("utf-8", "replace")).digest(), None
        for digest, name in known.items():  # all of them: the time tells nothing of where a match stands
            if hmac.compare_digest(digest, given):
                who = name
        return who

    return found


def parse_keys(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and keys of lines `name:key`. Raises `ValueError` for a line that is none, by its number."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, key = line.strip().partition(":")
        if not (name.strip() and colon and key.strip()):
            raise ValueError(f"Line {number} of the API keys is no name:key.")
        yield name.strip(), key.strip()


def new_key() -> str:
    """A key of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """What `api_keys` needs to know of a key: `sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def _mapped(keys: Mapping[str, str | Iterable[str]]) -> Iterator[tuple[str, str]]:
    for name, given in keys.items():
        for key in (given,) if isinstance(given, str) else given:
            yield name, key


def _digest_of(name: str, key: str) -> bytes:
    if not name:
        raise ValueError("A principal needs a name.")
    if found := _HASH.fullmatch(key):
        return bytes.fromhex(found[1])
    if len(key) < KEY_CHARS:
        raise ValueError(f"The key of {name} is shorter than {KEY_CHARS} characters: tidelog.auth.new_key() makes one.")
    return hashlib.sha256(key.encode()).digest()
