"""What an endpoint declares of its runs."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypedDict

from tidelog.limits import Limits

Default = Literal["sse", "text", "json", "auto"]
OnLeave = Literal["continue"]

STATUS_HOLD: Final = 5.0
AUTO_HOLD: Final = 1.0
MAX_BODY_BYTES: Final = 1024 * 1024


class CancelAfter(NamedTuple):
    """Stop the run this many seconds after its last viewer has left."""

    seconds: float


def cancel_after(seconds: float) -> CancelAfter:
    """For `on_leave=`: stop the run `seconds` after its last viewer, in whatever process, has left. 0 stops it at once."""
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


class OptionArgs(TypedDict, total=False):
    """`Options`, and the limits of a run beside them, as keyword arguments of `tide.stream` and `tide.response`."""

    default: Default
    dialect: str
    on_leave: CancelAfter | OnLeave
    status_hold: float
    auto_hold: float
    max_body_bytes: int
    error_marker: str | None
    first_event_timeout: float
    gap_timeout: float
    total_timeout: float
    close_timeout: float
    max_event_bytes: int
    max_run_bytes: int
    max_run_records: int
    lockstep: int | None


def make_options(limits: Limits, args: OptionArgs) -> Options:
    """Options from keyword arguments over the given limits. Raises `TypeError` for an unknown name, `ValueError` otherwise."""
    given: dict[str, Any] = dict(args)
    own = {name: given.pop(name) for name in Limits._fields if name in given}
    unknown = sorted(set(given) - set(Options._fields))
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(unknown)}; there are {', '.join((*Options._fields, *Limits._fields))}."
        )
    options = Options(**given, limits=limits._replace(**own))
    if options.default not in ("sse", "text", "json", "auto"):
        raise ValueError(f"default={options.default!r} is none of sse, text, json, auto.")
    if options.on_leave != "continue" and not isinstance(options.on_leave, CancelAfter):
        raise ValueError(f'on_leave={options.on_leave!r} is neither "continue" nor cancel_after(seconds).')
    return options
