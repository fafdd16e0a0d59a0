"""A viewer's connection: a delivery, the peer that may leave it, and the server that may send it away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from opentelemetry.trace import INVALID_SPAN, Span
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tidelog.bell import Bell
from tidelog.cursor import Cursor
from tidelog.head import Head
from tidelog.log import run_log
from tidelog.paced import Paced
from tidelog.runner import Runner
from tidelog.server.expiry import expiring
from tidelog.server.negotiate import Form
from tidelog.server.stay import Stay
from tidelog.server.tracing import Ending, Tracing
from tidelog.server.viewing import Body, Viewing
from tidelog.transports.deliver import HEARTBEAT, SEND_TIMEOUT, Delivery, Pacing
from tidelog.transports.viewer import Viewer

log = logging.getLogger("tidelog")

VIEWER_BATCH: Final = 16 * 1024
"""Bytes that a viewer reads at once, which it then holds several times over, as records, frames and bytes; until it has written
them: one that takes nothing holds the bytes that did not go out.
"""
RETRY: Final = (1000, 3000)
"""Between these many milliseconds a viewer waits before it comes back: spread, so that they do not come together."""

WHOLE: Final = "tidelog.whole"
"""The key in the ASGI scope of a request that lasts as long as its stream: some layer waits for the end of the body."""


class ViewSettings(NamedTuple):
    """Times in seconds."""

    heartbeat: float = HEARTBEAT
    send_timeout: float = SEND_TIMEOUT
    tracing: Tracing | None = None


def lent(scope: Scope) -> Any:
    """What `tidelog serve` lends of the connection itself: None under any other server."""
    return scope.get("extensions", {}).get("tidelog")


class Peer:
    """The client of a request: tells when it leaves. `stay` is what it holds until then, or until the answer is complete.

    Where the server lends the connection itself, that does it; elsewhere a task asks for it, layer by layer.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.left = False
        self.stay = Stay()
        self._gone: Callable[[], None] | None = None
        connection = lent(scope)
        self._connection = connection if connection is not None and connection.tell(self._leave) else None
        self._task = asyncio.get_running_loop().create_task(self._watch(receive)) if self._connection is None else None

    def when_gone(self, call: Callable[[], None] | None) -> None:
        """Call this when the client leaves, at once if it has; instead of what was set before."""
        self._gone = call
        if self.left and call is not None:
            call()

    async def close(self) -> None:
        """Watch no more."""
        if self._connection is not None:
            self._connection.tell(None)
        task = self._task
        if task is None:
            return
        if not task.done():
            task.cancel()
            await asyncio.sleep(0)  # a turn of the loop, in which it ends: to wait for it costs three times as much
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            log.debug("tidelog: watching a client failed", exc_info=error)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.left = True
        if self._gone is not None:
            self._gone()


class Subject(NamedTuple):
    """What is watched: a log, under the id that cursors name, and the run that it is of; a thread's is of none."""

    log: str
    id: str
    head: Head | None
    ended: bool = False

    @classmethod
    def of(cls, head: Head, *, ended: bool = False) -> Subject:
        """The log of this run."""
        return cls(run_log(head.run), head.run, head, ended)


def cursor_of(runner: Runner, name: str, position: int, pace: float | None) -> Cursor:
    """The cursor of a viewer of this log, at the pace that it asks for."""
    if pace is None:
        return Cursor(runner.store, name, position, batch=VIEWER_BATCH)
    return Paced(runner.store, name, position, pace=pace, batch=VIEWER_BATCH)


class _Sendable:
    """A delivery that is sent away when the server goes."""

    __slots__ = ("_call", "_draining")

    def __init__(self, draining: Bell, call: Callable[[], None]) -> None:
        self._draining = draining
        self._call = call

    def __enter__(self) -> None:
        self._draining.add(self._call)
        if self._draining.rung:
            self._call()

    def __exit__(self, *_: object) -> None:
        self._draining.discard(self._call)


def watch(
    stay: Stay, runner: Runner, subject: Subject, delivery: Delivery, settings: ViewSettings, scope: Scope
) -> Span:  # fmt: skip
    """As long as this stay lasts the delivery is a viewer; gives its span.

    It is sent away when the server goes, and when the credential of `scope` expires.
    """
    head = subject.head
    span: Span = INVALID_SPAN
    live = runner.live(head.run) if head is not None else None
    if live is not None and live.limits.lockstep is not None:
        delivery.moved = partial(live.viewers.moved, delivery)
    stay.enter(_Sendable(runner.draining, delivery.send_away))
    if head is not None:
        stay.enter(runner.watch(head, delivery, delivery.position))
    stay.enter(expiring(scope, partial(delivery.send_away, "reauth")))
    if head is not None and settings.tracing is not None:
        span = settings.tracing.view(head, delivery.position)
        if span.is_recording():
            stay.enter(Ending(span))
    return span


LEFT: Final = Response(status_code=499)
"""The answer that nobody hears: layers around an endpoint take none at all for an error."""


class View:
    """One answer that is a stream."""

    def __init__(self, runner: Runner, subject: Subject, form: Form, settings: ViewSettings) -> None:
        self._runner = runner
        self._subject = subject
        self._form = form
        self._settings = settings

    async def serve(
        self, scope: Scope, send: Send, *, peer: Peer, position: int, headers: Headers, error_marker: str | None = None
    ) -> None:  # fmt: skip
        """Send the status and everything after `position`, until the end, or until one side goes."""
        subject, retry = self._subject, random.randint(*RETRY)
        framing, dialect = self._form.framing(retry), self._form.dialect(subject.id)
        pacing = Pacing(self._form.granularity, self._settings.heartbeat, self._settings.send_timeout, retry)

        cursor = cursor_of(self._runner, subject.log, position, self._form.pace)
        connection, body = lent(scope), Body(send, cursor.rouse)
        delivery = Viewer(
            cursor, dialect, framing, write=body.write, direct=connection or body, pacing=pacing, turn=self._runner.turn
        )
        peer.when_gone(delivery.leave)
        try:
            with Stay() as watched:
                span = watch(watched, self._runner, subject, delivery, self._settings, scope)
                await send(_start(framing.media_type, headers))
                viewing = Viewing(
                    delivery, body, connection, stay=peer.stay, watched=watched, span=span,
                    send_timeout=self._settings.send_timeout, plain=framing.media_type.startswith("text/plain"),
                    error_marker=error_marker, whole=WHOLE in scope,
                )  # fmt: skip
                # A task of its own for whom only a task can write: to wake this one goes through the frames of every layer.
                await (viewing.serve() if connection is not None else asyncio.create_task(viewing.serve()))
        finally:
            peer.when_gone(None)


def _start(media_type: str, headers: Headers) -> dict[str, object]:
    return {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", media_type.encode()), *headers.raw],
    }
