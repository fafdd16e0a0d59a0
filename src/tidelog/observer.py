"""Who hears of the runs of a process."""

from __future__ import annotations

from typing import Protocol

from tidelog.run import Run


class Observer(Protocol):
    """Hears of every run of this process, on the loop. Must not raise, and must be quick."""

    def started(self, run: Run) -> None:
        """The first record of a run is stored, or this worker has taken it; its source is not at work yet."""
        ...

    def ended(self, run: Run) -> None:
        """The ending of a run is stored, or its log is somebody else's."""
        ...

    def parked(self, run: Run) -> None:
        """A run was parked, or is left to another process: it is in no process now, and has not ended."""
        ...

    def again(self, run: Run) -> None:
        """A run that was parked, here or elsewhere, goes on in this process."""
        ...
