"""A served application, seen from both ends: which requests are under way, what the server has open, one connection by hand."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import h11
from tests.parts import PATIENCE
from tests.server.chat import Chat

from tidelog.server import detached
from tidelog.testing import Gate, Server, serve


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.01)


class Noting:
    """A layer that knows which requests are under way, by path, and how many are over."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.now: list[str] = []
        self.over = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.now.append(scope["path"])
        try:
            await self.app(scope, receive, send)
        finally:
            self.now.remove(scope["path"])
            self.over += 1


class Stage:
    """`chat.app` served, with the layer that notes outermost; and what the server has open."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.noting = Noting(chat.app)
        self.serving = serve(self.noting)
        self.server: Server

    def __enter__(self) -> Stage:
        self.server = self.serving.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.serving.__exit__(*exc_info)

    @property
    def state(self) -> Any:
        return self.serving._uvicorn.server_state

    @property
    def viewers(self) -> int:
        return self.server.call(lambda: len(self.chat.tide.runner.admission.viewers))

    def detached(self, count: int = 1) -> None:
        """Wait until so many viewers have no request any more."""
        until(lambda: self.server.call(lambda: len(self._detached())) == count)

    def rests(self, client: Client) -> None:
        """Let the client watch an answer until it waits for more of it, without its request."""
        client.ask("/chat")
        client.expect("/chat")
        client.until(b'"Hel"')
        self.detached()

    def ahead(self) -> int:
        """Bytes that came behind the requests of those."""
        return self.server.call(lambda: sum(len(one._next) for one in self._detached()))

    def buffered(self) -> int:
        """Bytes that wait in this process for their sockets."""
        return self.server.call(lambda: sum(one.transport.get_write_buffer_size() for one in self._detached()))

    def _detached(self) -> list[detached.Detached]:
        return [one for one in self.state.connections if isinstance(one, detached.Detached)]

    def empty(self) -> None:
        """Wait until nobody is left, and nothing of anybody."""
        until(lambda: self.viewers == 0)
        until(lambda: self.server.call(lambda: len(self.state.connections) + len(self.state.tasks)) == 0)
        draining: Any = self.chat.tide.runner.draining
        assert not self.server.call(lambda: draining._waiting)


class Client:
    """A connection on which several requests are made."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.url.rpartition("/")[2].partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE)
        self.http = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, path: str, accept: str = "text/event-stream") -> None:
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())

    def expect(self, path: str, accept: str = "text/event-stream") -> None:
        """The request is the next that is answered, whenever it was sent."""
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        self.http.send(h11.Request(method="GET", target=path, headers=[("Host", "x"), ("Accept", accept)]))
        self.http.send(h11.EndOfMessage())

    def until(self, wanted: bytes) -> bytes:
        """The body up to these bytes."""
        body = b""
        while wanted not in body:
            event = self._event()
            assert isinstance(event, (h11.Response, h11.Data)), event
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        return body

    def rest(self) -> bytes:
        """The rest of the body, which ends as HTTP ends it."""
        body = b""
        while not isinstance(event := self._event(), h11.EndOfMessage):
            body += bytes(event.data) if isinstance(event, h11.Data) else b""
        return body

    def _event(self) -> Any:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(self.socket.recv(65536))
        return event


def waiting(*steps: Any, **options: Any) -> tuple[Chat, Gate]:
    """A run that says one word, and waits before the next steps."""
    gate = Gate()
    return Chat("Hel", gate, *steps, **options), gate
