"""Write a run from outside: from a thread, a worker of a task queue, a script, another machine.

    with connect("http://127.0.0.1:8000", run="nightly-7") as run:
        for n, page in enumerate(pages, 1):
            run.text(render(page))
            run.progress(n, len(pages))

Whoever has the run's id watches it as any other run. Each event is stored once, in order, through lost connections and restarts
of the server.
"""

from __future__ import annotations

from tidelog.client.producer import Producer, connect
from tidelog.client.writing import Stopped, Writing

__all__ = ["Producer", "Stopped", "Writing", "connect"]
