"""A wire tap between an SDK and its upstream: it tells when the SDK opened a connection and when it let go of it.

    with tap(upstream.url) as line:
        client = openai.AsyncOpenAI(base_url=f"{line.url}/v1", api_key=KEY)
        ...
        line.wait(opened=1)     # a connection came
        line.wait(left=1)       # the client closed one, before its upstream did

`sent` counts the bytes that came from upstream. Waits have a limit and raise `TimeoutError`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

PATIENCE: Final = 20.0
"""Seconds that a wait may take."""


class Tap:
    """What has passed so far."""

    def __init__(self, url: str, upstream: tuple[str, int]) -> None:
        self.url = url
        self.opened = 0
        self.left = 0
        """Connections that the client closed while its upstream held them open."""
        self.sent = 0
        self._upstream = upstream
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []

    def wait(self, *, opened: int = 0, left: int = 0, sent: int = 0) -> None:
        """Until as many connections were opened and left, and as many bytes came. Raises `TimeoutError`."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: self.opened >= opened and self.left >= left and self.sent >= sent, PATIENCE
            ):
                raise TimeoutError(f"opened {self.opened}, left {self.left}, sent {self.sent} bytes")

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._upstream, timeout=PATIENCE)
                far.settimeout(None)
                self._sockets += [near, far]
                self._tell(opened=1)
                over = threading.Event()
                threading.Thread(target=self._up, args=(near, far, over), daemon=True).start()
                threading.Thread(target=self._down, args=(far, near, over), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket, over: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        self._leave(over)
        _close(far)

    def _down(self, far: socket.socket, near: socket.socket, over: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                try:
                    near.sendall(data)
                except OSError:  # a client that reads nothing leaves: which thread sees it first is chance
                    self._leave(over)
                    break
                self._tell(sent=len(data))
        with self._changed:
            over.set()
        _close(near)

    def _leave(self, over: threading.Event) -> None:
        """The client has gone, unless its upstream went before."""
        with self._changed:
            if not over.is_set():
                over.set()
                self._tell(left=1)

    def _tell(self, *, opened: int = 0, left: int = 0, sent: int = 0) -> None:
        with self._changed:
            self.opened, self.left, self.sent = self.opened + opened, self.left + left, self.sent + sent
            self._changed.notify_all()

    def _end(self) -> None:
        for each in self._sockets:
            _close(each)
            each.close()


@contextlib.contextmanager
def tap(upstream: str) -> Iterator[Tap]:
    """A tap in front of this URL (scheme, host and port), until the end of the block."""
    far = urlsplit(upstream)
    assert far.hostname and far.port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Tap(f"http://127.0.0.1:{listener.getsockname()[1]}", (far.hostname, far.port))
        accepting = threading.Thread(target=line._accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield line
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`, which `close` alone does not
            accepting.join(PATIENCE)
            line._end()


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
