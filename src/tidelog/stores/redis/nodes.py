"""The servers that answer for keys, and the ways to each of them.

One server answers for all keys, or the one that sentinels name; in a cluster it is known by the key: see `cluster`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import hiredis
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError

from tidelog.errors import InvalidRequest
from tidelog.stores.redis import scripts
from tidelog.stores.redis.place import Place
from tidelog.stores.redis.wire import Wire, packed

SOCKET_TIMEOUT: Final = 5.0
SENTINEL_TIMEOUT: Final = 1.0
"""Seconds for which one sentinel is waited for, before the next one is asked."""
ASKS: Final = 16
"""Batches of questions to one server that are under way at once: their answers may be long."""
GREETING: Final = tuple(
    packed(*command) for command in (("INFO", "server"), *(("SCRIPT", "LOAD", text) for text in scripts.TEXTS.values()))
)
"""What a server is asked, and told, at the beginning of each way to it."""

Connect = Callable[[], Awaitable[Any]]


class Way:
    """A wire to a server that is made again when it was lost, and begins with the greeting."""

    def __init__(self, connect: Connect) -> None:
        self.life = ""
        """Which life of the server the last wire led to: it is another one after a restart, and on another server."""
        self._connect = connect
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()
        self._over = False

    async def send(self, commands: Sequence[bytes], *, plain: bool = False) -> list[Any]:
        """The answers, which may be errors. Raises what redis-py raises, and `TimeoutError`."""
        wire = self._wire
        if wire is None or wire.closed:
            wire = await self._connected()
        try:
            async with asyncio.timeout(SOCKET_TIMEOUT):
                return await wire.send(commands, plain=plain)
        except TimeoutError:
            wire.close()  # another one may lead to a server that answers
            raise

    async def greet(self) -> None:
        """Say the greeting again: the server has forgotten its scripts."""
        await self.send(GREETING)

    def close(self) -> None:
        """Whoever waits is told that the wire was lost; the next one is made anew."""
        if self._wire is not None:
            self._wire.close()

    async def aclose(self) -> None:
        """`close`, for good: what is still sent fails with redis-py's `ConnectionError`."""
        self._over = True
        if self._wire is not None:
            await self._wire.aclose()

    async def _connected(self) -> Wire:
        async with self._connecting:
            if self._wire is None or self._wire.closed:
                if self._over:
                    raise ConnectionError("the way to this server is closed")
                if self._wire is not None:
                    await self._wire.aclose()
                self._wire = None
                wire = Wire(await self._connect())
                try:
                    async with asyncio.timeout(SOCKET_TIMEOUT):
                        self.life = _life(await wire.send(GREETING))
                except BaseException:
                    await wire.aclose()
                    raise
                self._wire = wire
                if self._over:  # meanwhile
                    await wire.aclose()
            return self._wire


class Node:
    """A server. What is stored goes its own way, so that nothing else waits for a disk or a replica."""

    def __init__(self, name: str, connect: Connect) -> None:
        self.name = name
        self.connect = connect
        """A connection of redis-py, connected, and nobody else's. Raises what redis-py raises."""
        self.storing = Way(connect)
        self.asking = Way(connect)
        self.turns = asyncio.Semaphore(ASKS)
        """For who asks."""

    async def aclose(self) -> None:
        """Close all ways."""
        await self.storing.aclose()
        await self.asking.aclose()


class Nodes(Protocol):
    """Which server answers for a key. `only` is the one that answers for all; a cluster has none."""

    only: Node | None
    changed: Callable[[], None]
    """Called when other servers may answer for some keys than did before."""

    async def start(self) -> None:
        """Find them. Raises what redis-py raises, and `InvalidRequest`."""

    async def aclose(self) -> None:
        """Close all ways."""

    def node(self, key: str) -> Node:
        """Who answers for this key. Raises `Unavailable` if nobody does."""

    def all(self) -> Sequence[Node]:
        """Those that answer for any key."""

    async def refresh(self, lost: Node | None = None) -> None:
        """Look again who answers for what; `lost` did not answer. Raises nothing: who asks in vain hears that soon enough."""

    def doubt(self, lost: Node | None) -> None:
        """As `refresh`, and nobody waits for it."""

    async def moved(self, said: str, node: Node) -> None:
        """A server has said who answers for a slot now."""

    def named(self, said: str, node: Node) -> Node:
        """Whom a server has named, for one command."""


