"""What an endpoint declares of its runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypedDict, get_args

from tidelog.attempts import ATTEMPTS
from tidelog.elsewhere import WORKER_TIMEOUT
from tidelog.endings import OnEnd
from tidelog.errors import InvalidRequest
from tidelog.limits import Limits
from tidelog.questions import PARK_AFTER

Default = Literal["sse", "text", "json", "auto", "async"]
OnLeave = Literal["continue"]
On = Literal["here", "worker"]
OnInterrupt = Literal["end", "restart"]

STATUS_HOLD: Final = 5.0
AUTO_HOLD: Final = 1.0
MAX_BODY_BYTES: Final = 1024 * 1024
MOST_ATTEMPTS: Final = 10


class CancelAfter(NamedTuple):
    """Stop the run this many seconds after its last viewer has left."""

    seconds: float


def cancel_after(seconds: float) -> CancelAfter:
    """For `on_leave=`: stop the run `seconds` after its last viewer, in whatever process, has left. 0 stops it at once.

    Whoever watches in another process counts once that is stored, a moment after its first bytes. So with several processes 0
    may stop a run that just gets a viewer elsewhere.
    """
    if seconds < 0:
        raise ValueError("cancel_after needs a time of 0 seconds or more.")
    return CancelAfter(seconds)


class Options(NamedTuple):
    """Times in seconds, sizes in bytes."""

    default: Default = "sse"
    """The form of an answer to a request that names none."""
    dialect: str = "native"
    on_leave: CancelAfter | OnLeave = "continue"
    limits: Limits = Limits()
    status_hold: float = STATUS_HOLD
    auto_hold: float = AUTO_HOLD
    max_body_bytes: int = MAX_BODY_BYTES
    error_marker: str | None = None
    """What ends a plain-text body that a failure cut; None: the body is aborted."""
    attempts: int = ATTEMPTS
    """How often the source is tried, as long as it fails before its first event with what a provider may get over."""
    concurrent: bool = False
    """A run may join a thread in which another one is at work; else that is refused (`thread_busy`)."""
    max_runs: int | None = None
    """How many runs of this endpoint may live in the process, beside the limits of the `Tidelog`; more wait in the queue."""
    on_end: OnEnd | None = None
    """Called once with the `Ending` of each run, when that is stored, in the process that owns the run.

    An async function is awaited, any other is called in a thread; what it raises is logged. A process that goes waits for it,
    up to 2 s. It is not called by a process that dies, nor for a run that another process had to end for this one: such
    endings reach the `on_end` of the `Tidelog` that ends them, which is called for all of its runs. Of a run that was parked
    the one counts that was declared with its `resume`: by `tide.stream`, or by `@tide.resumes(on_end=)`.
    """
    resume: Callable[..., Any] | None = None
    """Goes on with a run that was parked while it waited for an answer: `resume(state, answer)` makes a source, as any generator.

    `state` is what `tide.ask(..., state=)` kept, `answer` has `value`, `outcome`, `by` and `question`. It must be declared when
    the application is imported: `tide.stream(resume=)` does that, `@tide.resumes` for all others. Not with `cancel_after` or
    `lockstep`.
    """
    park_after: float = PARK_AFTER
    """Seconds for which a question is waited for with the source open, before a run with `resume` is parked."""
    on: On = "here"
    """Where the source is opened: in this process, or by a worker of the job queue (`Tidelog(worker=)`), which owns the run."""
    on_interrupt: OnInterrupt = "end"
    """What becomes of a run whose worker dies: it ends, or is begun again by another one, up to 3 times. It is the same run as
    long as nothing but progress was said; else it ends as `interrupted`, and a new run in its thread takes its place.
    """
    worker_timeout: float = WORKER_TIMEOUT
    """Seconds for which a run may wait for a worker; then it ends as `failed` (`overloaded`)."""


class RunArgs(TypedDict, total=False):
    """`Options`, and the limits of a run beside them, as keyword arguments: all but `on`."""

    default: Default
    dialect: str
    on_leave: CancelAfter | OnLeave
    status_hold: float
    auto_hold: float
    max_body_bytes: int
    error_marker: str | None
    attempts: int
    concurrent: bool
    max_runs: int | None
    on_end: OnEnd | None
    resume: Callable[..., Any] | None
    park_after: float
    on_interrupt: OnInterrupt
    worker_timeout: float
    first_event_timeout: float
    gap_timeout: float
    total_timeout: float
    pause_limit: float
    close_timeout: float
    max_event_bytes: int
    max_run_bytes: int
    max_run_records: int
    lockstep: int | None


class OptionArgs(RunArgs, total=False):
    """Those of `tide.stream` and `tide.response`."""

    on: On


def make_options(limits: Limits, args: OptionArgs) -> Options:
    """Options from keyword arguments over the given limits. Raises `TypeError` for an unknown name, `ValueError` otherwise."""
    if not args:
        return Options(limits=limits)  # as most do, with each request: there is nothing to check
    given: dict[str, Any] = dict(args)
    own = {name: given.pop(name) for name in Limits._fields if name in given}
    unknown = sorted(set(given) - set(Options._fields))
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; there are {', '.join((*Options._fields, *Limits._fields))}."
        )
    options = Options(**given, limits=limits._replace(**own))
    if options.default not in get_args(Default):
        raise ValueError(f"default={options.default!r} is none of {', '.join(get_args(Default))}.")
    if options.on_leave != "continue" and not isinstance(options.on_leave, CancelAfter):
        raise ValueError(f'on_leave={options.on_leave!r} is neither "continue" nor cancel_after(seconds).')
    if options.resume is not None and (options.on_leave != "continue" or options.limits.lockstep is not None):
        raise ValueError(
            "resume= parks a run, and then nobody counts its viewers: not with cancel_after() or lockstep=."
        )
    for name, kind in (("on", On), ("on_interrupt", OnInterrupt)):
        if getattr(options, name) not in get_args(kind):
            raise ValueError(f"{name}={getattr(options, name)!r} is none of {', '.join(get_args(kind))}.")
    if options.on == "here" and (options.on_interrupt, options.worker_timeout) != ("end", WORKER_TIMEOUT):
        raise ValueError('on_interrupt= and worker_timeout= are for on="worker".')
    if options.on == "worker" and options.limits.lockstep is not None:
        raise ValueError('lockstep= waits for viewers beside the source: not with on="worker".')
    if not options.worker_timeout > 0:
        raise ValueError(f"worker_timeout={options.worker_timeout!r} is no time.")
    if not options.park_after >= 0:
        raise ValueError(f"park_after={options.park_after!r} is no time of 0 seconds or more.")
    if not 1 <= options.attempts <= MOST_ATTEMPTS:
        raise ValueError(f"attempts={options.attempts!r} is no number from 1 to {MOST_ATTEMPTS}.")
    if options.max_runs is not None and options.max_runs < 1:
        raise ValueError(f"max_runs={options.max_runs!r} is less than 1.")
    return options


def check_repeatable(work: Any, options: Options) -> None:
    """Raise `InvalidRequest` for more than one attempt of work that can be opened but once."""
    if options.attempts > 1 and (not callable(work) or inspect.isgenerator(work) or inspect.isasyncgen(work)):
        raise InvalidRequest(
            f"attempts={options.attempts} needs a function that makes the generator: {type(work).__name__} cannot be begun again."
        )
