"""`tidelog serve`: uvicorn with a listening socket of our own, so that a slow viewer costs little, and a shutdown that ends.

An accepted socket inherits its listener's send buffer: without a limit Linux lets it grow to megabytes for each viewer that is
behind. What the application cannot do from within ASGI, cutting a connection, the protocol offers in the scope's `extensions`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tidelog.server import collector
from tidelog.server.detached import CHUNK, NOWHERE, Detached
from tidelog.server.memory import heap
from tidelog.server.outlet import outlet

SEND_BUFFER: Final = 16 * 1024
"""Bytes of SO_SNDBUF; Linux doubles it for its own book-keeping."""
UNSENT: Final = 16 * 1024
"""Bytes of TCP_NOTSENT_LOWAT: how much may wait unsent in the kernel before the socket counts as full; see `outlet`."""
WRITE_BUFFER: Final = 4 * 1024
"""Bytes that may wait in the process before a delivery waits; what is waited for is one write at most, of a slice, and these."""
BACKLOG: Final = 2048
JUST_COME: Final = 0.25
"""Seconds at shutdown for the first request of a connection that has just come."""
STUCK_TIMEOUT: Final = 3
"""Seconds at shutdown for connections that are no viewers of ours."""


def bind(host: str, port: int) -> socket.socket:
    """A socket with bounded buffers, bound and not yet listening: as long as nobody answers, connections are refused, so that a
    balancer gives them to somebody else. Raises `OSError`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def serve(target: Any, sock: socket.socket, *, log_level: str = "warning") -> None:
    """Serve an application on a socket of `bind`, until SIGTERM or Ctrl-C; return when it has shut down."""
    with contextlib.closing(sock):
        config = uvicorn.Config(
            target, log_level=log_level, access_log=False, http=Protocol, loop="auto", backlog=BACKLOG,
            ws_per_message_deflate=False, timeout_graceful_shutdown=STUCK_TIMEOUT, server_header=False,
        )  # fmt: skip
        config.load()
        config.loaded_app = Outermost(config.loaded_app)
        collector.serving()
        with contextlib.suppress(KeyboardInterrupt):
            Server(config).run(sockets=[sock])


class Server(uvicorn.Server):
    """uvicorn's server, which keeps no memory that nobody uses."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._heap = heap()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. What the application has made meanwhile stays, too."""
        await super().startup(sockets)
        collector.freeze()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 2 == 0:
            self._heap.look()
        return await super().on_tick(counter)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with small write buffers, which tells its connection when they are full."""

    connection: Connection | None = None
    """That of the last request."""
    put: Callable[[bytes], None]
    """Writes a part of a stream."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.put = outlet(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        super().connection_lost(exc)
        if self.connection is not None:
            self.connection.lose()  # uvicorn tells only the newest request, which may wait behind a stream
            self.connection = None

    def shutdown(self) -> None:
        """The server goes: close what is idle; who has just connected is answered first, as nobody tells it to ask again."""
        if self.cycle is None:
            self.loop.call_later(JUST_COME, super().shutdown)
        else:
            super().shutdown()

    def let_go(self) -> None:
        """Somebody else has the transport now: hold nothing that would keep this alive."""
        self.connections.discard(self)
        self.connection = None
        self.parser = None  # type: ignore[assignment]

    def pause_writing(self) -> None:
        """The buffer is full."""
        super().pause_writing()
        if self.connection is not None:
            self.connection.open = False

    def resume_writing(self) -> None:
        """The buffer has room again."""
        super().resume_writing()
        if self.connection is not None:
            self.connection.resume()


