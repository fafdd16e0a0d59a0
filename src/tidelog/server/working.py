"""Work elsewhere, as the application declares it: the methods of `Tidelog` for runs that a worker owns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, Unpack

from tidelog import registry
from tidelog.apart import Apart, call
from tidelog.asking import head_of
from tidelog.bell import Waiter
from tidelog.declared import Declared
from tidelog.elsewhere import WORKER_TIMEOUT, nothing_here, work
from tidelog.endings import OnEnd
from tidelog.errors import InvalidRequest, Mismatch
from tidelog.events import Outcome
from tidelog.head import Work
from tidelog.launch import Launch
from tidelog.limits import Limits
from tidelog.log import run_log
from tidelog.questions import Answer
from tidelog.run import Run
from tidelog.runner import Runner
from tidelog.seams import Carrier, Parking
from tidelog.server.arguments import Arguments
from tidelog.server.beside import Beside
from tidelog.server.options import (
    CancelAfter,
    OnInterrupt,
    OnLeave,
    OptionArgs,
    Options,
    check_repeatable,
    make_options,
)
from tidelog.source import Opener
from tidelog.sources.iterators import Iterators

log = logging.getLogger("tidelog")
F = TypeVar("F", bound=Callable[..., Any])

OF_AN_ANSWER: Final = frozenset(
    {"default", "dialect", "status_hold", "auto_hold", "max_body_bytes", "error_marker", "concurrent"}
)
"""The options that are no matter of the worker's."""
LOOK: Final = 0.1
"""Seconds between two looks at least at a run that is waited for: it may have many events."""
LOST: Final = 5.0
"""Seconds after which it is looked at even if nobody rang."""


class Declaration(NamedTuple):
    """What was declared of a function for workers."""

    name: str
    arguments: Arguments
    options: OptionArgs


