"""The head of a run's log: what must be known of a run without reading its records."""

from __future__ import annotations

import time
from math import inf
from typing import Any

import msgspec

from tidelog.events import Error, Mode, Outcome, QuestionAsked, RunEnded, State, TokenUsage
from tidelog.limits import Limits


class StoredRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The request that started a run, so that it can be dispatched again. Headers are never kept.

    `body` is the JSON text of the body, or None where there was none.
    """

    method: str
    path: str
    query: str = ""
    body: str | None = None


class Producer(msgspec.Struct, frozen=True):
    """The outside producer whose posts are the run's source, and the limits that the run was given: they go with it wherever
    it lives.
    """

    id: str
    limits: Limits


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker is to do for a run.

    `name` and `args` (JSON) are those of a declared function; no name: whoever takes the run writes it. `until`: Unix time until
    which somebody must have taken it.
    """

    name: str | None
    args: Any
    patience: float
    """Seconds for which it may wait for somebody to take it, each time anew."""
    until: float
    restart: bool = False
    """Whether it is begun again where its worker died."""
    restarts: int = 0
    """How often it was."""
    replaced: bool = False
    """Whether a new run is to take this one's place, which ends then: its worker died when it had said something. The log is
    parked meanwhile, so that whoever was to begin that run may die over it.
    """


class Head(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Written when the run starts and when it ends. Times are Unix time in seconds."""

    run: str
    thread: str
    message: str
    created: float
    principal: str | None = None
    route: str | None = None
    """The path whose endpoint started it, without `root_path`; None for `tide.start`."""
    request: StoredRequest | None = None
    cancel_after: float | None = None
    """Seconds after the last viewer left at which the run is stopped; None: it goes on."""
    lockstep: bool = False
    """Whether its source waits for its viewers."""
    of: str | None = None
    mode: Mode | None = None
    said: str | None = None
    """What the user said in the thread, which this run answers. It lives and goes with the run."""
    trace: str | None = None
    """Where its span is, as W3C's `traceparent`, if it is traced."""
    producer: Producer | None = None
    """Who posts the run's events; None for a run whose source is in the process that owns it, and goes with it."""
    work: Work | None = None
    """What a worker is to do; None for a run that lives where it was started."""
    state: State = "running"
    asked: int = 0
    """The last record of its control log that had been obeyed when its state changed."""
    position: int | None = None
    """Its place in the queue, from 1 on, as it was last told; None where it does not wait."""
    questions: tuple[QuestionAsked, ...] = ()
    """Those that are open."""
    resume: str | None = None
    """The name of the function that goes on with the run once it was parked; None: it cannot be parked."""
    keeps: Any = None
    """What that function is to be given (JSON): the `state` of the open question. None: nobody could go on behind that one."""
    ended: float | None = None
    outcome: Outcome | None = None
    error: Error | None = None
    usage: TokenUsage | None = None
    can: tuple[str, ...] = ()

    @property
    def for_a_worker(self) -> bool:
        """Whether it waits for a worker to take it: nobody has begun."""
        return self.work is not None and self.state == "queued"

    @property
    def parkable(self) -> bool:
        """Whether it can wait with nobody at work: for a worker, or for its answer, where it is known who goes on with what."""
        known = self.resume is not None and self.keeps is not None
        return self.for_a_worker or (known and self.state == "waiting" and len(self.questions) == 1)

    @property
    def replaced(self) -> bool:
        """Whether a new run is to take its place: see `Work.replaced`."""
        return self.work is not None and self.work.replaced

    @property
    def due(self) -> float:
        """When somebody must look at the parked run: its first question expires, or nobody has taken it. Unix time."""
        if self.work is not None and self.for_a_worker:
            return self.work.until
        return min((one.expires for one in self.questions if one.expires is not None), default=inf)

    @property
    def counts_viewers(self) -> bool:
        """Whether its owner must hear who watches in other processes."""
        return self.lockstep or self.cancel_after is not None


def ending(head: Head, outcome: Outcome, error: Error | None, usage: TokenUsage) -> RunEnded:
    """The last event of this head's run, which ends like this. What cannot be sent again can be neither retried nor continued."""
    verbs = ("retry",) if outcome == "completed" else ("retry", "continue")
    can = verbs if head.request is not None else ()
    return RunEnded(outcome=outcome, error=error, usage=usage, can=can)


def ended_head(head: Head, event: RunEnded) -> Head:
    """The head of a run that ended with this event."""
    return msgspec.structs.replace(
        head,
        state="ended",
        position=None,
        questions=(),
        keeps=None,
        ended=time.time(),
        outcome=event.outcome,
        error=event.error,
        usage=event.usage,
        can=event.can,
    )


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Head] = msgspec.json.Decoder(Head)


def encode(head: Head) -> bytes:
    """The head as JSON."""
    return _encoder.encode(head)


def decode(data: bytes) -> Head:
    """The head that `encode` wrote."""
    return _decoder.decode(data)
