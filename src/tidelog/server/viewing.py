"""One viewer from its first byte to its last: within its request, and where the server lets it, behind that.

An open request is dear: the frames of every layer of the application, its scope, the server's parser. A viewer that waits needs
nothing of it where its bytes go straight to the socket, so there it gives the request back and goes on in a task of its own.
Elsewhere it has a task of its own, too, and the request waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Literal

from opentelemetry.trace import Span
from starlette.types import Send

from tidelog.errors import Gone
from tidelog.frame import PLAIN
from tidelog.server.stay import Stay
from tidelog.server.tracing import current
from tidelog.transports.deliver import FAREWELL_TIMEOUT, How
from tidelog.transports.direct import DirectDelivery


class Body:
    """The body of an answer, through the layers of the application: only a task can write it. Implements `direct.Direct`.

    What is `put` waits for the task, which is told by `rouse`, and goes out in front of whatever it writes next.
    """

    __slots__ = ("_put", "_rouse", "_send", "open")

    by_task = True
    envelope = PLAIN

    def __init__(self, send: Send, rouse: Callable[[], None]) -> None:
        self._send = send
        self._rouse = rouse
        self._put = b""
        self.open = True

    def put(self, data: bytes) -> None:
        """See `Direct`."""
        self._put, self.open = data, False
        self._rouse()

    def clear(self, sent: int) -> bool:
        """See `Direct`. It is the same way."""
        return True

    def ready(self, sent: int) -> bool:
        """See `Direct`."""
        return self.open

    async def room(self) -> None:
        """Write what was put."""
        put, self._put = self._put, b""
        await self._send({"type": "http.response.body", "body": put, "more_body": True})
        self.open = True

    async def write(self, data: bytes) -> None:
        """Send a part."""
        self._put, self.open = self._put + data, False
        await self.room()

    async def end(self, data: bytes) -> None:
        """Send the last part."""
        self.open = False
        await self._send({"type": "http.response.body", "body": self._put + data, "more_body": False})


class Viewing:
    """A delivery with all that its viewer holds: `stay` until it has gone, `watched` until it is served.

    `connection` is what the server lends of it, None where it lends nothing. `plain`: it is bare text, which has no words for a
    cut; `error_marker` stands for one then. `whole`: the request has to last as long as the stream.
    """

    __slots__ = (
        "_body", "_connection", "_delivery", "_error_marker", "_plain", "_request", "_send_timeout", "_span", "_stay", "_watched",
    )  # fmt: skip

    def __init__(
        self, delivery: DirectDelivery, body: Any, connection: Any, *, stay: Stay, watched: Stay, span: Span,
        send_timeout: float, plain: bool, error_marker: str | None, whole: bool,
    ) -> None:  # fmt: skip
        self._delivery = delivery
        self._body = body
        self._connection = connection
        self._request: Any = None if whole else connection
        """The connection for as long as the viewer may still give its request back."""
        self._stay = stay
        self._watched = watched
        self._span = span
        self._send_timeout = send_timeout
        self._plain = plain
        self._error_marker = error_marker

    async def serve(self) -> None:
        """Until the end, or until one side goes; or until another task goes on with it."""
        how: How | Literal["dropped"] = "dropped"
        with self._stay:
            try:
                with self._watched, current(self._span):
                    while (how := await self._delivery.run(resting=self._request is not None)) == "resting":
                        if self._outlive():
                            return
                    self._span.set_attribute("tidelog.how", how)
            except Gone:
                how = "dropped"
            await self._farewell(how)

    def _outlive(self) -> bool:
        """Go on without the request; False where it is still needed. It is over for its layers once `serve` returns."""
        connection, self._request = self._request, None
        detached = connection.detach(self._delivery.leave)
        if detached is None:
            return False
        self._body = self._connection = detached
        self._delivery.move(detached, detached.write)
        self._stay, self._watched = self._stay.moved(), self._watched.moved()
        detached.run(self, Context())
        return True

    def give_back(self) -> None:
        """Hold nothing any more: at its end `serve` has seen to that, but not where its task was cancelled before it began."""
        self._delivery.close()
        with self._stay, self._watched:
            pass

    async def _farewell(self, how: How | Literal["dropped"]) -> None:
        if how == "left":
            return
        if how == "stalled":
            self._abort()
            return
        cut = self._delivery.broken or (how != "ended" and self._plain)
        try:
            async with asyncio.timeout(FAREWELL_TIMEOUT if how == "sent_away" else self._send_timeout):
                await self._end(cut)
        except TimeoutError:
            self._abort()

    async def _end(self, cut: bool) -> None:
        """End the body, so that it looks complete only if it is. Bare text has no other way to say that it was cut."""
        marker = b""
        if cut:
            if self._error_marker is not None:
                marker = self._error_marker.encode()
            elif self._connection is None:
                if not self._body.open:
                    await self._body.room()
                return  # the server cuts what is not complete
            else:
                self._connection.break_off()
        await self._body.end(marker)

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()
