"""Functions that are found by name: for runs that go on in a process which did not start them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tidelog.attempts import ATTEMPTS
from tidelog.endings import OnEnd
from tidelog.errors import InvalidRequest
from tidelog.limits import Limits
from tidelog.questions import PARK_AFTER
from tidelog.source import Opener


class Declared(NamedTuple):
    """What was declared of a function. `opener`, called with what was kept for the function, opens its source."""

    opener: Callable[..., Opener]
    limits: Limits = Limits()
    attempts: int = ATTEMPTS
    on_end: OnEnd | None = None
    park_after: float = PARK_AFTER
    max_runs: int | None = None
    """How many runs of the function may live in a process."""


class Functions:
    """The functions by name. The name outlives the process: it must be declared when the application is imported."""

    def __init__(self, what: str, how: str) -> None:
        """`what` they are for, and `how` one is declared: for whoever reads the errors."""
        self._what = what
        self._how = how
        self._known: dict[str, tuple[Callable[..., Any], Declared]] = {}

    def declare(self, function: Callable[..., Any], declared: Declared) -> str:
        """Know the function from now on; its name. Declared again, the options given last hold.

        Raises `InvalidRequest` where another function has its name.
        """
        name = name_of(function)
        known = self._known.get(name)
        if known is not None and known[0] != function:
            raise InvalidRequest(
                f"two functions for {self._what} are called {name}: a parked run could not tell them apart."
            )
        self._known[name] = function, declared
        return name

    def name(self, function: Callable[..., Any]) -> str:
        """The name of a function that was declared. Raises `InvalidRequest` for any other."""
        name = name_of(function)
        if name not in self._known or self._known[name][0] != function:
            raise InvalidRequest(
                f"{self._what}: nobody would find {name} in another process. Declare it at import: put {self._how} above it."
            )
        return name

    def get(self, name: str | None) -> Declared | None:
        """What was declared under this name."""
        found = self._known.get(name or "")
        return found[1] if found is not None else None


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in the logs of runs: its module and its place in it."""
    owner = getattr(function, "__self__", None)
    inner = getattr(owner, "name", None) if owner is not None else None
    place = f"{function.__module__}:{function.__qualname__}"
    return f"{place}[{inner}]" if isinstance(inner, str) else place
