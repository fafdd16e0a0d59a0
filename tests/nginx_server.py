"""A real nginx of the tests' own on a loopback port, with the file of deploy/ in front of processes at these ports."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.redis_server import free_port

MISSING = "nginx is missing. Debian: apt-get install nginx-light"
CONFIG = Path(__file__).parents[1] / "deploy" / "nginx.conf"
PATIENCE = 20.0


def binary() -> str:
    """nginx; a test without it is skipped, and fails in CI."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
    return found


def placed(folder: Path, port: int, changes: Mapping[str, str]) -> str:
    """The configuration of deploy/, moved to this port and folder, with these changes. Each must find its place."""
    text = CONFIG.read_text(encoding="utf-8")
    moves = {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        "access_log /dev/stdout": f"access_log {folder}/access.log",
        "worker_processes auto;": "worker_processes 1;",
        "worker_rlimit_nofile 65536;\n": "",
        "worker_connections 32768;": "worker_connections 4096;",
    }
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    for old, new in {**moves, "http {\n": f"http {{ {temporary}\n", **changes}.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def in_turn(ports: Sequence[int]) -> dict[str, str]:
    """The change that makes nginx give each request to the next of these ports."""
    servers = "".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
    return {
        "set $tidelog web:8000;": "set $tidelog tidelog;",
        "    server {\n": f"    upstream tidelog {{ {servers} }}\n    server {{\n",
    }


@contextmanager
def nginx(changes: Mapping[str, str]) -> Iterator[str]:
    """Its address. It is killed at the end."""
    command, port = binary(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # its worker may be another user
        (folder / "nginx.conf").write_text(placed(folder, port, changes), encoding="utf-8")
        told = folder / "errors"
        with told.open("wb") as errors:
            line = [command, "-p", name, "-c", f"{name}/nginx.conf", "-g", "daemon off;"]
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            _wait_until_it_listens(process, port, told)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, told: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nginx did not start: {told.read_text(encoding='utf-8')}")
