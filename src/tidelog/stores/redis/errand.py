"""Commands on their way to the servers that answer for their keys, until each has its answer.

Another server may answer by now (MOVED), or for what has gone there already of a slot on its way (ASK, TRYAGAIN); a connection
may be lost, a cluster without a word for a moment (CLUSTERDOWN), a script not known any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import hiredis
from redis.exceptions import ConnectionError, RedisError

from tidelog.errors import Unavailable
from tidelog.stores.redis.nodes import Node, Nodes, Way
from tidelog.stores.redis.place import Ack
from tidelog.stores.redis.wire import packed

TRIES: Final = 8
LOSSES: Final = 2
"""How often a connection may be lost over it."""
PAUSE: Final = 0.05
"""Seconds until what the cluster cannot answer just now is sent again."""
ACK_TIMEOUT: Final = 4.0
"""Seconds for which a disk or a replica is waited for, before the flush is sent again."""
NO_MASTER: Final = frozenset({"READONLY", "LOADING", "MASTERDOWN"})
"""Refusals for which another connection may lead to a better server."""


class Errand:
    """Commands that go together. `keys` tell who answers, and are not looked at where one server answers for all.

    With an `ack` they go the way of what is stored, and are stored as it says; without one they go the way of questions.
    `plain`: see `Wire.send`.
    """

    def __init__(
        self, nodes: Nodes, keys: Sequence[str], commands: Sequence[bytes], ack: Ack | None, *, plain: bool = False
    ) -> None:
        self._nodes = nodes
        self._keys = keys
        self._commands = commands
        self._ack = ack
        self._plain = plain
        self._answers: list[Any] = [None] * len(commands)
        self._left: Sequence[int] = range(len(commands))
        self._named: dict[int, Node] = {}
        """Who is to answer a command because another one has said so, for this once."""
        self._greeted: set[Node] = set()
        self._losses = 0
        self._why = ""

    async def done(self) -> list[Any]:
        """All answers. Raises `Unavailable`, what redis-py raises, and `TimeoutError`."""
        for _ in range(TRIES):
            groups, named = self._groups(), self._named
            asking = [self._ask(node, indices, named) for node, indices in groups.items()]
            if len(asking) == 1:
                found = [await asking[0]]
                if isinstance(found[0], list) and len(found[0]) == len(self._answers) and not _refuses(found[0]):
                    return found[0]  # as nearly always
            else:
                found = await asyncio.gather(*asking)
            await self._weigh(groups, found)
            if not self._left:
                return self._answers
            if self._why in _LATER:
                await asyncio.sleep(PAUSE)
        raise Unavailable(f"Redis refuses: {self._why}")

    def _groups(self) -> dict[Node, Sequence[int]]:
        only = self._nodes.only
        if only is not None:
            return {only: self._left}
        groups: dict[Node, list[int]] = {}
        for index in self._left:
            node = self._named.get(index) or self._nodes.node(self._keys[index])
            groups.setdefault(node, []).append(index)
        return dict(groups)

    async def _ask(self, node: Node, indices: Sequence[int], named: dict[int, Node]) -> list[Any] | Exception:
        """The answers of one server, or why there are none."""
        commands = self._commands
        if named or len(indices) < len(commands):
            commands = [
                part for index in indices for part in ((_ASKING,) if index in named else ()) + (commands[index],)
            ]
        try:
            if self._ack is None:
                async with node.turns:
                    answers = await node.asking.send(commands)
            elif self._ack == "memory":
                answers = await node.storing.send(commands, plain=self._plain)
            else:
                answers = await _acknowledged(node.storing, commands, self._ack)
        except (RedisError, OSError, TimeoutError, Unavailable) as error:
            return error
        if named:
            answers = [answer for answer, one in zip(answers, commands, strict=True) if one is not _ASKING]
        return answers

    async def _weigh(self, groups: dict[Node, Sequence[int]], found: Sequence[list[Any] | Exception]) -> None:
        """Keep the answers; what has none is left."""
        left: list[int] = []
        self._left = left
        self._named = {}
        for (node, indices), answers in zip(groups.items(), found, strict=True):
            if isinstance(answers, Exception):
                await self._mourn(node, answers)
                left += indices
                continue
            for index, answer in zip(indices, answers, strict=True):
                if isinstance(answer, hiredis.ReplyError):
                    await self._refused(node, index, str(answer))
                    left.append(index)
                else:
                    self._answers[index] = answer

    async def _mourn(self, node: Node, error: Exception) -> None:
        """A connection was lost: the server was restarted meanwhile, or another one has taken its place."""
        was_lost = isinstance(error, ConnectionError | OSError) and not isinstance(error, TimeoutError)
        if not was_lost or self._losses == LOSSES:
            self._nodes.doubt(node)
            raise error
        self._losses += 1
        await self._nodes.refresh(node)

    async def _refused(self, node: Node, index: int, said: str) -> None:
        self._why = said.partition(" ")[0]
        way = node.asking if self._ack is None else node.storing
        if self._why == "NOSCRIPT":
            if node not in self._greeted:
                await way.greet()
            self._greeted.add(node)
        elif self._why == "MOVED":
            await self._nodes.moved(said, node)
        elif self._why == "ASK":
            self._named[index] = self._nodes.named(said, node)
        elif self._why == "CLUSTERDOWN":
            await self._nodes.refresh(node)
        elif self._why != "TRYAGAIN":
            if self._why in NO_MASTER:
                way.close()
            raise Unavailable(f"Redis refuses: {self._why}")


def _refuses(answers: Sequence[Any]) -> bool:
    return hiredis.ReplyError in map(type, answers)


async def _acknowledged(way: Way, commands: Sequence[bytes], ack: Ack) -> list[Any]:
    patience = int(ACK_TIMEOUT * 1000)
    wait = packed("WAITAOF", 1, 0, patience) if ack == "aof" else packed("WAIT", 1, patience)
    *answers, found = await way.send([*commands, wait])
    if isinstance(found, hiredis.ReplyError):
        raise Unavailable(f"Redis refuses: {found}")
    if (found[0] if ack == "aof" else found) < 1:
        raise Unavailable("The disk does not answer." if ack == "aof" else "No replica answers.")
    return answers


_ASKING: Final = packed("ASKING")
_LATER: Final = frozenset({"TRYAGAIN", "CLUSTERDOWN"})
