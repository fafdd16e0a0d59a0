"""Three masters of a Redis Cluster: ``python -m bench.servers.redis_cluster <port> <scratch>``.

They listen on 127.0.0.2 until they are a cluster; then the first one listens on 127.0.0.1 as well, at this port, which tells
whoever waits for that.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from redis import ConnectionError, Redis

HOST = "127.0.0.2"
MASTERS, SLOTS = 3, 16384
POLL = 0.05  # seconds


def main(port: str, scratch: str) -> None:
    """Starts them, and stays for as long as they do."""
    ports = [int(port), *(_free_port() for _ in range(MASTERS - 1))]
    nodes = [_started(own, Path(scratch, str(own))) for own in ports]
    for number, own in enumerate(ports):
        first, behind = (-(-SLOTS * place // MASTERS) for place in (number, number + 1))
        _wait(own, "CLUSTER INFO", "cluster_state")
        _ask(own, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        _ask(own, "CLUSTER ADDSLOTSRANGE", first, behind - 1)
        if number:
            _ask(ports[0], "CLUSTER MEET", HOST, own, _bus(own))
    for own in ports:
        _wait(own, "CLUSTER INFO", "cluster_state:ok", f"cluster_known_nodes:{MASTERS}", f"cluster_size:{MASTERS}")
    _ask(ports[0], "CONFIG SET", "bind", f"127.0.0.1 {HOST}")
    for node in nodes:
        node.wait()


def _started(port: int, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    own = ("--port", str(port), "--cluster-port", str(_bus(port)), "--dir", str(folder))
    kept = ("--save", "", "--appendonly", "yes", "--cluster-enabled", "yes", "--cluster-announce-ip", HOST)
    return subprocess.Popen(("redis-server", "--bind", HOST, *own, *kept), stdout=subprocess.DEVNULL)


def _bus(port: int) -> int:
    """Where the nodes hear each other."""
    return port + 10_000 if port < 50_000 else port - 10_000


def _ask(port: int, *command: Any) -> str:
    with Redis(HOST, port, decode_responses=True) as client:
        found = client.execute_command(*command)
    return "\n".join(f"{name}:{value}" for name, value in found.items()) if isinstance(found, dict) else str(found)


def _wait(port: int, command: str, *said: str) -> None:
    while True:
        try:
            if all(one in _ask(port, command) for one in said):
                return
        except ConnectionError:
            pass  # it starts
        time.sleep(POLL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main(*sys.argv[1:3])
