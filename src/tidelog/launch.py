"""What a new run is to be, and how its log begins."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import NamedTuple

from tidelog import events as e
from tidelog.attempts import ATTEMPTS
from tidelog.endings import OnEnd
from tidelog.head import Head, Producer, StoredRequest, Work
from tidelog.limits import Limits
from tidelog.log import new_id
from tidelog.questions import PARK_AFTER
from tidelog.run import Opener, Run


class Launch(NamedTuple):
    """What a new run is to be."""

    opener: Opener
    thread: str | None = None
    principal: str | None = None
    route: str | None = None
    request: StoredRequest | None = None
    key: str | None = None
    fingerprint: bytes | None = None
    cancel_after: float | None = None
    limits: Limits = Limits()
    of: str | None = None
    mode: e.Mode | None = None
    message: str | None = None
    partial: str = ""
    """The text of the run that this one continues."""
    said: str | None = None
    """What the user said in the thread, which the run answers."""
    concurrent: bool = False
    """It may join a thread in which another run is at work."""
    attempts: int = ATTEMPTS
    resume: str | None = None
    """The name of the function that goes on once the run was parked; None: it is never parked."""
    park_after: float = PARK_AFTER
    on_end: OnEnd | None = None
    trace: str | None = None
    """The place of the run in a trace, as W3C's `traceparent`."""
    endpoint: Hashable = None
    """Whose runs `max_runs` counts."""
    max_runs: int | None = None
    """How many runs of this endpoint may live in the process; None: no limit of its own."""
    id: str | None = None
    """The id that a client chose."""
    producer: str | None = None
    """The outside producer whose posts are the source."""
    work: Work | None = None
    """What a worker is to do, to which the run is handed on. Then the options of the source are those of whoever takes it."""


class Launched(NamedTuple):
    """A run that was started, or found by its idempotency key (`run` is None unless it lives here)."""

    id: str
    thread: str
    run: Run | None
    repeated: bool


def begin(launch: Launch) -> tuple[Head, e.RunStarted]:
    """The head and the first event of a new run."""
    run = launch.id or new_id()
    thread, message = launch.thread or new_id(), launch.message or new_id()
    first = e.RunStarted(
        v=e.PROTOCOL_VERSION, run=run, thread=thread, message=message, attempt=1, of=launch.of, mode=launch.mode
    )
    head = Head(
        run=run, thread=thread, message=message, created=time.time(), principal=launch.principal, route=launch.route,
        request=launch.request, cancel_after=launch.cancel_after, lockstep=launch.limits.lockstep is not None,
        of=launch.of, mode=launch.mode, said=launch.said, trace=launch.trace, resume=launch.resume,
        producer=Producer(launch.producer, launch.limits) if launch.producer is not None else None,
        work=launch.work, state="queued" if launch.work is not None else "running",
    )  # fmt: skip
    return head, first
