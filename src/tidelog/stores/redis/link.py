"""What is sent to the servers, and what their failures are called here."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import RedisClusterException, RedisError

from tidelog.errors import InvalidRequest, Unavailable
from tidelog.stores.redis import scripts
from tidelog.stores.redis.cluster import Cluster
from tidelog.stores.redis.errand import Errand
from tidelog.stores.redis.keys import of_command
from tidelog.stores.redis.nodes import Node, Nodes, Way, one, watched
from tidelog.stores.redis.place import Ack, Kind, Place
from tidelog.stores.redis.wire import Command, packed

READ_TIMEOUT: Final = 2.0
"""Seconds for a read on behalf of a viewer, who is to hear heartbeats meanwhile: it is tried again."""

Commands = list[Command]


def call(script: str, keys: Sequence[Any], args: Sequence[Any]) -> Command:
    """The command that runs a script."""
    return ("EVALSHA", scripts.SHA[script], len(keys), *keys, *args)


class Link:
    """Raises `Unavailable` for whatever keeps Redis from answering."""

    def __init__(self, place: Place) -> None:
        self._ack = place.ack
        self.nodes: Nodes = _KINDS[place.kind](place)

    async def find(self) -> None:
        """Find the servers. Raises `InvalidRequest` for an address of something else."""
        with _named():
            await self.nodes.start()

    async def start(self) -> None:
        """Find the servers. Raises `InvalidRequest` for a Redis that cannot keep what `ack` promises."""
        await self.find()
        if self._ack == "aof":
            with _named():
                for node in self.nodes.all():
                    await _see_to_disk(node.storing)

    async def aclose(self) -> None:
        """Close all connections."""
        with contextlib.suppress(RedisError, OSError):
            await self.nodes.aclose()

    def life(self, key: str) -> str:
        """Which life of the server it was that stored something of this key last; '' if nobody answers for it."""
        node = self._node(key)
        return node.storing.life if node is not None else ""

    def where(self, key: str) -> str:
        """The name of the server that answers for this key; '' if nobody does."""
        node = self._node(key)
        return node.name if node is not None else ""

    async def one(self, *command: Any) -> Any:
        """The answer to one command."""
        (answer,) = await self.send([command])
        return answer

    async def run(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """The answer of a script."""
        return await self.one(*call(script, keys, args))

    async def look(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """As `run`, for a script that only reads: it is not waited for longer than READ_TIMEOUT."""
        with _named():
            async with asyncio.timeout(READ_TIMEOUT):
                return await self.run(script, keys, args)

    async def send(self, *stages: Sequence[Command]) -> list[Any]:
        """The answers to these commands, which go together; no stage is sent before the one before it was answered.

        Each must do no harm if it is sent twice.
        """
        return await self._stages(stages, None)

    async def store(self, *stages: Sequence[Command]) -> list[Any]:
        """As `send`, on the one connection for this, and what they write is stored as `ack` says once this returns."""
        return await self._stages(stages, self._ack)

    async def flush(self, commands: Sequence[bytes]) -> list[Any]:
        """As `store`, of commands that are packed, each of which runs a script that answers a number."""
        keys = [] if self.nodes.only is not None else [of_command(command) for command in commands]
        with _named():
            return await Errand(self.nodes, keys, commands, self._ack, plain=True).done()

    def _node(self, key: str) -> Node | None:
        with contextlib.suppress(Unavailable):
            return self.nodes.node(key)
        return None

    async def _stages(self, stages: Sequence[Sequence[Command]], ack: Ack | None) -> list[Any]:
        alone = self.nodes.only is not None
        if alone:  # one connection keeps the order
            stages = [[command for stage in stages for command in stage]]
        answers: list[Any] = []
        with _named():
            for stage in filter(None, stages):
                keys = [] if alone else [of_command(command) for command in stage]
                commands = [hiredis.pack_command(command) for command in stage]
                answers += await Errand(self.nodes, keys, commands, ack).done()
        return answers


async def _see_to_disk(way: Way) -> None:
    waited, found = await way.send([packed("WAITAOF", 0, 0, 1), packed("INFO", "persistence")])
    if isinstance(waited, hiredis.ReplyError):
        raise InvalidRequest("ack=aof needs WAITAOF, which Redis has from 7.2 on, and Valkey.")
    if not re.search(rb"aof_enabled:1", found):
        raise InvalidRequest("ack=aof needs a Redis that writes a file: appendonly is off.")


@contextlib.contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis does not answer: {type(error).__name__}") from error


_KINDS: Final[dict[Kind, Callable[[Place], Nodes]]] = {"one": one, "cluster": Cluster, "sentinel": watched}
