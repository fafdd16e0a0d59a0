"""Errors, and who is to blame for each.

    TidelogError
    ├── CallerError            whoever called us: a request, or the application's own code
    │   ├── InvalidRequest     makes no sense (a malformed cursor, an unknown option)
    │   ├── Refused            makes sense and is not allowed (no credentials, cross-site, prefetch)
    │   │   └── Overloaded     not now: a limit of the process is reached, or it is going
    │   ├── NotFound           no such run, or not yours
    │   ├── Mismatch           contradicts what is stored (idempotency, a verb in the wrong state)
    │   │   ├── OutOfTurn      a producer's batch leaves a gap
    │   │   ├── Ended          nothing can be added to a run that has ended
    │   │   └── Decided        answers a question that was decided before
    │   ├── InvalidBatch       an event of a producer's batch is not allowed
    │   ├── CursorAhead        a position that this log has never reached
    │   └── TooLarge           over a named limit
    ├── SourceError            whatever produces the events: a provider, a tool, a limit of time
    │   └── InvalidEvent       the source broke the grammar
    ├── PeerError              the viewer went away or takes nothing
    └── StoreError             the log's keeper
        ├── Conflict           someone else owns the log, or has written since
        ├── Gone               the log was dropped
        └── Unavailable        it cannot be reached or is not ours to open

Every error carries a `code` of spec/PROTOCOL.md §9. Which HTTP status a code means is told in one place, server/status.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

SENTENCES: dict[str, str] = {
    "invalid_request": "The request makes no sense.",
    "invalid_cursor": "The cursor is malformed.",
    "invalid_event": "The application produced an event that is not allowed here.",
    "unauthorized": "Credentials are needed: there are none, or they do not hold.",
    "forbidden": "This is not allowed.",
    "cross_site": "The request comes from another site.",
    "prefetch": "A prefetch does not start a run.",
    "not_found": "There is no such run.",
    "idempotency_mismatch": "This idempotency key was used with another request.",
    "not_ended": "The run has not ended yet.",
    "not_repeatable": "The request of this run cannot be repeated.",
    "already_ended": "The run has ended: nothing can be added.",
    "fenced": "A later epoch of this producer has taken over.",
    "out_of_turn": "The batch leaves a gap: events before it are missing.",
    "run_taken": "The run is not this producer's.",
    "invalid_batch": "An event of the batch is not allowed here.",
    "invalid_answer": "The answer does not fit the question.",
    "already_answered": "Somebody else has answered this question.",
    "question_expired": "The question was not answered in time.",
    "question_closed": "The question is not waited for any longer.",
    "thread_busy": "Another run of this thread is still at work.",
    "expired": "The run was dropped by retention.",
    "cursor_ahead": "The cursor lies beyond what the log holds.",
    "too_large": "A size limit was exceeded.",
    "upgrade_required": "This address speaks WebSocket only.",
    "no_websocket": "This server speaks no WebSocket.",
    "rate_limited": "The provider is busy.",
    "internal": "Something went wrong on the server.",
    "provider_error": "The provider failed.",
    "overloaded": "The server is overloaded.",
    "too_many_runs": "Too many runs are at work; try again later.",
    "too_many_viewers": "Too many viewers are connected; try again later.",
    "store_unavailable": "The store is not available.",
    "interrupted": "The run was interrupted because its server went away.",
    "timed_out": "The run took too long.",
}
"""The public sentence of each code: what the wire shows when the application chose no words of its own."""

RETRYABLE = frozenset(
    {
        "rate_limited", "internal", "provider_error", "overloaded", "too_many_runs", "too_many_viewers",
        "store_unavailable", "interrupted", "timed_out",
    }
)  # fmt: skip


class TidelogError(Exception):
    """Everything that tidelog raises. `code` is stable; `str(error)` is safe to show to a user of the application."""

    default_code: ClassVar[str] = "internal"

    def __init__(
        self, message: str = "", *, code: str | None = None, retry_after: float | None = None, retryable: bool | None = None
    ) -> None:  # fmt: skip
        self.code = code or self.default_code
        self.message = message or SENTENCES.get(self.code, "Something went wrong.")
        self.retry_after = retry_after
        self.retryable = self.code in RETRYABLE if retryable is None else retryable
        """Whether the same request may succeed later; without a word of yours the code decides."""
        super().__init__(self.message)

    @property
    def fields(self) -> Mapping[str, object]:
        """What a problem document tells beside the code and the words."""
        return {}


class CallerError(TidelogError):
    """Whoever called is to blame."""

    default_code = "invalid_request"


class InvalidRequest(CallerError):
    """The request makes no sense."""


class Refused(CallerError):
    """The request makes sense and is not allowed."""

    default_code = "cross_site"


class Overloaded(Refused):
    """There is no room now. `reason` is the name of the limit that is reached, `memory` or `draining`."""

    default_code = "overloaded"

    def __init__(
        self, message: str = "", *, code: str | None = None, reason: str, retry_after: float | None = None
    ) -> None:  # fmt: skip
        super().__init__(message, code=code, retry_after=retry_after)
        self.reason = reason


class NotFound(CallerError):
    """No such run or thread, or not the caller's."""

    default_code = "not_found"


