"""A connection whose stream has outlived its request: all that `tidelog serve` keeps of a viewer that waits.

The request was complete for the application when the stream was detached. What is left of uvicorn's part is here: the body and
its end, whoever leaves, whoever shuts the server down, and the next request on the connection, for which uvicorn's own protocol
comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidelog.frame import Envelope

CHUNK: Final = Envelope(lambda size: b"%x\r\n" % size, b"\r\n")
"""A chunk of the body."""
LAST: Final = b"0\r\n\r\n"
"""The chunk that ends it."""
AHEAD: Final = 64 * 1024
"""Bytes that a client may send before its stream has ended; then nothing more is read of it meanwhile."""

log = logging.getLogger("uvicorn.error")


class Nowhere(asyncio.Transport):
    """Takes the place of a connection in its request: a layer that fails behind the stream cannot close it any more."""

    def close(self) -> None:
        """Nothing."""


NOWHERE: Final = Nowhere()


class Viewer(Protocol):
    """Whoever is served on such a connection."""

    async def serve(self) -> None:
        """Until the end."""

    def give_back(self) -> None:
        """Hold nothing any more, whether `serve` has ever begun or not."""


class Detached(asyncio.Protocol):
    """One viewer's connection, behind its request: implements `direct.Direct`, and can be cut."""

    __slots__ = (
        "_app_state", "_broken", "_config", "_full", "_gone", "_keep_alive", "_next", "_over", "_room", "_server", "_timer",
        "_viewer", "open", "put", "transport",
    )  # fmt: skip

    by_task = False
    envelope = CHUNK

    def __init__(
        self,
        protocol: HttpToolsProtocol,
        put: Callable[[bytes], None],
        gone: Callable[[], None],
        *,
        keep_alive: bool,
        full: bool = False,
    ) -> None:
        """In the place of `protocol`. `put` writes; `gone` is called when the peer goes; `full`: its buffer is."""
        self.transport = protocol.transport
        self.open = not full
        self.put = put
        self._gone: Callable[[], None] | None = gone
        self._keep_alive = keep_alive
        self._config, self._server, self._app_state = protocol.config, protocol.server_state, protocol.app_state
        self._full = full
        self._room: asyncio.Future[None] | None = None
        """Done when the buffer has room again, where somebody waits for that."""
        self._broken = False
        self._over = False
        """Whether the body has ended."""
        self._next = b""
        """What came meanwhile: the next request, most likely."""
        self._timer: asyncio.TimerHandle | None = None
        self._viewer: Viewer | None = None
        self._server.connections.add(self)  # type: ignore[arg-type]
        self.transport.set_protocol(self)

    def run(self, viewer: Viewer, context: Context) -> None:
        """Serve it in a task of its own, for which the server waits as it does for a request's."""
        self._viewer = viewer
        task = asyncio.get_running_loop().create_task(viewer.serve(), context=context)
        self._server.tasks.add(task)
        task.add_done_callback(self._done, context=context)

    def clear(self, sent: int) -> bool:
        """There is nothing else in between."""
        return True

    def ready(self, sent: int) -> bool:
        """Whether the socket takes more."""
        return self.open

    async def room(self) -> None:
        """Wait until the buffer has room."""
        while not self.open:
            await self._wait()

    async def write(self, data: bytes) -> None:
        """Write a part of the body once there is room; nothing where the peer has gone."""
        if self._full:
            await self._wait()
        if data and self.open:
            self.put(CHUNK.around(data))

    async def end(self, data: bytes) -> None:
        """Write the last part of the body; the connection is free for another request, if it is kept."""
        if self._full:
            await self._wait()
        self._gone = None
        if not self.open:
            return
        self._over, self.open = True, False
        if self._broken:
            self.transport.close()
            return
        self.put(CHUNK.around(data) + LAST if data else LAST)
        self._server.total_requests += 1
        if not self._keep_alive:
            self.transport.close()
        elif self._next:
            self._go_on()
        else:
            self._timer = asyncio.get_running_loop().call_later(self._config.timeout_keep_alive, self.transport.close)

    def break_off(self) -> None:
        """Let the end of the body, when it comes, be no end: what was sent before arrives, and the client sees that it is cut."""
        self._broken = True

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        self.transport.abort()

    def shutdown(self) -> None:
        """The server goes: close once the stream has ended."""
        self._keep_alive = False
        if self._over:
            self.transport.close()

    def pause_writing(self) -> None:
        """The buffer is full."""
        self._full, self.open = True, False

    def resume_writing(self) -> None:
        """The buffer has room again."""
        self._full, self.open = False, not self._over and not self.transport.is_closing()
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the stream has ended."""
        self._next += data
        if self._over:
            self._go_on()
        elif len(self._next) > AHEAD:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        self._server.connections.discard(self)
        self._over, self._next = True, b""
        self.resume_writing()
        self._forget_timer()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone()

    async def _wait(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _go_on(self) -> None:
        """Another request: it is uvicorn's again."""
        self._forget_timer()
        self._server.connections.discard(self)
        protocol: Any = self._config.http_protocol_class
        protocol = protocol(config=self._config, server_state=self._server, app_state=self._app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        if self._full:
            protocol.pause_writing()
        self.transport.resume_reading()
        protocol.data_received(self._next)
        self._next = b""

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        self._gone = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("Exception in ASGI application\n", exc_info=error)
        if not self._over:
            self.transport.close()
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.give_back()
