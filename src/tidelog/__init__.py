"""tidelog: durable, resumable streams. Every piece of work is a log of typed events; every client is a cursor over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidelog.endings import Ending
    from tidelog.errors import SourceError, TidelogError
    from tidelog.events import (
        Data,
        Event,
        Finish,
        Progress,
        ReasoningDelta,
        ReasoningEnded,
        Source,
        Sources,
        TextDelta,
        TextEnded,
        ToolEnded,
        ToolInput,
        ToolInputDelta,
        ToolStarted,
        Usage,
    )
    from tidelog.limits import Limits
    from tidelog.questions import Answer
    from tidelog.run import Run
    from tidelog.server.app import Tidelog, current_run
    from tidelog.server.options import cancel_after
    from tidelog.server.status import problem

__version__ = "0.1.0"

_PLACES = {
    "tidelog.endings": ("Ending",),
    "tidelog.errors": ("SourceError", "TidelogError"),
    "tidelog.events": (
        "Data", "Event", "Finish", "Progress", "ReasoningDelta", "ReasoningEnded", "Source", "Sources", "TextDelta", "TextEnded",
        "ToolEnded", "ToolInput", "ToolInputDelta", "ToolStarted", "Usage",
    ),
    "tidelog.limits": ("Limits",),
    "tidelog.questions": ("Answer",),
    "tidelog.run": ("Run",),
    "tidelog.server.app": ("Tidelog", "current_run"),
    "tidelog.server.options": ("cancel_after",),
    "tidelog.server.status": ("problem",),
}  # fmt: skip

__all__ = [
    "Answer",
    "Data",
    "Ending",
    "Event",
    "Finish",
    "Limits",
    "Progress",
    "ReasoningDelta",
    "ReasoningEnded",
    "Run",
    "Source",
    "SourceError",
    "Sources",
    "TextDelta",
    "TextEnded",
    "TidelogError",
    "Tidelog",
    "ToolEnded",
    "ToolInput",
    "ToolInputDelta",
    "ToolStarted",
    "Usage",
    "cancel_after",
    "current_run",
    "problem",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: `tidelog tail` needs no web framework."""
    from importlib import import_module

    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(place), name)
    raise AttributeError(f"module 'tidelog' has no attribute {name!r}")
