"""A proxy that breaks connections: before the request reaches the server, or after, so that the answer is lost."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from typing import Literal

Fate = Literal["pass", "lose request", "lose answer"]


class Flaky:
    """`with Flaky(url, seed) as proxy:`; `proxy.url` is where to ask. It breaks about one request in three while `broken`."""

    def __init__(self, url: str, seed: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._dice = random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.lost: list[Fate] = []
        self.broken = True
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Flaky:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request at a time: a chunk from the client is one, for these are small."""
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while request := _message(client):
                fate = self._fate()
                if fate != "pass":
                    self.lost.append(fate)
                if fate == "lose request":
                    return
                server.sendall(request)
                answer = _message(server)
                if fate == "lose answer":
                    return
                client.sendall(answer)

    def _fate(self) -> Fate:
        chosen: Fate = self._dice.choice(["pass", "pass", "pass", "pass", "lose request", "lose answer"])
        return chosen if self.broken else "pass"


def _message(sock: socket.socket) -> bytes:
    """One HTTP message with a Content-Length, or none."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        more = sock.recv(65536)
        if not more:
            return b""
        body += more
    return head + b"\r\n\r\n" + body
