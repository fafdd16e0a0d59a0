"""A real Redis Cluster of the tests' own, on loopback ports: nodes can be killed, and slots moved while somebody writes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from tests.certificates import Certificates
from tests.redis_server import RedisServer, binary, free_port, wait_for

SLOTS = 16384
NODE_TIMEOUT = 1500
"""Milliseconds after which a node that does not answer is taken for failed."""


class Cluster:
    """`nodes` are masters, which share the slots in this order, then their replicas, if any, in the same order."""

    def __init__(self, nodes: Sequence[RedisServer], *, masters: int) -> None:
        self.nodes = nodes
        self.masters = masters

    @property
    def url(self) -> str:
        """What a store is opened with: two of the nodes, which tell of the others."""
        first, second = self.nodes[:2]
        addresses, tls = f"127.0.0.1:{first.port},127.0.0.1:{second.port}", first.tls
        return f"redis+cluster://{addresses}" if tls is None else f"rediss+cluster://{addresses}/?{tls.query}"

    def index(self, key: str) -> int:
        """Which of the masters had this key in the beginning."""
        return key_slot(key.encode()) * self.masters // SLOTS

    def ask(self, index: int, *command: Any) -> Any:
        """The answer of a node to one command."""
        with client_of(self.nodes[index]) as client:
            return client.execute_command(*command)

    def form(self) -> None:
        """Make one cluster of the nodes."""
        for index in range(len(self.nodes)):
            self.ask(index, "CLUSTER SET-CONFIG-EPOCH", index + 1)
        for index in range(self.masters):
            first, behind = (-(-SLOTS * number // self.masters) for number in (index, index + 1))
            self.ask(index, "CLUSTER ADDSLOTSRANGE", first, behind - 1)
        for node in self.nodes[1:]:
            self.ask(0, "CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        wait_for(lambda: all(self._knows(index) for index in range(len(self.nodes))), "all nodes know all")
        for index in range(self.masters, len(self.nodes)):
            self.ask(index, "CLUSTER REPLICATE", self.name(index - self.masters))
        wait_for(lambda: all(self._is_ready(index) for index in range(len(self.nodes))), "the cluster stands")

    def has_all(self, index: int) -> bool:
        """Whether the replica of this master has all that it has."""
        told = [self.ask(one, "INFO", "replication") for one in (index, index + self.masters)]
        return bool(told[0]["master_repl_offset"] == told[1]["slave_repl_offset"])

    def name(self, index: int) -> str:
        """What a node is called by the others."""
        return str(self.ask(index, "CLUSTER MYID"))

    def move(self, slot: int, source: int, target: int, *, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot as `redis-cli --cluster reshard` does, key by key. `between` is called while it is on its way."""
        self.ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", self.name(source))
        self.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", self.name(target))
        between()
        while keys := self.ask(source, "CLUSTER GETKEYSINSLOT", slot, 1):
            self.ask(source, "MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 5000, "KEYS", *keys)
        between()
        for index in (target, source):
            self.ask(index, "CLUSTER SETSLOT", slot, "NODE", self.name(target))

    def _knows(self, index: int) -> bool:
        info = self.ask(index, "CLUSTER INFO")
        return f"cluster_known_nodes:{len(self.nodes)}" in _text(info)

    def _is_ready(self, index: int) -> bool:
        if "cluster_state:ok" not in _text(self.ask(index, "CLUSTER INFO")):
            return False
        return index < self.masters or "master_link_status:up" in _text(self.ask(index, "INFO", "replication"))


@contextmanager
def redis_cluster(
    *options: str, masters: int = 3, replicas: bool = False, tls: Certificates | None = None
) -> Iterator[Cluster]:
    """The cluster. With `replicas` each master has one, which takes its place when it dies. With `tls` all speak nothing else."""
    command = (
        binary(), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT),
        "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
        *(("--tls-cluster", "yes") if tls is not None else ()), *options,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        nodes = []
        for number in range(masters * (2 if replicas else 1)):
            own = Path(folder, str(number))
            own.mkdir()
            bus = free_port()
            node = RedisServer((*command, "--cluster-port", str(bus)), free_port(), own, tls=tls)
            node.bus = bus
            stack.callback(node.kill)
            nodes.append(node)
        found = Cluster(nodes, masters=masters)
        found.form()
        yield found


def client_of(server: RedisServer) -> Redis:
    """One that asks this server."""
    tls = server.tls
    if tls is None:
        return Redis(port=server.port, decode_responses=True)
    files = {"ssl_ca_certs": tls.authority, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    return Redis(port=server.port, decode_responses=True, ssl=True, **{name: str(path) for name, path in files.items()})


def _text(info: Any) -> str:
    """An answer of INFO, which redis-py takes apart for some commands."""
    return "\n".join(f"{name}:{value}" for name, value in info.items()) if isinstance(info, dict) else str(info)
