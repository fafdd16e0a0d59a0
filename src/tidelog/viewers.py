"""Who watches a run in this process, and how far the slowest has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator


class Viewers:
    """The viewers of a run in this process, and where the slowest stands. Sizes are kept only where `wrote` is called."""

    def __init__(self) -> None:
        self.on_move: Callable[[], None] | None = None
        self.elsewhere = False
        """Whether other processes count viewers. How far those are is not known here."""
        self._positions: dict[object, int] = {}
        self._sizes: deque[tuple[int, int]] | None = None
        self._base = 0

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[object]:
        return iter(tuple(self._positions))

    def add(self, viewer: object, position: int) -> None:
        """A viewer came, which has everything up to `position`."""
        self.moved(viewer, position)

    def remove(self, viewer: object) -> None:
        """A viewer left."""
        self._positions.pop(viewer, None)
        self._tell()

    def moved(self, viewer: object, position: int) -> None:
        """The viewer was sent everything up to `position`."""
        self._positions[viewer] = position
        self._tell()

    def watched_elsewhere(self, watched: bool) -> None:
        """Other processes count viewers now, or no longer."""
        self.elsewhere = watched
        self._tell()

    def wrote(self, seq: int, size: int) -> None:
        """The log has `size` bytes at record `seq`. Where all viewers are elsewhere, it counts as seen."""
        if self._sizes is None:
            self._sizes = deque()  # it takes 700 bytes, and most runs need none
        if self.elsewhere and not self._positions:
            self._sizes.clear()
            self._base = size
        else:
            self._sizes.append((seq, size))

    def seen_bytes(self) -> int:
        """Bytes that the slowest viewer has; with no viewer, as many as there were when the last one left."""
        slowest = min(self._positions.values(), default=0)
        while self._sizes and self._sizes[0][0] <= slowest:
            self._base = self._sizes.popleft()[1]
        return self._base

    def _tell(self) -> None:
        if self.on_move is not None:
            self.on_move()
