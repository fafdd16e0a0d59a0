"""A real Redis of the tests' own, on a loopback port: it can be stopped, killed, started again, and made to forget."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.certificates import Certificates

MISSING = "redis-server is missing. Debian: apt-get install redis-server"
BINARIES = (os.environ.get("REDIS_SERVER", ""), "redis-server", "valkey-server")
ON_DISK = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
"""Options for a server that loses nothing when it is killed."""
PATIENCE = 20.0


class RedisServer:
    """A running server. Its port stays the same. With `tls` it speaks nothing else, and to nobody without a certificate."""

    def __init__(self, command: Sequence[str], port: int, folder: Path, *, tls: Certificates | None = None) -> None:
        self.port = port
        self.tls = tls
        self.bus = 0
        """Of a node of a cluster: the port at which the others hear it."""
        self._folder = folder
        ports = ("--port", str(port)) if tls is None else ("--port", "0", "--tls-port", str(port), *tls.options)
        self._command = [*command, *ports, "--dir", str(folder)]
        self._process = self._started()

    @property
    def url(self) -> str:
        """What a store is opened with."""
        if self.tls is not None:
            return f"rediss://127.0.0.1:{self.port}/0?{self.tls.query}"
        return f"redis://127.0.0.1:{self.port}/0"

    def pause(self) -> None:
        """It answers nobody, and takes what it is sent."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Undo `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        """Start it again where it was killed."""
        self._process = self._started()

    def written(self) -> int:
        """How long the file of what was written is, for `forget`: of a server that was started with ON_DISK."""
        return self._file().stat().st_size

    def forget(self, behind: int) -> None:
        """Of a killed server: forget all that was written when the file was already this long."""
        os.truncate(self._file(), behind)

    def _file(self) -> Path:
        (found,) = (self._folder / "appendonlydir").glob("*.incr.aof")
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.poll() is None:
            try:
                with self._connected() as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return process
            except OSError:
                pass
            time.sleep(0.02)
        process.kill()
        process.wait()
        raise RuntimeError("redis-server did not start")

    def _connected(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), 1)
        return plain if self.tls is None else self.tls.context.wrap_socket(plain, server_hostname="localhost")


@contextmanager
def redis_server(*options: str, tls: Certificates | None = None) -> Iterator[RedisServer]:
    """The server, killed and its folder removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        command = (binary(), "--bind", "127.0.0.1", "--save", "", *options)
        server = RedisServer(command, free_port(), Path(folder), tls=tls)
        try:
            yield server
        finally:
            server.kill()


def wait_for(check: Callable[[], bool], what: str) -> None:
    """Until it is true."""
    until = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < until, f"waited in vain: {what}"
        time.sleep(0.02)


def binary() -> str:
    """The program; where there is none the test is skipped, or fails in CI."""
    found = next(filter(None, map(shutil.which, filter(None, BINARIES))), None)
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    return str(found)


def free_port() -> int:
    """A port that nobody listens at, and that the system gives to nobody who connects: a server may be started there again."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", 10_000 + secrets.randbelow(22_000)))
            return int(probe.getsockname()[1])
