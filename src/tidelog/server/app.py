"""`Tidelog`: the log store, the runs of this process and the routes over them, for one application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, TypeVar, Unpack, overload

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tidelog import memory, registry, threads
from tidelog.admission import (
    MAX_RUNS,
    MAX_RUNS_PER_PRINCIPAL,
    MAX_VIEWERS,
    MAX_VIEWERS_PER_PRINCIPAL,
    QUEUE,
    QUEUE_TIMEOUT,
    Bounds,
)
from tidelog.auth import Authorize, Identify
from tidelog.endings import OnEnd
from tidelog.errors import InvalidRequest, Refused
from tidelog.head import Work
from tidelog.keeper import LEASE_PATIENCE, RETENTION, Keeper
from tidelog.launch import Launch
from tidelog.limits import Limits
from tidelog.memory import Marks
from tidelog.progress import TASK
from tidelog.run import Run, current
from tidelog.runner import Runner
from tidelog.server.access import Access
from tidelog.server.asks import AskArgs, ask, ask_blocking
from tidelog.server.beside import Beside
from tidelog.server.checks import check_app
from tidelog.server.decorator import endpoint
from tidelog.server.foreign import Foreign
from tidelog.server.links import Links
from tidelog.server.metrics import Metrics
from tidelog.server.openapi import extend
from tidelog.server.options import CancelAfter, On, OptionArgs, Options, RunArgs, make_options
from tidelog.server.response import TideResponse
from tidelog.server.router import Router
from tidelog.server.routes import Routes
from tidelog.server.said import Said
from tidelog.server.status import CHALLENGE
from tidelog.server.stop import on_signal
from tidelog.server.tracing import Tracing
from tidelog.server.view import ViewSettings
from tidelog.server.working import Sent, Working
from tidelog.sources.iterators import THREADS, Iterators, emit_from_thread
from tidelog.transports.deliver import HEARTBEAT, SEND_TIMEOUT

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from tidelog.server.export import ExportArgs
    from tidelog.sources.graphs import Graph

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE: Final = "sqlite:///tidelog.db"
DRAIN_TIMEOUT: Final = 10.0


class Tidelog(Foreign, Working):
    """Durable, resumable streams for one application.

    `store` is a URL: `memory:` or `sqlite:///file.db`; without it `TIDELOG_STORE` counts. `principal` tells who asks; every run
    belongs to the principal that started it. Once it is given, a request of nobody's is 401, unless `anonymous=True` lets nobody
    start runs that are nobody's. `authorize` tells what a principal may do with which run, their own included; without it
    everything with their own, and nothing else. See `tidelog.auth`. `origins` may start and steer runs from other sites, beside
    those that the app's CORS settings allow. `retention` (seconds, None: for ever) counts from the end of a run. Other times are
    in seconds; limits of runs are those of `tidelog.Limits`. `on_end` hears of the ending of every run of this process, and of
    those that it ends for processes that died. Runs and views are traced by `tracer_provider`, or by OpenTelemetry's global
    provider where the application has set one. `worker` is a job queue for runs with `on="worker"`: a taskiq broker, or a
    Celery application.

    `max_runs` and `max_viewers` bound what this process has at once, and what one principal has of that; each process counts its
    own. Runs over their limit wait in a queue of `queue` for `queue_timeout`, with their log open. `memory_marks` are two numbers
    of bytes, or shares: above the first no runs are taken, above the second the heaviest end as `overloaded`.
    """

    def __init__(
        self,
        store: str | None = None,
        *,
        principal: Identify | None = None,
        authorize: Authorize | None = None,
        anonymous: bool = False,
        origins: Collection[str] = (),
        limits: Limits = Limits(),
        retention: float | None = RETENTION,
        worker: Any = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        heartbeat: float = HEARTBEAT,
        send_timeout: float = SEND_TIMEOUT,
        lease_patience: float = LEASE_PATIENCE,
        threads: int = THREADS,
        on_end: OnEnd | None = None,
        tracer_provider: TracerProvider | None = None,
        max_runs: int | None = MAX_RUNS,
        max_runs_per_principal: int | None = MAX_RUNS_PER_PRINCIPAL,
        max_viewers: int | None = MAX_VIEWERS,
        max_viewers_per_principal: int | None = MAX_VIEWERS_PER_PRINCIPAL,
        queue: int = QUEUE,
        queue_timeout: float = QUEUE_TIMEOUT,
        memory_marks: Marks | Literal["container"] = "container",
    ) -> None:
        self.store_url = store or os.environ.get("TIDELOG_STORE") or DEFAULT_STORE
        opened = registry.store(self.store_url)
        keeper = Keeper(opened, lease_patience=lease_patience, retention=retention)
        bounds = Bounds(
            max_runs, max_runs_per_principal, max_viewers, max_viewers_per_principal, queue, queue_timeout
        ).check()
        self.runner = Runner(opened, keeper=keeper, on_end=on_end, bounds=bounds, memory=memory.watch(memory_marks))
        self.links = Links()
        self.origins = frozenset(origins)
        self.access = Access(opened, self.ready, principal=principal, authorize=authorize, anonymous=anonymous)
        tracing = Tracing(self.runner, tracer_provider)
        self.view_settings = ViewSettings(heartbeat, send_timeout, tracing)
        self.limits = limits
        self.drain_timeout = drain_timeout
        self.functions: set[Callable[..., Any]] = set()
        """The functions that `stream` has wrapped: a route must hold the wrapper, never one of these."""
        self.router = Router(lifespan=self._lifespan)
        Routes(self).add_to(self.router)
        self.metrics = Metrics(self, tracing).add_to(self.router)
        self._sources = Iterators(threads)
        self._starting: asyncio.Task[None] | None = None
        Working.__init__(self, worker)

    @overload
    def stream(self, function: Callable[P, Any], /) -> Callable[P, Awaitable[Response]]: ...

    @overload
    def stream(
        self, /, *, message: str | None = None, **options: Unpack[OptionArgs]
    ) -> Callable[[Callable[P, Any]], Callable[P, Awaitable[Response]]]: ...

    def stream(
        self, function: Callable[..., Any] | None = None, /, *, message: str | None = None, **options: Unpack[OptionArgs]
    ) -> Any:  # fmt: skip
        """Make an endpoint of a generator function, async or sync: put it *below* `@app.get` or `@app.post`.

        What the function yields becomes the log of a run, which outlives the request. Options are those of `response`, but
        `message` names the parameter, or the field of one, in which the user's message comes.
        Raises `TypeError` for parameters that belong to the request (`Request`, `UploadFile`, `BackgroundTasks`): see `response`.
        """
        made = make_options(self.limits, options)
        if made.resume is not None and made.on == "here":
            self._declare(made.resume, made)

        def decorate(function: Callable[..., Any]) -> Any:
            self.functions.add(function)
            said = Said(function, message) if message is not None else None
            declared = self._on_worker(function, options) if made.on == "worker" else None

            def respond(work: Callable[[], Any], /, *, body: bytes | None, given: dict[str, Any]) -> TideResponse:
                what = partial(self._work, declared, made, given=given) if declared is not None else None
                return self._respond(
                    work, made, body=body, said=said.of(given) if said is not None else None, what=what
                )

            return endpoint(function, respond)

        return decorate if function is None else decorate(function)

    def response(
        self, work: Any, /, *, request: Request | None = None, thread: str | None = None, message: str | None = None,
        **options: Unpack[OptionArgs],
    ) -> TideResponse:  # fmt: skip
        """The answer of an endpoint: a run over a generator that has not begun, an iterable, or a function that makes one.

        It may stand wherever `StreamingResponse` stood. Pass `request` where the body matters later: for `retry`, `continue` and
        `Idempotency-Key`; the endpoint must have read the body (FastAPI has, if a parameter is declared for it).
        `message` is what the user said; it is kept with the run, in its thread.
        Options: `default` (`sse`, `text`, `json`, `auto`, `async`), `dialect`, `on_leave` (`"continue"` or
        `cancel_after(seconds)`), `status_hold`, `auto_hold`, `max_body_bytes`, `error_marker`, `attempts`, `concurrent`,
        `on_end`, `resume`, `park_after`, and the limits of a run.
        """
        body: bytes | None = getattr(request, "_body", None) if request is not None else None
        what, made = self._elsewhere(work, options)
        return self._respond(work, made, body=body, thread=thread, said=message, what=what)

    @overload
    async def start(
        self, work: Any, /, *, on: Literal["here"] = "here", thread: str | None = None, principal: str | None = None,
        message: str | None = None, **options: Unpack[RunArgs],
    ) -> Run: ...  # fmt: skip

    @overload
    async def start(
        self, work: Any, /, *, on: Literal["worker"], thread: str | None = None, principal: str | None = None,
        message: str | None = None, **options: Unpack[RunArgs],
    ) -> Sent: ...  # fmt: skip

    async def start(
        self, work: Any, /, *, on: On = "here", thread: str | None = None, principal: str | None = None,
        message: str | None = None, **options: Unpack[RunArgs],
    ) -> Run | Sent:  # fmt: skip
        """Start a run outside a request; `work` is as for `response`. Its `id` names it, `await run.wait()` waits for its end.

        Raises `Mismatch` (`thread_busy`) for a thread in which another run is at work, `Overloaded` where there is no room.
        """
        await self.ready()
        what, made = self._elsewhere(work, {**options, "on": on})
        if what is None and made.max_runs is not None:
            raise TypeError("max_runs counts the runs of an endpoint, and tide.start() has none.")
        leave = made.on_leave.seconds if isinstance(made.on_leave, CancelAfter) else None
        launch = Launch(
            self._opener(work, made, what), thread, principal or None, cancel_after=leave, limits=made.limits, said=message,
            concurrent=made.concurrent, attempts=made.attempts, on_end=made.on_end, park_after=made.park_after,
            resume=None if made.resume is None else self.runner.resumes.name(made.resume),
            work=None if what is None else what(),
        )  # fmt: skip
        launched = await self.runner.launch(launch)
        return launched.run or Sent(launched.id, launched.thread, self.runner)

    def writer(
        self, *, run: str | None = None, thread: str | None = None, principal: str | None = None, message: str | None = None,
        **options: Unpack[OptionArgs],
    ) -> Beside:  # fmt: skip
        """A run that a thread of this process writes in a `with` block: arguments are those of `start`.

        `run` is the id of one that was reserved (`reserve`), which the block takes: for jobs of a queue, whose process needs no
        application. Else raises `InvalidRequest` before the application started. What has no access to the store uses
        `tidelog.client.connect`.
        """
        if run is not None:
            return self._writes(run, options)
        if self._starting is None:
            raise InvalidRequest("tide.writer() needs the application to run.")
        start = partial(self.start, thread=thread, principal=principal, message=message, **options)
        return Beside(start, self._starting.get_loop())

    @overload
    def resumes(self, function: F, /) -> F: ...

    @overload
    def resumes(self, /, *, on_end: OnEnd) -> Callable[[F], F]: ...

    def resumes(self, function: Any = None, /, *, on_end: OnEnd | None = None) -> Any:
        """Declare a function that goes on with parked runs, for `resume=` of `response` and `start`; `stream` needs it not.
        Known by its module and name, its runs have the limits of this Tidelog. `on_end` hears of those that end once they were
        parked, wherever that is. `InvalidRequest` where another has its name.
        """
        if function is None:
            return partial(self._resumes, on_end=on_end)
        return self._resumes(function, on_end=on_end)

    async def ask(self, prompt: str, /, **args: Unpack[AskArgs]) -> Any:
        """Ask a person, and wait for the answer, which may come from any process: minutes, days and restarts later.

        `options=["yes", "no"]`: the answer is one of these. `type=`: anything that pydantic knows; the answer is of that type.
        Neither: text. `expires=` seconds from now the answer is `default=`, or the run ends as `timed_out` where there is none.
        `data=` (JSON) is shown beside the prompt.

        With `state=` (JSON, such as `{}`), where the endpoint declares `resume=`, the run is parked after `park_after=` seconds
        or when the process goes: the generator is closed *at this line*, and `resume(state, answer)` goes on once there is an
        answer. Without `state=` the question is waited for here, and does not outlive the process.
        Raises `InvalidRequest` outside a run, `ValueError`, `TooLarge`, pydantic's `ValidationError`.
        """
        return await ask(current_run(), prompt, args)

    def ask_blocking(self, prompt: str, /, **args: Unpack[AskArgs]) -> Any:
        """`ask` for a sync generator, in its thread."""
        return ask_blocking(current_run(), prompt, args)

    def background(self, client: Any, /, **request: Any) -> Any:
        """A background response of OpenAI, as a source: `continue` takes it up again upstream, after a crash too.

        `client` is an `AsyncOpenAI`, `request` what `client.responses.create` takes. One in a run, and no other text behind it.
        """
        from tidelog.sources.background import background

        return background(client, self.runner.store, **request)

    def graph(
        self, graph: Any, /, *, name: str = "graph", question: Callable[[Any], Mapping[str, Any]] | None = None, **streamed: Any
    ) -> Graph:  # fmt: skip
        """A LangGraph graph with a checkpointer, whose interrupts are questions of its run: `tide.stream(resume=made.resume)`.

        `made.run(input, config)` is the source, `made.resume` goes on with a parked run. `graph` may be a function that gives it;
        `name` tells several apart; `question(value)` says what is asked for an interrupt; the rest is `graph.astream`'s.
        """
        from tidelog.sources.graphs import Graph

        made = Graph(graph, name=name, question=question, **streamed)
        self._declare(made.resume, make_options(self.limits, {}))
        return made

    def export(self, make: Callable[[], Any], /, **options: Unpack[ExportArgs]) -> Response:
        """Text as a download: small as one document, large as a run under lockstep. See `tidelog.server.export.export`."""
        from tidelog.server.export import export

        return export(self, self._sources.opener, make, **options)

    async def history(
        self, thread: str | None = None, /, *, principal: str | None = None, request: Request | None = None,
        chars: int = threads.HISTORY,
    ) -> list[dict[str, str]]:  # fmt: skip
        """What was said in a thread, as models take it: `[{"role": "user", "content": "…"}, …]`, at most `chars` characters.

        Inside a run without a thread: that of the run. It then ends with what the user said in this run, and for `continue`
        with the text so far. The thread is that of `principal`, of who made `request`, or of the current run's.
        Raises `InvalidRequest` where there is neither a thread nor a current run, `ValueError` for `chars` below 1.
        """
        await self.ready()
        run = current.get(None)
        if thread is None:
            thread = current_run().thread
        if request is not None:
            principal = await self.principal_of(request)
        elif principal is None and run is not None:
            principal = run.head.principal
        principal = principal or None
        mine = run is not None and (run.thread, run.head.principal) == (thread, principal)
        now, partial = (run.head, run.partial) if run is not None and mine else (None, "")
        return await threads.history(self.runner.store, thread, principal, chars=chars, now=now, partial=partial)

    def emit(self, value: Any) -> None:
        """Add a value to the current run from nested code, as if its generator had yielded it.

        In a thread it waits until the value is accepted; from a sync generator that is in its turn, behind what was yielded.

        Raises `InvalidRequest` outside a run, `InvalidEvent` for what the grammar forbids.
        """
        run = current_run()
        try:
            here = asyncio.get_running_loop() is run.loop
        except RuntimeError:
            here = False
        if here:
            run.emit(value)
        else:
            emit_from_thread(run, value)

    def progress(self, done: float, total: float | None = None, note: str | None = None, *, task: str = TASK) -> None:
        """Tell from nested code how far the current run has come: `done` of `total` steps (None: unknown).

        Call it at every step: of each task the first and the last report are stored, and between them one every 0.25 s at most.
        It may be called in threads of the run, and waits for nothing. After the end it does nothing.

        Raises `InvalidRequest` outside a run, `InvalidEvent` for what is no finite number and for the run's own task `attempt`.
        """
        current_run().progress(done, total, note, task=task)

    async def aclose(self) -> None:
        """Drain for up to `drain_timeout`, end what still runs as `interrupted`, close the store."""
        if self._starting is not None:
            await self.runner.aclose(self.drain_timeout)
            await self._close_carrier()
        self._sources.close()

    async def principal_of(self, request: Request) -> str | None:
        """Who asks, by the `principal` function or a ticket: for `Depends` in endpoints of your own. None is nobody.

        Raises `HTTPException` (401) for nobody, unless there is no `principal` function or `anonymous=True`.
        """
        try:
            return (await self.access.caller(request)).name
        except Refused as refused:
            raise HTTPException(401, refused.message, {"WWW-Authenticate": CHALLENGE}) from None

    def _respond(
        self, work: Any, options: Options, *, body: bytes | None, thread: str | None = None, said: str | None,
        what: Callable[[], Work] | None,
    ) -> TideResponse:  # fmt: skip
        if options.resume is not None:
            self.runner.resumes.name(options.resume)
        opener = self._opener(work, options, what)
        return TideResponse(self, opener, options, body=body, thread=thread, said=said, work=what)

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        check_app(app, self.functions)
        if hasattr(app, "openapi"):
            extend(app)
        self.links.app = app
        await self.ready()
        with on_signal(self.runner.drain, force_after=self.drain_timeout + 1.0):
            try:
                yield
            finally:
                await self.aclose()


def current_run() -> Run:
    """The run whose generator is being advanced. Raises `InvalidRequest` outside a run."""
    try:
        return current.get()
    except LookupError:
        raise InvalidRequest("there is no current run here") from None