class Working:
    """What a Tidelog has of work elsewhere: `worker` is the job queue, None where there is none."""

    runner: Runner
    limits: Limits
    _sources: Iterators
    _starting: asyncio.Task[None] | None

    def __init__(self, worker: Any) -> None:
        self._apart = Apart()
        self._declared: dict[Callable[..., Any], Declaration] = {}
        self.carrier: Carrier | None = None
        if worker is not None:
            if not isinstance(self.runner.store, Parking):
                raise InvalidRequest("worker= needs a store that can hold runs which nobody owns.")
            self.carrier = self.runner.elsewhere.carrier = registry.carrier(worker)(worker, self)

    def on_worker(self, **options: Unpack[OptionArgs]) -> Callable[[F], F]:
        """Declare a function for `on="worker"` of `start` and `response`; `stream` needs it not. The function stays as it is.

        Known by its module and name in every process, it is called by a worker; its arguments travel as JSON, by its hints.
        `options` are those of `stream`. Raises `InvalidRequest` where another function has its name, `TypeError` for parameters
        whose values cannot travel.
        """

        def declare(function: F) -> F:
            self._on_worker(function, options)
            return function

        return declare

    async def reserve(
        self, *, thread: str | None = None, principal: str | None = None, message: str | None = None,
        on_leave: CancelAfter | OnLeave = "continue", concurrent: bool = False, on_interrupt: OnInterrupt = "end",
        worker_timeout: float = WORKER_TIMEOUT,
    ) -> Sent:  # fmt: skip
        """A run for a job of your own, in whatever queue: give the job its `id`; `with tide.writer(run=id)` in it takes the run.

        Until then the run is queued. One that is to be begun again (`on_interrupt="restart"`) is queued again; that its job comes
        again is the queue's business. Raises what `start` raises.
        """
        await self.ready()
        given: OptionArgs = {
            "on": "worker",
            "on_leave": on_leave,
            "on_interrupt": on_interrupt,
            "worker_timeout": worker_timeout,
        }
        made = make_options(self.limits, given)
        launch = Launch(
            nothing_here, thread, principal or None, said=message, concurrent=concurrent,
            cancel_after=made.on_leave.seconds if isinstance(made.on_leave, CancelAfter) else None,
            work=work(None, None, restart=on_interrupt == "restart", patience=worker_timeout),
        )  # fmt: skip
        launched = await self.runner.launch(launch)
        return Sent(launched.id, launched.thread, self.runner)

    # What `seams.Jobs` asks for.

    @property
    def apart(self) -> bool:
        return self._apart.begun

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        call(self._loop(), work)

    async def ready(self) -> None:
        """Start the store and the runner, once."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        if not self._starting.done():
            await asyncio.shield(self._starting)
        elif self._starting.exception() is not None:
            failed, self._starting = self._starting, None
            failed.result()

    async def work(self, run: str) -> None:
        await self.ready()
        found = await self.runner.take(run)
        if found is None:
            log.info("run %s: at work already, or over", run)
            return
        try:
            await found.wait()
        except asyncio.CancelledError:
            found.interrupt()
            raise

    async def shut(self) -> None:
        if self._starting is not None:
            await self.runner.aclose()  # the queue has waited for its jobs, as long as it is told to
        self._sources.close()

    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._starting.get_loop() if self._starting is not None else self._apart.loop

    def _writes(self, run: str, options: OptionArgs) -> Beside:
        made = make_options(self.limits, options)

        async def start(source: Any) -> Run:
            await self.ready()
            opener = self._sources.opener(source)
            found = await self.runner.take(run, Declared(lambda _: opener, made.limits, on_end=made.on_end))
            if found is None:
                raise Mismatch("This run is at work already, or over.", code="run_taken")
            return found

        return Beside(start, self._loop())

    async def _start(self) -> None:
        await self.runner.start()
        if self.carrier is not None and not self.carrier.here:
            try:
                await self.carrier.start()
            except Exception as error:
                log.warning("tidelog: the job queue cannot be reached yet: %r", error)

    async def _close_carrier(self) -> None:
        if self.carrier is not None and not self.carrier.here:
            await self.carrier.aclose()

    def _opener(self, work: Any, options: Options, what: Callable[[], Work] | None) -> Opener:
        if what is not None:
            return nothing_here
        check_repeatable(work, options)
        return self._sources.opener(work)

    def _resumes(self, function: F, /, *, on_end: OnEnd | None) -> F:
        self._declare(function, make_options(self.limits, {"on_end": on_end}))
        return function

    def _declare(self, function: Callable[..., Any], options: Options) -> None:
        """Know who goes on with parked runs."""

        def opener(state: Any, answer: Answer) -> Opener:
            return self._sources.opener(partial(function, state, answer))

        resume = Declared(opener, options.limits, options.attempts, options.on_end, options.park_after)
        self.runner.resumes.declare(function, resume)

    def _on_worker(self, function: Callable[..., Any], options: OptionArgs) -> Declaration:
        if self.carrier is None:
            raise InvalidRequest(f'on="worker": this Tidelog has no worker=. {registry.WANTED}')
        options = {**options, "on": "worker"}
        arguments, made = Arguments(function), make_options(self.limits, options)
        if made.resume is not None:
            self._declare(made.resume, made)

        def opener(kept: Any) -> Opener:
            return lambda: self._sources.opener(arguments.call(kept))()

        declared = Declared(opener, made.limits, made.attempts, made.on_end, made.park_after, made.max_runs)
        name = self.runner.elsewhere.functions.declare(function, declared)
        found = self._declared[function] = Declaration(name, arguments, options)
        return found

    def _elsewhere(self, given: Any, options: OptionArgs) -> tuple[Callable[[], Work] | None, Options]:
        """What tells what a worker is to do, None for work that is done here, and the options of the run.

        For a worker: raises `InvalidRequest` for anything but a declared function, `TypeError` for options that stand there.
        """
        if options.get("on", "here") == "here":
            return None, make_options(self.limits, options)
        function, args, more = given, (), {}
        if isinstance(given, partial):
            function, args, more = given.func, given.args, given.keywords
        found = self._declared.get(function) if callable(function) else None
        if found is None:
            raise InvalidRequest(
                'on="worker" needs a function, or a functools.partial of one, that was declared: put @tide.on_worker() above it.'
            )
        wrong = sorted(options.keys() - OF_AN_ANSWER - {"on"})
        if wrong:
            raise TypeError(
                f"{', '.join(wrong)}: options of the work stand at @tide.on_worker(), where a worker finds them."
            )
        made = make_options(self.limits, {**found.options, **options})
        return partial(self._work, found, made, args, more), made

    def _work(self, found: Declaration, made: Options, args: Any = (), given: Any = None) -> Work:
        kept = found.arguments.dump(*args, **(given or {}))
        return work(found.name, kept, restart=made.on_interrupt == "restart", patience=made.worker_timeout)


class Sent:
    """A run that a worker is to do, or does."""

    def __init__(self, id: str, thread: str, runner: Runner) -> None:
        self.id = id
        self.thread = thread
        self._runner = runner

    async def wait(self) -> Outcome:
        """Until it has ended, wherever that is; how. Raises `Gone` for one that was deleted."""
        store, waiter = self._runner.store, Waiter()
        bell = store.changed(run_log(self.id))
        bell.add(waiter.wake)
        try:
            while True:
                waiter.woken = False
                head = await head_of(store, self.id)
                if head.ended is not None:
                    return head.outcome or "failed"
                await waiter.wait(LOST)
                await asyncio.sleep(LOOK)
        finally:
            waiter.close()
            bell.discard(waiter.wake)
