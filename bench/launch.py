"""Starting a server on a free loopback port and ending it, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import build
from bench.machine import Cores, pinned
from bench.roster import Server

START_LIMIT = 20.0  # seconds until it listens
POLL = 0.01
LOG_TAIL = 600  # characters of its stderr shown when it does not
_MADE = {"node": build.node_packages, "nginx": build.nginx}


def environment() -> dict[str, str]:
    """That of this process, but byte code is kept: what is imported is compiled once, as for everybody who installs it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class DidNotStart(Exception):
    """A server ended, did not listen in time, or cannot be installed; the text says what it printed, or why."""


@dataclass(frozen=True)
class Running:
    """A server that listens."""

    server: Server
    pid: int
    port: int
    cores: Cores
    scratch: Path  # its folder
    took: float  # seconds until it listened
    beside: int | None = None  # the process id of what runs beside it


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone at the end."""
    build.BUILD.mkdir(exist_ok=True)
    # Not the system's folder for temporary files, which may be memory: a store must meet a real disk.
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=build.BUILD))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(server: Server, cores: Cores, *, folder: Path | None = None) -> Iterator[Running]:
    """The server on the server's core, killed at the end, with its folder unless that is given. Raises ``DidNotStart``."""
    if folder is None:
        with scratch() as made, running(server, cores, folder=made) as on:
            yield on
        return
    port, beside_port = _free_port(), _free_port()
    names = _Names(port=str(port), scratch=str(folder), bin=str(build.BUILD), beside=str(beside_port))
    started: list[subprocess.Popen[bytes]] = []
    try:
        names["python"] = build.peers_python() if server.peer else sys.executable
        if server.beside:
            started.append(_spawn(server.beside, (), cores.client, names=names, log=folder / "beside"))
            _wait_until_listening(started[0], beside_port, folder / "beside")
        began = time.monotonic()
        started.append(_spawn(server.command, server.env, cores.server, names=names, log=folder / "stderr"))
        _wait_until_listening(started[-1], port, folder / "stderr")
        took = time.monotonic() - began
        yield Running(server, started[-1].pid, port, cores, folder, took, started[0].pid if server.beside else None)
    except build.Missing as missing:
        raise DidNotStart(str(missing)) from None
    finally:
        for process in reversed(started):
            _kill(process)


class _Names(dict[str, str]):
    """What stands in a row's braces; an environment is made when a row first names it."""

    def __missing__(self, name: str) -> str:
        return _MADE[name]()


def _spawn(
    parts: Sequence[str], given: Sequence[tuple[str, str]], core: int, *, names: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    env = environment() | {name: value.format_map(names) for name, value in given}
    command = [part.format_map(names) for part in parts]
    if shutil.which(command[0]) is None:
        raise DidNotStart(f"{command[0]} is missing")
    with pinned(core), log.open("wb") as stderr:
        return subprocess.Popen(
            command, cwd=build.HERE.parent, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=stderr
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(POLL)
    said = log.read_text(errors="replace").strip()
    raise DidNotStart(said[-LOG_TAIL:] or f"it did not listen within {START_LIMIT:.0f} s")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
