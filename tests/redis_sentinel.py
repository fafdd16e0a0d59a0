"""A Redis with a replica and three sentinels of the tests' own, on loopback ports."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis import Redis
from tests.redis_server import RedisServer, binary, free_port, wait_for

NAME = "tide"
DOWN_AFTER = 1000
"""Milliseconds after which a sentinel takes a server for dead that does not answer."""


class Watched(NamedTuple):
    """The servers as they were in the beginning, and who watches them."""

    master: RedisServer
    replica: RedisServer
    sentinels: Sequence[RedisServer]

    @property
    def url(self) -> str:
        """What a store is opened with."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def has_all(self) -> bool:
        """Whether the replica has all that the master has."""
        told = [ask(one, "INFO", "replication") for one in (self.master, self.replica)]
        return bool(
            told[0]["master_repl_offset"] == told[1]["slave_repl_offset"] and told[1]["master_link_status"] == "up"
        )


def ask(server: RedisServer, *command: Any) -> Any:
    """The answer to one command."""
    with Redis(port=server.port, decode_responses=True) as client:
        return client.execute_command(*command)


@contextmanager
def redis_sentinels() -> Iterator[Watched]:
    """All of them, which know each other."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def started(name: str, *command: str) -> RedisServer:
            own = Path(folder, name)
            own.mkdir(exist_ok=True)
            server = RedisServer((binary(), *command), free_port(), own)
            stack.callback(server.kill)
            return server

        plain = ("--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0")
        master = started("master", *plain)
        replica = started("replica", *plain, "--replicaof", f"127.0.0.1 {master.port}")
        found = Watched(master, replica, ())
        wait_for(found.has_all, "the replica follows")
        sentinels = []
        for number in range(3):
            own = Path(folder, str(number))
            own.mkdir()
            told = own / "sentinel.conf"
            told.write_text(
                f"bind 127.0.0.1\nsentinel monitor {NAME} 127.0.0.1 {master.port} 2\n"
                f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\nsentinel failover-timeout {NAME} 6000\n"
            )
            sentinels.append(started(str(number), str(told), "--sentinel"))
        found = found._replace(sentinels=sentinels)
        wait_for(lambda: all(_knows_all(one) for one in sentinels), "the sentinels know all")
        yield found


def _knows_all(sentinel: RedisServer) -> bool:
    with Redis(port=sentinel.port, decode_responses=True) as client:
        state = client.sentinel_master(NAME)
    return bool(
        state["num-other-sentinels"] == 2 and state["num-slaves"] == 1 and "disconnected" not in str(state["flags"])
    )
