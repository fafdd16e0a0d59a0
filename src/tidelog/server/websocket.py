"""`WS /runs/{id}/ws`: the records of a run as messages, and verbs in the other direction (spec §13).

Everything that can be refused is refused before the connection is accepted, with the status that HTTP would give it: whoever may
not read a run gets no WebSocket to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from tidelog.asking import PATIENCE
from tidelog.errors import Gone, Refused, TidelogError
from tidelog.head import Head
from tidelog.log import Tail, run_log
from tidelog.server import negotiate as ask
from tidelog.server.access import target_of
from tidelog.server.guard import check_site
from tidelog.server.negotiate import Form
from tidelog.server.response import Edge
from tidelog.server.status import STATUS, problem
from tidelog.server.stay import Stay
from tidelog.server.steering import Steering, Verdict
from tidelog.server.tracing import current
from tidelog.server.view import RETRY, Subject, cursor_of, lent, watch
from tidelog.transports.deliver import FAREWELL_TIMEOUT, How, Pacing
from tidelog.transports.steered import Steered
from tidelog.transports.websocket import framing_of, messages

log = logging.getLogger("tidelog")

Found = Callable[[Request], Awaitable[tuple[Head, Tail, int]]]
"""The run that a request names and where its cursor stands. Raises `TidelogError`."""

OURS: Final = 4000
"""Added to a status of HTTP: the close code of a connection that can no longer be told that status."""
EXTRA: Final = (
    "WebSockets need an extra: pip install 'tidelog[websocket]'. "
    "Server-sent events and long-polls do everything but hold, go and seek."
)
_ENDS: Final[dict[How, Verdict]] = {
    "ended": Verdict(1000, ""),
    "sent_away": Verdict(1012, "the server goes"),
    "idle": Verdict(1008, "the view was held for too long"),
}


class Socket:
    """The endpoint. `find` tells whose run a handshake names, as the other routes do."""

    def __init__(self, edge: Edge, find: Found) -> None:
        self._edge = edge
        self._find = find

    async def serve(self, websocket: WebSocket) -> None:
        """The events of a run, and verbs in the other direction."""
        await websocket.receive()
        with contextlib.ExitStack() as room:
            try:
                # The handshake is a request like any other, and so is asked for by the same rules.
                request = Request({**websocket.scope, "type": "http", "method": "GET"})
                check_site(request.scope, self._edge.origins)
                head, _, after = await self._find(request)
                form = _form(request)
                caller = await self._edge.access.caller(request)
                room.enter_context(self._edge.runner.admission.viewer(caller.name))
            except TidelogError as error:
                await _refuse(websocket, error)
            else:
                await _View(self._edge, websocket, request, head, form, after, caller.name).serve()


def _form(request: Request) -> Form:
    asked = ask.negotiate(request, "sse", "native")
    form = Form("stream", asked.dialect, framing_of(asked.dialect), asked.granularity)
    return form._replace(pace=ask.pace(request, form))


async def _refuse(websocket: WebSocket, error: TidelogError) -> None:
    """With a problem document; a server that cannot send one says 403, as ASGI has it."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(problem(error))
    else:
        await websocket.close(OURS + STATUS.get(error.code, 500), error.code)


class _View:
    """One connection that was not refused."""

    def __init__(
        self, edge: Edge, websocket: WebSocket, request: Request, head: Head, form: Form, position: int,
        by: str | None,
    ) -> None:  # fmt: skip
        settings, retry = edge.view_settings, random.randint(*RETRY)
        self._runner = edge.runner
        self._websocket = websocket
        self._scope = request.scope
        self._head = head
        self._settings = settings
        self._view = Steered(
            cursor_of(edge.runner, run_log(head.run), position, form.pace), form.dialect(head.run), form.framing(retry),
            write=self._write, pacing=Pacing(form.granularity, settings.heartbeat, settings.send_timeout, retry),
            turn=edge.runner.turn,
        )  # fmt: skip
        check = partial(edge.access.check, request, target_of(head))
        self._steering = Steering(edge.runner, head.run, self._view, by=by, check=check, receive=websocket.receive)

    async def serve(self) -> None:
        """Accept, and send everything until the end, or until one side goes."""
        await self._websocket.accept()
        steering = self._steering
        reading = asyncio.get_running_loop().create_task(steering.read())
        try:
            end = await self._deliver()
            reading.cancel()  # some servers close nothing while somebody waits to receive
            await asyncio.wait((reading,))
            if end is not None:
                async with asyncio.timeout(FAREWELL_TIMEOUT if end.code == 1012 else self._settings.send_timeout):
                    await self._close(end)
        except WebSocketDisconnect:
            pass
        except TimeoutError:
            self._abort()
        finally:
            reading.cancel()
            await asyncio.wait((reading,))

    async def _deliver(self) -> Verdict | None:
        """Serve the view; how its connection must be closed, if there is anybody to close it for."""
        how: How | Literal["dropped"]
        try:
            with Stay() as stay:
                span = watch(stay, self._runner, Subject.of(self._head), self._view, self._settings, self._scope)
                with current(span):
                    how = await self._view.run()
                    span.set_attribute("tidelog.how", how)
        except Gone as gone:
            return Verdict(OURS + STATUS[gone.code], gone.code)
        if how == "stalled":
            self._abort()
        if how == "ended":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):  # a verb that ended the run is still to be answered
                    await self._steering.idle.wait()
            return Verdict(1011, "the run failed") if self._view.broken else _ENDS[how]
        if how == "sent_away" and self._view.why == "reauth":
            return Verdict(OURS + STATUS["unauthorized"], self._view.why)
        return _ENDS.get(how, self._steering.verdict)

    async def _write(self, data: bytes) -> None:
        for text in messages(data):
            await self._websocket.send({"type": "websocket.send", "text": text})

    async def _close(self, end: Verdict) -> None:
        for data in self._steering.late:
            await self._write(data)
        await self._websocket.close(end.code, end.reason)

    def _abort(self) -> None:
        """Cut what takes nothing, where the server lets us."""
        connection = lent(self._websocket.scope)
        if connection is not None:
            connection.abort()


def no_socket(request: Request, run: str) -> Response:
    """The answer to a plain GET: something on the way dropped `Upgrade`, or the server has no WebSockets."""
    events = f"{run}/events"
    if request.headers.get("upgrade", "").lower() == "websocket":
        log.warning("tidelog: a WebSocket was asked for, and this server has none. %s", EXTRA)
        return problem(Refused(EXTRA, code="no_websocket"), more={"events": events})
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    sentence = "No Upgrade came with this request: a proxy may have dropped it. The events are at `events`, too."
    return problem(Refused(sentence, code="upgrade_required"), headers=headers, more={"events": events})
