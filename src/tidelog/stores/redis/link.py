"""The connections: what is sent, and what its failures are called here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import redis
from redis import asyncio as aredis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from tidelog.errors import InvalidRequest, Unavailable
from tidelog.stores.redis import scripts
from tidelog.stores.redis.place import Place
from tidelog.stores.redis.wire import Command, NoScript, Wire, checked

CONNECTIONS: Final = 16
"""For commands; who finds none free waits for one."""
SOCKET_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 2.0
"""Seconds for a read on behalf of a viewer, who is to hear heartbeats meanwhile: it is tried again."""
ACK_TIMEOUT: Final = 4.0
"""Seconds for which a disk or a replica is waited for, before the flush is sent again."""

Commands = list[Command]


def call(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Command:
    """The command that runs a script."""
    return ("EVALSHA", scripts.SHA[script], len(keys), *keys, *args)


class Link:
    """Raises `Unavailable` for whatever keeps Redis from answering."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pool = aredis.BlockingConnectionPool.from_url(
            place.url, max_connections=CONNECTIONS, timeout=None, socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT, retry=AsyncRetry(NoBackoff(), 1, (redis.ConnectionError,)),
        )  # fmt: skip
        self._client = aredis.Redis(connection_pool=self._pool)
        self._wire: Wire | None = None
        self._connecting = asyncio.Lock()

    async def start(self) -> None:
        """Connect, and load the scripts. Raises `InvalidRequest` for a Redis that cannot keep what `ack` promises."""
        await self._load()
        if self._place.ack == "aof":
            await self._see_to_disk()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._wire is not None:
            await self._wire.aclose()
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()
            await self._pool.disconnect()

    async def connect(self) -> Any:
        """A connection of redis-py, connected, and nobody else's. Raises what redis-py raises."""
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def blocking(self) -> redis.Redis:
        """A client for a thread."""
        return redis.Redis.from_url(
            self._place.url, socket_timeout=SOCKET_TIMEOUT, socket_connect_timeout=SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )  # fmt: skip

    async def life(self) -> str:
        """Which life of Redis this is: it is another one after a restart, and on another node."""
        with _named():
            found = await self._client.info("server")
        return str(found.get("run_id", ""))

    async def one(self, *command: Any) -> Any:
        """The answer to one command."""
        with _named():
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def run(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """The answer of a script."""
        (answer,) = await self.send([call(script, keys, args)])
        return answer

    async def look(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """As `run`, for a script that only reads: it is not waited for longer than READ_TIMEOUT."""
        with _named():
            async with asyncio.timeout(READ_TIMEOUT):
                return await self.run(script, keys, args)

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to these commands, which go together. Each must do no harm if it is sent twice."""
        with _named():
            try:
                return await self._send(commands)
            except NoScriptError:  # Redis was restarted, or another node answers now
                await self._load()
                return await self._send(commands)

    async def store(self, commands: Sequence[Command | bytes]) -> list[Any]:
        """As `send`, on the one connection for this, and what they write is stored as `ack` says once this returns."""
        ack = self._place.ack
        if ack == "memory":
            return await self._write(commands)
        wait = ("WAITAOF", 1, 0) if ack == "aof" else ("WAIT", 1)
        *answers, found = await self._write([*commands, (*wait, int(ACK_TIMEOUT * 1000))])
        if (found[0] if ack == "aof" else found) < 1:
            raise Unavailable("The disk does not answer." if ack == "aof" else "No replica answers.")
        return answers

    async def _see_to_disk(self) -> None:
        with _named():
            try:
                await self._client.execute_command("WAITAOF", 0, 0, 1)  # type: ignore[no-untyped-call]
            except redis.ResponseError as error:
                raise InvalidRequest("ack=aof needs WAITAOF, which Redis has from 7.2 on, and Valkey.") from error
            found = await self._client.info("persistence")
        if not found.get("aof_enabled"):
            raise InvalidRequest("ack=aof needs a Redis that writes a file: appendonly is off.")

    async def _write(self, commands: Sequence[Command | bytes]) -> list[Any]:
        with _named():
            for last in (False, False, True):
                wire = self._wire if self._wire is not None and not self._wire.closed else await self._connected()
                try:
                    async with asyncio.timeout(SOCKET_TIMEOUT):
                        return checked(await wire.send(commands))
                except NoScript:
                    await self._load()
                except redis.ConnectionError:  # of a Redis that was restarted meanwhile
                    if last:
                        raise
                except (TimeoutError, Unavailable):
                    wire.close()  # another node may answer the next one
                    raise
        raise Unavailable("Redis does not keep its scripts.")

    async def _connected(self) -> Wire:
        async with self._connecting:
            if self._wire is None or self._wire.closed:
                if self._wire is not None:
                    await self._wire.aclose()
                self._wire = Wire(await self.connect())
            return self._wire

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        return list(await pipe.execute())

    async def _load(self) -> None:
        with _named():
            for script in scripts.ALL:
                await self._client.script_load(script)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis does not answer: {type(error).__name__}") from error
