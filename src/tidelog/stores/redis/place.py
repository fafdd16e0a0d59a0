"""Where the store is, from its URL."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from tidelog.errors import InvalidRequest

BEAT: Final = 2.0
STORE_PATIENCE: Final = 30.0
TTL: Final = 30 * 24 * 3600
"""Seconds for which a log is kept that nobody touches, should nobody drop it either: beyond every retention."""
PREFIX: Final = "tidelog"
Ack = Literal["memory", "aof", "replica"]
"""Where a record is when it counts as stored: in the memory of Redis, on its disk, in the memory of a replica as well."""


class Place(NamedTuple):
    """`url` is what redis-py takes. Times in seconds."""

    url: str
    prefix: str = PREFIX
    beat: float = BEAT
    patience: float = STORE_PATIENCE
    ttl: int = TTL
    ack: Ack = "memory"


def parse(url: str) -> Place:
    """The place of `redis://host:port/db?…`; our options are `prefix`, `beat`, `store_patience`, `ttl` and `ack`.

    Raises `InvalidRequest`.
    """
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = given.pop("prefix", PREFIX)
    if not prefix or any(mark in prefix for mark in "{} "):
        raise InvalidRequest(f"prefix={prefix!r}: a prefix of keys is not empty and has no braces and no blanks.")
    said = given.pop("ack", "memory")
    ack = next((one for one in _ACKS if one == said), None)
    if ack is None:
        raise InvalidRequest(f"ack={said!r}: it is one of {', '.join(_ACKS)}.")
    times = {name: _seconds(name, given.pop(name, str(usual))) for name, usual in _TIMES.items()}
    rest = urlunsplit(parts._replace(query=urlencode(given)))
    return Place(rest, prefix, times["beat"], times["store_patience"], int(times["ttl"]), ack)


_ACKS: Final[tuple[Ack, ...]] = get_args(Ack)
_TIMES: Final = {"beat": BEAT, "store_patience": STORE_PATIENCE, "ttl": TTL}


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e10:
        raise InvalidRequest(f"{name}={text!r} is no time in seconds.")
    return value
