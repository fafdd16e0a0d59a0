"""When a source that failed before its first event is tried again, in the same run."""

from __future__ import annotations

import random
from typing import Final

from tidelog import events as e
from tidelog.blame import error_of

ATTEMPTS: Final = 1
"""How often a source is tried."""
RETRY_AFTER_LIMIT: Final = 60.0
"""Seconds: a provider that wants to be left alone for longer is not tried again; the run ends and says when it may be."""
FIRST_WAIT: Final = 0.5
"""Seconds before the second attempt where the provider names no time; then twice as long each time, up to LONGEST_WAIT."""
LONGEST_WAIT: Final = 8.0
TASK: Final = "attempt"
"""The task of the `progress` event that announces an attempt."""

_AGAIN: Final = frozenset({"rate_limited", "overloaded", "provider_error", "timed_out"})
"""What a provider may get over. An error of the application's own would only come again."""


class Attempts:
    """The attempts of one run."""

    def __init__(self, limit: int = ATTEMPTS) -> None:
        self.number = 1
        """The one that is made, or waited for."""
        self.failed: Exception | None = None
        """Why the last one failed, while the next one is waited for."""
        self._limit = limit

    def next(self, error: Exception, *, left: float) -> float | None:
        """Seconds until the next attempt after this error; None where there is none, or not within `left` seconds."""
        wait = wait_before(self.number + 1, error_of(error)) if self.number < self._limit else None
        if wait is None or wait >= left:
            return None
        self.number += 1
        self.failed = error
        return wait

    def announced(self) -> e.Progress:
        """The event that tells of the next attempt, and why there is one."""
        why = error_of(self.failed).message if self.failed is not None else None
        return e.Progress(task=TASK, done=self.number, total=self._limit, note=why)


def wait_before(attempt: int, error: e.Error) -> float | None:
    """Seconds to wait before the attempt of this number (2, 3 …), after this error; None where it would not help."""
    if not error.retryable or error.code not in _AGAIN:
        return None
    spread = random.uniform(0.5, 1.0)  # many runs fail at once: they must not come back at once
    if error.retry_after is not None:
        wanted = max(0.0, error.retry_after)
        return wanted + FIRST_WAIT * (1 - spread) if wanted <= RETRY_AFTER_LIMIT else None
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt - 2, 16)) * spread


def of_the_run(event: e.Event | None) -> bool:
    """Whether the run says this of itself, a state or an attempt that it makes: its source has then said nothing."""
    return isinstance(event, e.RunState) or (isinstance(event, e.Progress) and event.task == TASK)