class Outermost:
    """The first layer around the application: offers its deliveries the connection itself."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        cycle = getattr(send, "__self__", None)
        if isinstance(cycle, RequestResponseCycle):
            protocol = cycle.transport.get_protocol()
            connection = Connection(cycle, getattr(protocol, "put", cycle.transport.write))
            if isinstance(protocol, Protocol):
                protocol.connection = connection
            scope.setdefault("extensions", {})["tidelog"] = connection
            try:
                await self._app(scope, receive, connection.send)
            finally:
                scope["extensions"].pop("tidelog", None)  # the scope is the cycle's, and the connection holds that
            return
        transport = getattr(cycle, "transport", None)
        if scope["type"] == "websocket" and transport is not None:
            extensions = scope.setdefault("extensions", {})
            extensions["tidelog"] = transport  # it can be cut as well
            try:
                await self._app(scope, receive, send)
            finally:
                extensions.pop("tidelog", None)
            return
        await self._app(scope, receive, send)


class Connection:
    """One request's connection: implements `direct.Direct`, and can be cut.

    A direct write skips every layer of the application, so it is taken only when what the delivery has sent through them has come
    out here, byte for byte as many and under no encoding: nobody holds it back or compresses it.
    """

    __slots__ = (
        "_broken", "_cycle", "_detached", "_encoded", "_gone", "_over", "_passed", "_room", "_transport", "open", "put",
    )  # fmt: skip

    by_task = False
    envelope = CHUNK

    def __init__(self, cycle: RequestResponseCycle, put: Callable[[bytes], None]) -> None:
        self._cycle = cycle
        self.open = not cycle.flow.write_paused and not cycle.disconnected
        self._transport = cycle.transport
        self.put = put
        self._passed = 0
        self._over = False
        self._broken = False
        self._encoded = False
        self._detached = False
        self._room: asyncio.Future[None] | None = None
        self._gone: Callable[[], None] | None = None

    async def send(self, message: Any) -> None:
        """The server's own `send`, counting the body."""
        if self._detached:
            return  # some layers end a body whatever happened below them
        body = message["type"] == "http.response.body"
        if body and not message.get("more_body", False):
            self._over, self.open = True, False  # by whatever layer: nothing may follow the last chunk
        if message["type"] == "http.response.start":
            self._encoded = any(name.lower() == b"content-encoding" for name, _ in message.get("headers", ()))
        if body and self._broken and not message.get("more_body", False):
            self._close()
            return
        await self._cycle.send(message)
        if body:
            self._passed += len(message.get("body", b""))

    def clear(self, sent: int) -> bool:
        """Whether `sent` bytes of a chunked body have come through `send`."""
        if self._passed != sent or not sent or self._encoded:
            return False
        cycle = self._cycle
        return bool(cycle.chunked_encoding) and not cycle.disconnected and not cycle.response_complete

    def ready(self, sent: int) -> bool:
        """Whether they have, and the socket takes more."""
        return self.open and self.clear(sent)

    async def room(self) -> None:
        """Until the socket takes more."""
        while not self.open:
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def resume(self) -> None:
        """The socket takes more again."""
        self.open = not self._over and not self._cycle.disconnected and not self._transport.is_closing()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def tell(self, gone: Callable[[], None] | None) -> bool:
        """Call this when the peer goes, at once if it has; None: nothing any more. False for a request whose body is not there
        yet, as somebody must go on reading: then nothing will be told.
        """
        cycle = self._cycle
        if gone is not None and (cycle.more_body or cycle.flow.read_paused):
            return False
        self._gone = gone
        if gone is not None and cycle.disconnected:
            gone()
        return True

    def lose(self) -> None:
        """The peer has gone."""
        self.open = False
        self._cycle.disconnected = True
        self._cycle.message_event.set()
        if self._gone is not None:
            self._gone()

    def detach(self, gone: Callable[[], None]) -> Detached | None:
        """Take the stream out of its request, which is complete with that; `gone` is called when the peer goes.

        Only where `clear`. None where the request is still needed: its body is not there yet, or something came behind it.
        """
        cycle, protocol = self._cycle, self._transport.get_protocol()
        if not isinstance(protocol, Protocol) or protocol.scope is not cycle.scope or protocol.cycle is not cycle:
            return None
        if cycle.more_body or cycle.flow.read_paused or self._transport.is_closing():
            return None
        self._detached, self.open = True, False
        cycle.response_complete = True
        cycle.message_event.set()
        cycle.transport = NOWHERE
        protocol.let_go()
        return Detached(protocol, self.put, gone, keep_alive=cycle.keep_alive, full=cycle.flow.write_paused)

    def break_off(self) -> None:
        """Let the end of the body, when it comes, be no end: what was sent before arrives, and the client sees that it is cut.

        Some layers end a body whatever happened below them, so it cannot be told by leaving it open, or by raising.
        """
        self._broken = True

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        self._transport.abort()

    def _close(self) -> None:
        self.lose()
        self._transport.close()
