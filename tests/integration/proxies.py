"""Two proxies as they stand in front of people's servers: one drops `Upgrade`, one buffers bodies. One request a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["drops upgrade", "buffers"]


@contextmanager
def proxy(url: str, kind: Kind) -> Iterator[str]:
    """The address of such a proxy before the server at `url`."""
    target = urlsplit(url)
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, (target.hostname, target.port), kind), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, target: tuple[str, int], kind: Kind) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_pass, args=(client, target, kind), daemon=True).start()


def _pass(client: socket.socket, target: tuple[str, int], kind: Kind) -> None:
    with suppress(OSError), client, socket.create_connection(target) as server:
        server.sendall(_request(client))
        kept = b""
        while data := server.recv(65536):
            if kind == "buffers":
                kept += data
            else:
                client.sendall(data)
        client.sendall(kept)


def _request(client: socket.socket) -> bytes:
    """The request, without the headers that are between two neighbours only."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in (b"connection", b"upgrade")]
    size = sum(int(line.partition(b":")[2]) for line in lines if line.lower().startswith(b"content-length:"))
    while len(body) < size:
        body += client.recv(65536)
    return b"\r\n".join([*kept, b"Connection: close", b"", body])
