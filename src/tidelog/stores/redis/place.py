"""Where the store is, from its URL."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, unquote, urlencode

from tidelog.errors import InvalidRequest

BEAT: Final = 2.0
STORE_PATIENCE: Final = 30.0
TTL: Final = 30 * 24 * 3600
"""Seconds for which a log is kept that nobody touches, should nobody drop it either: beyond every retention."""
PREFIX: Final = "tidelog"
Ack = Literal["memory", "aof", "replica"]
"""Where a record is when it counts as stored: in the memory of Redis, on its disk, in the memory of a replica as well."""
Kind = Literal["one", "cluster", "sentinel"]
"""What the addresses are of: one server, nodes of a cluster, or sentinels that know which server it is."""


class Place(NamedTuple):
    """`urls` are what redis-py takes, one for each address. Times in seconds."""

    urls: tuple[str, ...]
    kind: Kind = "one"
    service: str = ""
    """What the sentinels call the server."""
    asking: tuple[tuple[str, str], ...] = ()
    """What redis-py needs to be let in by sentinels, if anything."""
    prefix: str = PREFIX
    beat: float = BEAT
    patience: float = STORE_PATIENCE
    ttl: int = TTL
    ack: Ack = "memory"


def parse(url: str) -> Place:
    """The place of `redis://host:port/db?…`, `redis+cluster://host:port,host:port` or `redis+sentinel://host:port,…/service/db`.

    `rediss` is TLS. Our options are `prefix`, `beat`, `store_patience`, `ttl` and `ack`; what else there is, is redis-py's.
    Raises `InvalidRequest`.
    """
    scheme, kind, hosts, path, given = _parts(url)
    prefix = given.pop("prefix", PREFIX)
    if not prefix or any(mark in prefix for mark in "{} "):
        raise InvalidRequest(f"prefix={prefix!r}: a prefix of keys is not empty and has no braces and no blanks.")
    said = given.pop("ack", "memory")
    ack = next((one for one in _ACKS if one == said), None)
    if ack is None:
        raise InvalidRequest(f"ack={said!r}: it is one of {', '.join(_ACKS)}.")
    times = {name: _seconds(name, given.pop(name, str(usual))) for name, usual in _TIMES.items()}
    service, path = _service(path) if kind == "sentinel" else ("", path)
    if kind == "cluster" and path not in ("", "0"):
        raise InvalidRequest("A cluster has one database: its URL ends after the addresses, or with /0.")
    asking = tuple((name, given.pop(f"sentinel_{name}")) for name in _WHO if f"sentinel_{name}" in given)
    rest = f"/{path}" + (f"?{urlencode(given)}" if given else "")
    urls = tuple(f"{scheme}://{host}{rest}" for host in hosts)
    return Place(urls, kind, service, asking, prefix, times["beat"], times["store_patience"], int(times["ttl"]), ack)


_ACKS: Final[tuple[Ack, ...]] = get_args(Ack)
_KINDS: Final[dict[str, Kind]] = {"": "one", "cluster": "cluster", "sentinel": "sentinel"}
_TIMES: Final = {"beat": BEAT, "store_patience": STORE_PATIENCE, "ttl": TTL}
_WHO: Final = ("username", "password")


def _parts(url: str) -> tuple[str, Kind, list[str], str, dict[str, str]]:
    """Scheme for redis-py, kind, addresses with who asks, path and options."""
    scheme, _, rest = url.partition("://")
    scheme, _, kind = scheme.partition("+")
    if kind not in _KINDS:
        raise InvalidRequest(f"{scheme}+{kind}: it is {scheme}, {scheme}+cluster or {scheme}+sentinel.")
    rest, _, query = rest.partition("?")
    address, _, path = rest.partition("/")
    who, at, names = address.rpartition("@")
    hosts = names.split(",") if kind else [names]
    if kind and not all(hosts):
        raise InvalidRequest(f"{scheme}+{kind} needs addresses: {scheme}+{kind}://host:port,host:port")
    return (
        scheme,
        _KINDS[kind],
        [who + at + host for host in hosts],
        path,
        dict(parse_qsl(query, keep_blank_values=True)),
    )


def _service(path: str) -> tuple[str, str]:
    service, _, database = path.partition("/")
    if not service:
        raise InvalidRequest("Sentinels are asked for a name: redis+sentinel://host:port,host:port/name")
    return unquote(service), database


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e10:
        raise InvalidRequest(f"{name}={text!r} is no time in seconds.")
    return value
