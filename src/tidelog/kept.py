"""Things that are costly to make, kept for who needs the same again: most recently used, within a bound of bytes. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEPT_BYTES: Final = 4 * 1024 * 1024
ENTRY_COST: Final = 512
"""About what an entry costs beside the size that is told."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Things by place, `limit` bytes in all; what nobody has asked for longest goes first."""

    __slots__ = ("_kept", "_left")

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._left = limit

    def get(self, place: Hashable) -> T | None:
        """What is kept at this place."""
        found = self._kept.get(place)
        if found is None:
            return None
        self._kept.move_to_end(place)
        return found[0]

    def keep(self, place: Hashable, thing: T, size: int) -> T:
        """Keep this, which has `size` bytes, where nothing is kept; gives it back."""
        if place not in self._kept:
            self._kept[place] = thing, size + ENTRY_COST
            self._left -= size + ENTRY_COST
            while self._left < 0:
                self._left += self._kept.popitem(last=False)[1][1]
        return thing
