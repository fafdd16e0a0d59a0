"""The limits of a run, with their names and defaults (spec §11)."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Times in seconds, sizes in bytes of encoded events."""

    first_event_timeout: float = 120.0
    gap_timeout: float = 120.0
    total_timeout: float = 3600.0
    pause_limit: float = 600.0
    """How long a run may stay paused at a stretch. The other clocks stand still meanwhile."""
    close_timeout: float = 1.0
    """How long a source may take to close before its run is ended without it."""
    max_event_bytes: int = 256 * 1024
    max_run_bytes: int = 64 * 1024 * 1024
    max_run_records: int = 1_000_000
    lockstep: int | None = None
    """The source waits until its slowest viewer in this process is within this many bytes; None: it does not wait."""