class One:
    """One server, at a fixed address or where the sentinels say."""

    def __init__(self, only: Node, close: Callable[[], Awaitable[None]] | None = None) -> None:
        self.only: Node | None = only
        self.changed: Callable[[], None] = lambda: None
        self._node = only
        self._close = close

    async def start(self) -> None:
        """Nothing is to be found."""

    async def aclose(self) -> None:
        """Close all ways."""
        await self._node.aclose()
        if self._close is not None:
            await self._close()

    def node(self, key: str) -> Node:
        """The one."""
        return self._node

    def all(self) -> Sequence[Node]:
        """The one."""
        return (self._node,)

    async def refresh(self, lost: Node | None = None) -> None:
        """Its address is asked for with each connection."""

    def doubt(self, lost: Node | None) -> None:
        """As `refresh`."""

    async def moved(self, said: str, node: Node) -> None:
        """Raises `InvalidRequest`: it is not alone."""
        raise InvalidRequest("This Redis is a node of a cluster: the URL of that begins with redis+cluster://")

    def named(self, said: str, node: Node) -> Node:
        """The one."""
        return node


def one(place: Place) -> One:
    """The server at this place."""
    kwargs = kwargs_of(place.urls[0])
    return One(Node("redis", lambda: connected(kwargs)))


def watched(place: Place) -> One:
    """The server that the sentinels at this place name, asked for with each connection."""
    told = [kwargs_of(url) for url in place.urls]
    kwargs = told[0]
    asking = {name: value for name, value in kwargs.items() if name.startswith("ssl")} | dict(place.asking)
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [(one.get("host", "localhost"), one.get("port", 26379)) for one in told],
        sentinel_kwargs={
            **asking, "ssl": place.urls[0].startswith("rediss:"), "retry": Retry(NoBackoff(), 0),
            "socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT,
        },
    )  # fmt: skip

    async def connect() -> Any:
        host, port = await sentinel.discover_master(place.service)
        connection = await connected({**kwargs, "host": host, "port": port})
        try:
            await connection.send_command("ROLE")
            (role, *_) = await connection.read_response()
            if role != b"master":
                raise ConnectionError("The sentinels still name a server that is no master any more.")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    return One(Node("redis", connect), sentinel.aclose)


def kwargs_of(url: str) -> dict[str, Any]:
    """What redis-py makes a connection with. Raises `InvalidRequest`."""
    try:
        kwargs: dict[str, Any] = dict(parse_url(url))
        kwargs.pop("max_connections", None)  # of a pool
        kwargs = {"connection_class": Connection, "socket_timeout": SOCKET_TIMEOUT, **kwargs, "protocol": 3}
        kwargs.setdefault("socket_connect_timeout", kwargs["socket_timeout"])
        _made(kwargs)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"redis-py does not take this URL: {error}") from error
    return kwargs


async def connected(kwargs: dict[str, Any]) -> Any:
    """A connection of redis-py."""
    connection = _made(kwargs)
    try:
        await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection


def _made(kwargs: dict[str, Any]) -> Any:
    rest = dict(kwargs)
    return rest.pop("connection_class")(**rest, retry=Retry(NoBackoff(), 0))


def _life(answers: Sequence[Any]) -> str:
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            raise ResponseError(str(answer))
    found = re.search(rb"run_id:(\w+)", answers[0])
    return found[1].decode() if found else ""
