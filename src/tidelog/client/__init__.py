"""Write a run from outside: from a thread, a worker of a task queue, a script, another machine.

    with connect("http://127.0.0.1:8000", run="nightly-7") as run:
        for n, page in enumerate(pages, 1):
            run.text(render(page))
            run.progress(n, len(pages))

Whoever has the run's id watches it as any other run. Each event is stored once, in order, through lost connections and restarts
of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidelog.client.writing import Stopped, Writing

if TYPE_CHECKING:
    from tidelog.client.producer import Producer, connect

__all__ = ["Producer", "Stopped", "Writing", "connect"]


def __getattr__(name: str) -> Any:
    """What needs an HTTP client is imported when it is used: a server has none."""
    if name not in ("Producer", "connect"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tidelog.client import producer

    return getattr(producer, name)
