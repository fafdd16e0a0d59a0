"""The nodes of a cluster, and which of them answers for a key: the map of slots is redis-py's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.crc import key_slot
from redis.exceptions import MovedError, RedisClusterException, RedisError

from tidelog.errors import InvalidRequest, Unavailable
from tidelog.stores.redis.nodes import Node, connected, kwargs_of
from tidelog.stores.redis.place import Place
from tidelog.tasks import cancelled

GAP: Final = 0.1
"""Seconds for which a map that was just looked up is not looked up again."""

_log = logging.getLogger("tidelog.stores.redis")


class Cluster:
    """Implements `Nodes`. A node that has left the map is closed; one that comes is connected to when it is needed."""

    only: Node | None = None

    def __init__(self, place: Place) -> None:
        told = [kwargs_of(url) for url in place.urls]
        self.changed: Callable[[], None] = lambda: None
        self._kwargs = {name: value for name, value in told[0].items() if name not in ("host", "port", "db")}
        seeds = [(one.get("host", "localhost"), one.get("port", 6379)) for one in told]
        self._map = NodesManager(
            [ClusterNode(host, port, **self._kwargs) for host, port in seeds],
            require_full_coverage=False, connection_kwargs=self._kwargs,
        )  # fmt: skip
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[str, Node] = {}
        self._fresh_until = 0.0
        self._over = False
        self._refreshing: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Find all nodes. Raises what redis-py raises."""
        try:
            await self._map.initialize()
        except RedisClusterException as error:
            if "mode is not enabled" in str(error):
                raise InvalidRequest("This Redis is no node of a cluster: its URL begins with redis://") from error
            raise
        self._know()

    async def aclose(self) -> None:
        """Close all ways."""
        self._over = True
        if self._refreshing is not None:
            await cancelled(self._refreshing)
        for node in self._nodes.values():
            await node.aclose()
        if leaving := (*self._leaving, *self._map._background_tasks):
            await asyncio.wait(leaving)
        await self._map.aclose()
        await self._map.aclose("startup_nodes")

    def node(self, key: str) -> Node:
        """Who answers for this key."""
        slot = key_slot(key.encode())
        try:
            return self._known(self._map.slots_cache[slot][0])
        except (KeyError, IndexError):
            self.doubt(None)
            raise Unavailable(f"Nobody answers for slot {slot}.") from None

    def all(self) -> Sequence[Node]:
        """All that answer for slots."""
        owners = {id(nodes): nodes[0] for nodes in self._map.slots_cache.values() if nodes}
        return list({node.name: self._known(node) for node in owners.values()}.values())

    async def refresh(self, lost: Node | None = None) -> None:
        """Ask any node for the map, the lost one last; all who want it meanwhile wait for the same answer."""
        self.doubt(lost)
        if self._refreshing is not None:
            await asyncio.wait((self._refreshing,))

    def doubt(self, lost: Node | None) -> None:
        """As `refresh`, and nobody waits for it."""
        under_way = self._refreshing is not None and not self._refreshing.done()
        if not under_way and self._loop.time() >= self._fresh_until and not self._over:
            self._refreshing = self._loop.create_task(self._refresh(lost.name if lost is not None else None))

    async def moved(self, said: str, node: Node) -> None:
        """One slot is somewhere else; where that was no accident, others follow."""
        try:
            await self._map.move_slot(MovedError(_whole(said, node)))
        except KeyError:  # nobody had that slot
            await self.refresh()
        self.changed()

    def named(self, said: str, node: Node) -> Node:
        """Whom a node has named, for one command."""
        error = MovedError(_whole(said, node))
        return self._known(
            self._map.get_node(error.host, error.port) or ClusterNode(error.host, error.port, **self._kwargs)
        )

    async def _refresh(self, lost: str | None) -> None:
        try:
            await self._map.initialize(last_failed_node_name=lost)
        except (RedisClusterException, RedisError, OSError, IndexError) as error:
            _log.warning("no node tells who answers for what: %s", error)
            return
        self._fresh_until = self._loop.time() + GAP
        self._know()
        self.changed()

    def _know(self) -> None:
        for name in self._nodes.keys() - self._map.nodes_cache.keys():
            task = self._loop.create_task(self._nodes.pop(name).aclose())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def _known(self, found: ClusterNode) -> Node:
        node = self._nodes.get(found.name)
        if node is None:
            address = {"host": found.host, "port": found.port}

            async def connect() -> Any:
                return await connected({**self._kwargs, **address})

            node = self._nodes[found.name] = Node(found.name, connect)
        return node


def _whole(said: str, node: Node) -> str:
    """`MOVED slot host:port` without its first word; a node may leave out the host if it is its own."""
    _, slot, address = said.split(" ")[:3]
    return f"{slot} {node.name.rpartition(':')[0]}{address}" if address.startswith(":") else f"{slot} {address}"