class Mismatch(CallerError):
    """The request contradicts what is stored. `run` names the run that stands in the way, if one does."""

    default_code = "idempotency_mismatch"

    def __init__(self, message: str = "", *, code: str | None = None, run: str | None = None) -> None:
        super().__init__(message, code=code)
        self.run = run

    @property
    def fields(self) -> Mapping[str, object]:
        return {} if self.run is None else {"run": self.run}


class OutOfTurn(Mismatch):
    """A producer's batch does not follow what was taken: `expected` is the number of the event that must come next."""

    default_code = "out_of_turn"

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.expected = expected

    @property
    def fields(self) -> Mapping[str, object]:
        return {"expected": self.expected}


class Ended(Mismatch):
    """The run has ended, with this outcome: nothing can be added."""

    default_code = "already_ended"

    def __init__(self, outcome: str) -> None:
        super().__init__()
        self.outcome = outcome

    @property
    def fields(self) -> Mapping[str, object]:
        return {"state": "ended", "outcome": self.outcome}


class InvalidBatch(CallerError):
    """An event of a producer's batch is not allowed: the one at `index`, from 0. Nothing of the batch was taken."""

    default_code = "invalid_batch"

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index

    @property
    def fields(self) -> Mapping[str, object]:
        return {} if self.index is None else {"index": self.index}


class Decided(Mismatch):
    """The question was decided before, or is not open any more: `answer` tells its `outcome`, `value` and `by`."""

    default_code = "already_answered"

    def __init__(self, message: str = "", *, code: str | None = None, answer: dict[str, Any] | None = None) -> None:
        super().__init__(message, code=code)
        self.answer = answer

    @property
    def fields(self) -> Mapping[str, object]:
        return {"answer": self.answer}


class CursorAhead(CallerError):
    """A position that this log has never reached, or that belongs to records that were lost."""

    default_code = "cursor_ahead"


class TooLarge(CallerError):
    """A body, an event or a run is over its limit."""

    default_code = "too_large"


class SourceError(TidelogError):
    """The source failed. Raise it in a run to choose the code, the words and `retry_after` (seconds) that users see."""

    default_code = "provider_error"


class InvalidEvent(SourceError):
    """The source broke the grammar: a delta for a closed part, an event after the end, something that is no event."""

    default_code = "invalid_event"


class PeerError(TidelogError):
    """The viewer went away, or took nothing for `send_timeout` seconds."""


class StoreError(TidelogError):
    """The store refused or failed."""

    default_code = "store_unavailable"


class Conflict(StoreError):
    """Another writer owns the log, or has appended since. Nothing was written."""


class Gone(StoreError):
    """The log was dropped: `code` is `not_found` after a deletion, `expired` after retention.

    `cursor_ahead`: the store has lost its last records, and whoever reads on may have seen them.
    """

    default_code = "not_found"


class Unavailable(StoreError):
    """The store cannot be reached, or its file is not one that this version may open."""
