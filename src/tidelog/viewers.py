"""Who watches a run in this process, and how far the slowest has come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Viewers:
    """The viewers of a run in this process, and where the slowest stands. Sizes are kept only where `wrote` is called."""

    def __init__(self) -> None:
        self.on_move: Callable[[], None] | None = None
        self._positions: dict[object, int] = {}
        self._sizes: deque[tuple[int, int]] = deque()
        self._base = 0

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, viewer: object, position: int) -> None:
        """A viewer came, which has everything up to `position`."""
        self.moved(viewer, position)

    def remove(self, viewer: object) -> None:
        """A viewer left."""
        self._positions.pop(viewer, None)
        if self.on_move is not None:
            self.on_move()

    def moved(self, viewer: object, position: int) -> None:
        """The viewer was sent everything up to `position`."""
        self._positions[viewer] = position
        if self.on_move is not None:
            self.on_move()

    def wrote(self, seq: int, size: int) -> None:
        """The log has `size` bytes at record `seq`."""
        self._sizes.append((seq, size))

    def seen_bytes(self) -> int:
        """Bytes that the slowest viewer has; with no viewer, as many as there were when the last one left."""
        slowest = min(self._positions.values(), default=0)
        while self._sizes and self._sizes[0][0] <= slowest:
            self._base = self._sizes.popleft()[1]
        return self._base
