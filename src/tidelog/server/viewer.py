"""A cursor over a run or a thread as SSE, as lines, or as one JSON document, with long-poll (spec §8)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tidelog import events as e
from tidelog import registry
from tidelog.cursor import Cursor
from tidelog.errors import Overloaded, TidelogError
from tidelog.log import Record
from tidelog.seams import BATCH_BYTES
from tidelog.server.expiry import left_of
from tidelog.server.negotiate import Form
from tidelog.server.refusal import STREAM_HEADERS, refusal
from tidelog.server.response import NO_STORE, Edge, nothing_left
from tidelog.server.view import LEFT, Peer, Subject, View

STATE: Final = b'{"type":"run.state"'
"""How the record of a run begins that is in another state from there on."""


class CursorResponse(Response):
    """Everything behind `after`. `wait` (seconds) makes lines and JSON answer once, when there is something."""

    def __init__(self, edge: Edge, subject: Subject, form: Form, *, after: int, wait: float | None) -> None:
        super().__init__()
        self._edge = edge
        self._subject = subject
        self._form = form
        self._after = after
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sse = self._form.framing.media_type.startswith("text/event-stream")
        headers = MutableHeaders(
            {
                "Cache-Control": NO_STORE,
                "Vary": "Accept",
                "Run-State": self._state(ended=self._subject.ended),
                "Access-Control-Expose-Headers": "Run-State, Last-Seq",
            }
        )
        peer = Peer(scope, receive)
        try:
            self._wait = None if self._wait is None else left_of(scope, self._wait)
            with peer.stay:
                self._count(peer, (await self._edge.access.caller(HTTPConnection(scope))).name)
                response = await self._document(peer, scope, headers, sse=sse)
                if response is not None:
                    response.raw_headers.extend(headers.raw)
                    await response(scope, _silent, send)
                else:
                    headers.update(STREAM_HEADERS if sse else {"X-Accel-Buffering": "no"})
                    view = View(self._edge.runner, self._subject, self._form, self._edge.view_settings)
                    await view.serve(scope, send, peer=peer, position=self._after, headers=headers)
        except Overloaded as error:
            await refusal(scope, error)(scope, _silent, send)
        finally:
            await peer.close()

    def _state(self, newest: Sequence[Record] = (), *, ended: bool) -> e.State:
        """What the run does, as its head told when it was looked up, and the newest records since: `ended` only with its end."""
        if ended:
            return "ended"
        for record in reversed(newest):
            if record.data.startswith(STATE) and isinstance(told := e.decode(record.data), e.RunState):
                return told.state
        head = self._subject.head
        return head.state if head is not None and head.state != "ended" else "running"

    def _watched(self, cursor: Cursor) -> AbstractContextManager[None]:
        head = self._subject.head
        return self._edge.runner.watch(head, cursor, self._after) if head is not None else nullcontext()

    def _count(self, peer: Peer, principal: str | None) -> None:
        """One viewer more, if this is one: who asks for what there is now stays for nothing."""
        if self._form.kind != "json" or self._wait:
            peer.stay.enter(self._edge.runner.admission.viewer(principal))

    async def _document(self, peer: Peer, scope: Scope, headers: MutableHeaders, *, sse: bool) -> Response | None:
        """The answer where it is one document, a problem for a run that is dropped meanwhile; None where it is a stream."""
        try:
            if self._form.kind == "json" or (self._wait is not None and not sse):
                return await self._once(peer, headers)
            if self._subject.ended and await nothing_left(self._edge.runner, self._subject.id, self._after, self._form):
                return Response(status_code=204 if sse else 200)
        except TidelogError as error:
            return refusal(scope, error)
        return None

    async def _once(self, peer: Peer, headers: MutableHeaders) -> Response:
        """What there is behind `after`, or the first thing that comes within `wait`; a server that goes waits for nothing."""
        cursor = Cursor(self._edge.runner.store, self._subject.log, self._after, batch=BATCH_BYTES)
        peer.when_gone(cursor.wake)
        draining = self._edge.runner.draining
        draining.add(cursor.wake)
        try:
            with self._watched(cursor):
                records = await cursor.next(0 if draining.rung else self._wait or 0)
        finally:
            draining.discard(cursor.wake)
            peer.when_gone(None)
            cursor.close()
        if peer.left:
            return Response(status_code=LEFT.status_code)
        kind = registry.dialect("native") if self._form.kind == "json" else self._form.dialect
        dialect = kind(self._subject.id)
        frames = [frame.data for record in records for frame in dialect.encode(record) if frame.data is not None]
        headers["Run-State"] = self._state(() if cursor.more else records, ended=cursor.ended)
        headers["Last-Seq"] = str(cursor.position)
        if self._form.kind == "json":
            body, media = b"[" + b",".join(frames) + b"]", "application/json"
        else:
            framing = self._form.framing(0)
            body, media = b"".join(frame + b"\n" for frame in frames), framing.media_type
        return Response(body, media_type=media)


async def _silent() -> dict[str, str]:
    return {"type": "http.disconnect"}
