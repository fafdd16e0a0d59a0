"""What a viewer holds for as long as it stays, and gives back when it goes: a slot, a place among a run's viewers, a span."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Stay:
    """Gives back what was entered once, the last first: at the end of a `with` block, unless it was moved before.

    `contextlib.ExitStack` does that, too, for 700 bytes; there are thousands of these.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: tuple[AbstractContextManager[Any], ...] = ()

    def enter(self, one: AbstractContextManager[T]) -> T:
        """Enter this, and leave it with the rest."""
        entered = one.__enter__()
        self._held = (one, *self._held)
        return entered

    def moved(self) -> Stay:
        """All of it as another stay, which has to end now; this one holds nothing any more."""
        stay = Stay()
        stay._held, self._held = self._held, ()
        return stay

    def __enter__(self) -> Stay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        held, self._held = self._held, ()
        _leave(held, (kind, error, at))


def _leave(held: tuple[AbstractContextManager[Any], ...], raised: Any) -> None:
    """Also what comes behind one that fails."""
    if held:
        try:
            held[0].__exit__(*raised)
        finally:
            _leave(held[1:], raised)
