"""The answer of an endpoint that starts a run: `return tide.response(answer(...))`.

It negotiates the form, starts the run or finds the one that this request means, waits until the status is known, and becomes a
view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tidelog import events as e
from tidelog.asking import head_of
from tidelog.cursor import check_position
from tidelog.errors import Gone, InvalidRequest, NotFound, TidelogError, TooLarge
from tidelog.head import Head, StoredRequest, Work
from tidelog.launch import Launch, Launched
from tidelog.limits import Limits
from tidelog.log import RUN_ID, Position, Record, run_log
from tidelog.patience import patiently
from tidelog.run import Opener, Run
from tidelog.runner import Runner
from tidelog.seams import Store
from tidelog.server.access import Access, stored_query, target_of
from tidelog.server.asked import Asked
from tidelog.server.guard import check_start
from tidelog.server.handlers import has_own_handler
from tidelog.server.links import Links, route_of
from tidelog.server.negotiate import Form, negotiate, of_query, resume_position
from tidelog.server.options import CancelAfter, Options
from tidelog.server.outset import EarlyFailure, Enough, early_error, has_ended, has_event, has_word, read_until
from tidelog.server.refusal import STREAM_HEADERS, refusal
from tidelog.server.status import json_response, status_of
from tidelog.server.view import LEFT, Peer, Subject, View, ViewSettings
from tidelog.transcript import Fold

EXPOSED: Final = "Location, Run-Id, Thread-Id, Run-State, Last-Seq"
NO_STORE: Final = "private, no-store, no-transform"
REPEAT: Final = "tidelog.repeat"
"""The key in the ASGI scope of a request that is dispatched again."""

NOBODY_WAITS: Final = 1 << 62
"""The position of a viewer that holds no source back."""

P = TypeVar("P")
T = TypeVar("T")


class Repeat(NamedTuple):
    """Why a stored request is dispatched again."""

    head: Head
    mode: e.Mode
    partial: str


class Edge(Protocol):
    """What an answer needs of the Tidelog that makes it."""

    runner: Runner
    links: Links
    origins: frozenset[str]
    access: Access
    limits: Limits
    view_settings: ViewSettings

    async def ready(self) -> None:
        """Start the runner if nobody has."""
        ...

    async def principal_of(self, request: Request) -> str | None:
        """Who asks. What they may do is a question to `access`."""
        ...


class TideResponse(Response):
    """A Starlette response that starts a run. `opener` opens its source, or a worker does what `work` tells; `body` is the
    request's JSON text, if it is known; `said` is what the user said.
    """

    def __init__(
        self, edge: Edge, opener: Opener, options: Options, *,
        body: bytes | None = None, thread: str | None = None, said: str | None = None,
        work: Callable[[], Work] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._edge = edge
        self._opener = opener
        self._options = options
        self._body = body
        self._thread = thread
        self._said = said
        self._work = work
        self.extra_headers: list[tuple[str, str]] = []
        """What dependencies set beside the answer's own headers."""

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """What it answers with is known once it answers."""
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except TidelogError as error:
            if has_own_handler(scope, error):
                raise
            await refusal(scope, error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Asked(scope)
        form = negotiate(request, self._options.default, self._options.dialect)
        if scope["method"] == "HEAD":
            await Response(headers={"Vary": "Accept", "Cache-Control": NO_STORE})(scope, receive, send)
            return
        await self._edge.ready()
        check_start(request, self._edge.origins)
        caller = await self._edge.access.caller(request)
        resumed = resume_position(request)
        peer = Peer(scope, receive)
        try:
            with peer.stay:
                if _stays(scope, form):
                    peer.stay.enter(self._edge.runner.admission.viewer(caller.name))
                if resumed is not None:
                    await self._attach(request, send, peer=peer, form=form, position=resumed)
                else:
                    await self._start(request, send, peer=peer, form=form)
        finally:
            await peer.close()

    async def _attach(self, request: Request, send: Send, *, peer: Peer, form: Form, position: Position) -> None:
        """A client that comes back: it never starts a run."""
        access, scope = self._edge.access, request.scope
        head = await self._read(head_of, position.run)
        await access.check(request, target_of(head), "read", route=False)
        if head.route != route_of(scope):
            raise NotFound  # before the position is looked at: whether it lies ahead is nobody else's business
        await self._read(check_position, position)
        answer = _Answer(self._edge, head, form, self._options, headers=self._start_headers(scope, head))
        await answer.stream(scope, send, peer=peer, position=position.seq)

    async def _start(self, request: Request, send: Send, *, peer: Peer, form: Form) -> None:
        scope = request.scope
        principal = await self._edge.access.start(request)
        repeat: Repeat | None = scope.get(REPEAT)
        launched = await self._edge.runner.launch(self._launch(request, principal, repeat))
        head = launched.run.head if launched.run is not None else await self._read(head_of, launched.id)
        headers = self._start_headers(scope, head)
        if form.kind == "async" or repeat is not None:
            found = {"run": head.run, "thread": head.thread, "of": head.of, "mode": head.mode}
            found["events"] = f"{headers['Location']}/events"
            await _with(headers, json_response(found, 201 if repeat else 202))(scope, _no_receive, send)
            return
        answer = _Answer(self._edge, head, form, self._options, headers=headers)
        await answer.begin(scope, send, peer=peer, launched=launched)

    async def _read(self, look: Callable[[Store, P], Awaitable[T]], where: P) -> T:
        """Look, once the store answers: who waits with a start is not turned away for a moment without it."""
        store = self._edge.runner.store
        return await patiently(store, partial(look, store, where), "the answer to a start")

    def _launch(self, request: Request, principal: str | None, repeat: Repeat | None) -> Launch:
        options, scope = self._options, request.scope
        if self._body is not None and len(self._body) > options.max_body_bytes:
            raise TooLarge(f"The body is over max_body_bytes ({options.max_body_bytes}).")
        if self._said is not None and len(self._said) > options.max_body_bytes:
            raise TooLarge(f"The message is over max_body_bytes ({options.max_body_bytes}).")
        leave = options.on_leave
        stored = self._stored(request)
        launch = Launch(
            self._opener, self._thread_of(request), principal, route_of(scope), stored,
            cancel_after=leave.seconds if isinstance(leave, CancelAfter) else None, limits=options.limits,
            said=self._said, concurrent=options.concurrent, attempts=options.attempts, on_end=options.on_end,
            endpoint=scope.get("endpoint") or route_of(scope), max_runs=options.max_runs,
            resume=None if options.resume is None else self._edge.runner.resumes.name(options.resume),
            park_after=options.park_after, work=self._work() if self._work is not None else None,
        )  # fmt: skip
        if repeat is not None:
            old, again = repeat.head, repeat.mode == "continue"
            return launch._replace(
                thread=old.thread, of=old.run, mode=repeat.mode,
                message=old.message if again else None, partial=repeat.partial if again else "",
            )  # fmt: skip
        key = request.headers.get("idempotency-key")
        if key is None and request.method == "GET":
            key = of_query(request, "key")
        if key is None:
            return launch
        if self._body is None and _has_body(request):
            raise InvalidRequest(
                "Idempotency-Key needs the body: the endpoint must pass request=request to tide.response()."
            )
        return launch._replace(
            key=f"{len(principal or '')}:{principal or ''}{route_of(scope)} {key}", fingerprint=self._print(request)
        )

    def _thread_of(self, request: Request) -> str | None:
        thread = self._thread or request.headers.get("thread-id") or of_query(request, "thread")
        if thread and RUN_ID.fullmatch(thread) is None:
            raise InvalidRequest("A thread id is 1 to 64 of A-Z a-z 0-9 _ -.")
        return thread or None

    def _stored(self, request: Request) -> StoredRequest | None:
        """The request as it can be dispatched again; None where its body is not known or not JSON."""
        body = None
        if _has_body(request):
            if self._body is None or "json" not in request.headers.get("content-type", ""):
                return None
            body = self._body.decode("utf-8", "replace")
        return StoredRequest(request.method, route_of(request.scope), stored_query(request), body)

    def _print(self, request: Request) -> bytes:
        text = f"{request.method} {route_of(request.scope)}?{stored_query(request)}\n".encode()
        return hashlib.sha256(text + (self._body or b"")).digest()

    def _start_headers(self, scope: Scope, head: Head) -> MutableHeaders:
        own = {
            "location": self._edge.links.run(scope, head.run), "run-id": head.run, "thread-id": head.thread,
            "cache-control": NO_STORE, "vary": "Accept", "access-control-expose-headers": EXPOSED,
        }  # fmt: skip
        found = MutableHeaders(own)
        for name, value in self.extra_headers:
            if name.lower() == "vary":
                found.add_vary_header(value)
            elif name.lower() not in own:
                found.append(name, value)
        return found


class _Answer:
    """The answer to a start, once the run is known."""

    def __init__(self, edge: Edge, head: Head, form: Form, options: Options, *, headers: MutableHeaders) -> None:
        self._runner = edge.runner
        self._view = View(edge.runner, Subject.of(head), form, edge.view_settings)
        self._head = head
        self._form = form
        self._options = options
        self._headers = headers

    async def begin(self, scope: Scope, send: Send, *, peer: Peer, launched: Launched) -> None:
        """Wait for what the form needs to know, then answer."""
        form, options = self._form, self._options
        with self._runner.watch(self._head, self, NOBODY_WAITS):
            if form.kind == "json":
                await self._document(scope, send, peer, launched.run)
                return
            if form.kind == "auto" and await self._wait(peer, options.auto_hold, has_ended):
                await self._document(scope, send, peer, launched.run)
                return
            if not form.dialect.in_band:
                shows = not form.framing.media_type.startswith("text/plain")
                await self._wait(peer, options.status_hold, has_word if shows else has_event)
                await self._raise_early_failure(scope, launched.run)
            await self.stream(scope, send, peer=peer, position=0)

    async def stream(self, scope: Scope, send: Send, *, peer: Peer, position: int) -> None:
        """Answer as a stream behind `position`."""
        if peer.left:
            await LEFT(scope, _no_receive, send)
            return
        sse = self._form.framing.media_type.startswith("text/event-stream")
        if position and await self._nothing_left(position):
            self._headers["Run-State"] = "ended"
            await _with(self._headers, Response(status_code=204 if sse else 200))(scope, _no_receive, send)
            return
        self._headers.update(STREAM_HEADERS if sse else {"X-Accel-Buffering": "no"})
        await self._view.serve(
            scope, send, peer=peer, position=position, headers=self._headers, error_marker=self._options.error_marker
        )

    async def _nothing_left(self, position: int) -> bool:
        look = partial(nothing_left, self._runner, self._head.run, position, self._form)
        return await patiently(self._runner.store, look, f"the answer to run {self._head.run}")

    async def _document(self, scope: Scope, send: Send, peer: Peer, run: Run | None) -> None:
        fold = Fold(events=f"{self._headers['Location']}/events")

        def folded(records: Sequence[Record], ended: bool) -> bool:
            fold.take(records)
            return ended

        try:
            await self._wait(peer, None, folded)
        except TooLarge as error:
            await _with(self._headers, refusal(scope, error))(scope, _no_receive, send)
            return
        if peer.left:
            await LEFT(scope, _no_receive, send)
            return
        await self._raise_early_failure(scope, run)
        found = fold.result()
        answer = json_response(found, status_of(found.outcome, found.error))
        await _with(self._headers, answer)(scope, _no_receive, send)

    async def _wait(self, peer: Peer, limit: float | None, enough: Enough) -> bool:
        return await read_until(self._runner.store, self._head.run, enough, peer=peer, limit=limit)

    async def _raise_early_failure(self, scope: Scope, run: Run | None) -> None:
        """A run that failed before its first event has a real status: the app's own handler, or a problem document."""
        error = await early_error(self._runner.store, self._head.run, run)
        if error is None:
            return
        failure = run.failure if run is not None else None
        if failure is not None and has_own_handler(scope, failure):
            raise failure
        raise EarlyFailure(error, failure)


def _stays(scope: Scope, form: Form) -> bool:
    """Whether the client stays to watch: who is told of a run and goes is no viewer."""
    return form.kind != "async" and REPEAT not in scope


def _with(headers: MutableHeaders, response: Response) -> Response:
    """The response with these headers beside its own; cookies may stand there more than once."""
    response.raw_headers.extend(headers.raw)
    return response


async def nothing_left(runner: Runner, run: str, position: int, form: Form) -> bool:
    """Whether the log has ended and this form has no frame for what lies behind `position`."""
    tail = await runner.store.tail(run_log(run))
    if tail is None or not tail.ended:
        return False
    if position >= tail.last:
        return True
    if not form.dialect.stateless or tail.last - position > 256:
        return False
    dialect = form.dialect(run)
    page = await runner.store.read(run_log(run), position)
    return not page.more and not any(frame.data for record in page.records for frame in dialect.encode(record))


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or request.headers.get("transfer-encoding") is not None


async def _no_receive() -> Any:
    raise Gone  # these responses read nothing
