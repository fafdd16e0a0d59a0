"""The routes of runs and threads (spec §8). Every one of them asks `Access` before it looks at anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tidelog import asking, control, threads
from tidelog import head as heads
from tidelog.answering import named
from tidelog.auth import Target
from tidelog.cursor import Cursor, check_position
from tidelog.errors import CursorAhead, Gone, InvalidRequest, NotFound, Refused, TidelogError, TooLarge
from tidelog.events import Mode
from tidelog.head import Head
from tidelog.log import Position, Tail, control_log, run_log, thread_log
from tidelog.questions import ANSWER_BYTES
from tidelog.runner import Runner
from tidelog.seams import Listing, Store
from tidelog.server import negotiate as ask
from tidelog.server.access import target_of, verb_of
from tidelog.server.described import described
from tidelog.server.guard import check_site, is_local
from tidelog.server.producers import Producers
from tidelog.server.refusal import refusal
from tidelog.server.repeat import Redispatch
from tidelog.server.response import Edge
from tidelog.server.status import json_response
from tidelog.server.templates import Templates
from tidelog.server.tickets import asked_run
from tidelog.server.view import Subject
from tidelog.server.viewer import CursorResponse
from tidelog.server.websocket import Socket, no_socket
from tidelog.transcript import Fold, Transcript

LIST_LIMIT: Final = 100
Route = Callable[[Request], Awaitable[Response]]


class Routes:
    """The routes over one Tidelog."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        edge.runner.endpoint_of = Templates(edge.links).endpoint

    @property
    def _runner(self) -> Runner:
        return self._edge.runner

    def add_to(self, router: APIRouter) -> None:
        """Add all routes."""
        producers = Producers(self._edge)
        for method, path, call in (
            ("GET", "/runs", self.runs),
            ("GET", "/runs/{run}", self.run),
            ("PUT", "/runs/{run}", producers.reserve),
            ("DELETE", "/runs/{run}", self.delete_run),
            ("GET", "/runs/{run}/events", self.events),
            ("GET", "/runs/{run}/ws", self.not_a_socket),
            ("POST", "/runs/{run}/events", producers.post),
            ("GET", "/runs/{run}/transcript", self.transcript),
            ("POST", "/runs/{run}/stop", self.stop),
            ("POST", "/runs/{run}/pause", self.pause),
            ("POST", "/runs/{run}/resume", self.resume),
            ("POST", "/runs/{run}/answer", self.answer),
            ("POST", "/runs/{run}/retry", self.retry),
            ("POST", "/runs/{run}/continue", self.continue_),
            ("GET", "/threads/{thread}", self.thread),
            ("DELETE", "/threads/{thread}", self.delete_thread),
            ("GET", "/threads/{thread}/events", self.thread_events),
            ("POST", "/tickets", self.ticket),
            ("GET", "/healthz", self.healthz),
            ("GET", "/readyz", self.readyz),
        ):
            answered = _answered(self._edge, call)
            if call == self.run:
                self._edge.links.endpoint = answered
            name = call.__name__.rstrip("_")
            router.add_api_route(
                path, answered, methods=[method], name=f"tidelog_{name}", tags=["tidelog"],
                summary=(call.__doc__ or "").split(".")[0], response_class=Response, response_model=None, **described(name),
            )  # fmt: skip
        router.add_api_websocket_route("/runs/{run}/ws", Socket(self._edge, self._cursor).serve, name="tidelog_socket")

    async def runs(self, request: Request) -> Response:
        """My runs, newest first."""
        principal = await self._owner(request, "list")
        if principal is None and not is_local(request.scope):
            raise NotFound
        store = self._runner.store
        if not isinstance(store, Listing):
            return json_response({"runs": []})
        limit = _limit(request)
        found = await store.list("run/", principal, limit)
        return json_response({"runs": [_state(heads.decode(tail.head), tail) for _, tail in found]})

    async def run(self, request: Request) -> Response:
        """The state of a run."""
        head, tail = await self._mine(request)
        age = await self._runner.owner_age(tail)
        more: dict[str, Any] = {"owner_age": age, "successor": await self._successor(head.run)}
        return json_response({**_state(head, tail), **more})

    async def delete_run(self, request: Request) -> Response:
        """Delete a run, every byte."""
        check_site(request.scope, self._edge.origins)
        head, _ = await self._mine(request)
        await self._runner.drop(head.run)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """A cursor over the events of a run."""
        head, tail, after = await self._cursor(request)
        form = ask.negotiate(request, "sse", "native")
        form = form._replace(pace=ask.pace(request, form))
        return CursorResponse(self._edge, Subject.of(head, ended=tail.ended), form, after=after, wait=ask.wait(request))

    async def not_a_socket(self, request: Request) -> Response:
        """Over HTTP: where the events are."""
        head, _ = await self._mine(request)
        return no_socket(request, self._edge.links.run(request.scope, head.run))

    async def transcript(self, request: Request) -> Response:
        """The fold of the log so far."""
        head, _ = await self._mine(request)
        return json_response(await self._fold(request, head.run))

    async def stop(self, request: Request) -> Response:
        """Stop a run, wherever it is."""
        return await self._ask(request, partial(asking.stop, wake=self._runner.wake), "stopping")

    async def pause(self, request: Request) -> Response:
        """Pause a run, wherever it is: its source is not pulled until it is resumed."""
        return await self._ask(request, asking.pause, "pausing")

    async def resume(self, request: Request) -> Response:
        """Resume a run that is paused."""
        return await self._ask(request, asking.resume, "resuming")

    async def answer(self, request: Request) -> Response:
        """Answer a question of a run, wherever it is: the first answer counts."""
        check_site(request.scope, self._edge.origins)
        head, _ = await self._mine(request)
        question, value = await _answer_in(request)
        by = (await self._edge.access.caller(request)).name
        result = await self._runner.answer(head.run, question, value, by=by)
        return json_response(result, 202 if result.result == "answering" else 200)

    async def retry(self, request: Request) -> Response:
        """Start again as a new run in the same thread."""
        return await self._again(request, "retry")

    async def continue_(self, request: Request) -> Response:
        """Go on from the text so far as a new run in the same thread."""
        return await self._again(request, "continue")

    async def thread(self, request: Request) -> Response:
        """A thread's messages and runs in order, and the run that is active."""
        name, limit = request.path_params["thread"], _limit(request, threads.MESSAGES)
        found = await self._thread_runs(name, owner := await self._owner(request, "read", name))
        if not found:
            raise NotFound
        active = [head.run for head, _ in found if head.ended is None]
        said = await threads.messages(self._runner.store, name, owner, limit=limit)
        runs = [_state(head, tail) for head, tail in found]
        return json_response({"thread": name, "active": active[-1] if active else None, "messages": said, "runs": runs})

    async def thread_events(self, request: Request) -> Response:
        """A cursor over a thread: each run that joins it, as it comes."""
        name = request.path_params["thread"]
        owner = await self._owner(request, "read", name)
        if not await self._thread_runs(name, owner):
            raise NotFound
        position, log = ask.resume_position(request), thread_log(name, owner)
        after = position.seq if position is not None else ask.after(request)
        tail = await self._runner.store.tail(log)
        if position is not None and position.run != name:
            raise NotFound
        if tail is None or after > tail.last:
            raise CursorAhead
        form = ask.negotiate(request, "sse", "native")
        return CursorResponse(self._edge, Subject(log, name, None), form, after=after, wait=ask.wait(request))

    async def delete_thread(self, request: Request) -> Response:
        """Delete a thread and its runs, every byte."""
        check_site(request.scope, self._edge.origins)
        name = request.path_params["thread"]
        found = await self._thread_runs(name, owner := await self._owner(request, "delete", name))
        if not found:
            raise NotFound
        for head, _ in found:
            await self._runner.drop(head.run)
        await threads.drop(self._runner.store, name, owner)
        return Response(status_code=204)

    async def ticket(self, request: Request) -> Response:
        """A ticket: one use, one minute, to read a run or to start one by GET."""
        check_site(request.scope, self._edge.origins)
        await self._edge.ready()
        access = self._edge.access
        if not access.asks:
            raise NotFound("Nobody is asked who they are here: no ticket is needed.")
        principal = (await access.caller(request)).principal
        if principal is None:
            raise Refused(code="unauthorized")
        run = await asked_run(request)
        if run is not None:
            await self._find(request, run, "read")
        issued = await access.tickets.issue(principal, run)
        return json_response(issued._asdict(), headers={"Cache-Control": "no-store"})

    async def healthz(self, request: Request) -> Response:
        """Whether the process lives."""
        return json_response({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Whether the process takes new runs."""
        await self._edge.ready()
        draining = self._runner.draining.rung
        return json_response({"status": "draining" if draining else "ready"}, 503 if draining else 200)

    async def _again(self, request: Request, mode: Mode) -> Response:
        check_site(request.scope, self._edge.origins)
        head, _ = await self._mine(request)
        partial = (await self._fold(request, head.run)).text if mode == "continue" else ""
        return Redispatch(self._edge.links.app, head, mode, partial)

    async def _ask(self, request: Request, verb: Callable[[Store, str], Awaitable[str]], pending: str) -> Response:
        check_site(request.scope, self._edge.origins)
        head, _ = await self._mine(request)
        result = await verb(self._runner.store, head.run)
        return json_response({"result": result}, 202 if result == pending else 200)

    async def _mine(self, request: Request) -> tuple[Head, Tail]:
        """The run that the path names, if the caller may do with it what the path says."""
        return await self._find(request, request.path_params["run"], verb_of(request.scope))

    async def _find(self, request: Request, run: str, verb: str) -> tuple[Head, Tail]:
        await self._edge.ready()
        await self._edge.access.caller(request)  # nobody hears what is there
        tail = await self._runner.store.tail(run_log(run))
        if tail is None:
            raise NotFound
        head = heads.decode(tail.head)
        await self._edge.access.check(request, target_of(head), verb)
        return head, tail

    async def _cursor(self, request: Request) -> tuple[Head, Tail, int]:
        """The run that the path names, if it is the caller's, and where its cursor stands."""
        head, tail = await self._mine(request)
        position = ask.resume_position(request)
        after = position.seq if position is not None else ask.after(request)
        if position is not None and position.run != head.run:
            raise NotFound
        if after:
            await check_position(
                self._runner.store, position or Position(head.run, await self._epoch_at(head.run, after), after)
            )
        return head, tail, after

    async def _owner(self, request: Request, verb: str, thread: str | None = None) -> str | None:
        """Whose runs or thread are asked for: `?principal=`, else the caller's, if the caller may do this."""
        await self._edge.ready()
        access = self._edge.access
        owner = request.query_params.get("principal") or (await access.caller(request)).name
        await access.check(request, Target(owner, None, thread), verb)
        return owner

    async def _thread_runs(self, thread: str, principal: str | None) -> list[tuple[Head, Tail]]:
        store = self._runner.store
        found: list[tuple[Head, Tail]] = []
        for entry in await threads.entries(store, thread, principal):
            try:
                tail = await store.tail(run_log(entry.run))
            except Gone:
                continue
            if tail is not None:
                found.append((heads.decode(tail.head), tail))
        return found

    async def _fold(self, request: Request, run: str) -> Transcript:
        events = f"{request.url.path.rpartition('/')[0]}/events"
        fold, cursor = Fold(events=events), Cursor(self._runner.store, run_log(run))
        try:
            while records := await cursor.next(0):
                fold.take(records)
                await asyncio.sleep(0)
        finally:
            cursor.close()
        return fold.result()

    async def _successor(self, run: str) -> str | None:
        """The latest run that retries or continues this one."""
        try:
            page = await self._runner.store.read(control_log(run), 0)
        except Gone:
            return None
        asked = (control.decode(record.data) for record in reversed(page.records))
        return next((one.by for one in asked if isinstance(one, control.Succeeded)), None)

    async def _epoch_at(self, run: str, seq: int) -> int:
        page = await self._runner.store.read(run_log(run), seq - 1, 1)
        return page.records[0].epoch if page.records else 1 << 30


def _answered(edge: Edge, call: Route) -> Route:
    async def answered(request: Request) -> Response:
        try:
            return await call(request)
        except TidelogError as error:
            return refusal(request.scope, error)

    answered.__name__ = call.__name__
    answered.__doc__ = call.__doc__
    return answered


def _state(head: Head, tail: Tail) -> dict[str, Any]:
    return {
        "run": head.run,
        "thread": head.thread,
        "state": head.state,
        "position": head.position,
        "last_seq": tail.last,
        "epoch": tail.epoch,
        "outcome": head.outcome,
        "error": head.error,
        "usage": head.usage,
        "can": head.can,
        "questions": head.questions,
        "route": head.route,
        "of": head.of,
        "mode": head.mode,
        "created": head.created,
        "ended": head.ended,
    }


async def _answer_in(request: Request) -> tuple[str, Any]:
    """The question and the value that a request names. Raises `TooLarge`, `InvalidRequest`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > 2 * ANSWER_BYTES:
            raise TooLarge(f"An answer may take {ANSWER_BYTES} bytes.")
    try:
        given = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, RecursionError):
        given = None
    return named(given)


def _limit(request: Request, default: int = LIST_LIMIT) -> int:
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise InvalidRequest("limit must be a number from 1 to 1000.")
    return int(text)
