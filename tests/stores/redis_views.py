"""What tests of the Redis store do over HTTP: a run in one process, and viewers there and elsewhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.stores.redis_app import make

from tidelog.testing import Server, Viewer, rebuild, serve, transcript

PATIENCE = 20.0


@contextmanager
def two(
    url: str, source: Callable[[], AsyncIterator[Any]], others: Callable[[], AsyncIterator[Any]] | None = None
) -> Iterator[tuple[Server, Server]]:
    """Two that share the store; the first one is asked to run the source, or both of them."""
    with serve(make(url, source)) as one, serve(make(url, others)) as other:
        yield one, other


def watched(one: Server, other: Server) -> tuple[Viewer, Viewer]:
    """A viewer of a new run where it lives, and one elsewhere."""
    mine = one.watch("/run", params={"merge": "0"})
    return mine, other.watch(f"/runs/{mine.run}/events", params={"merge": "0"})


def read_to(viewer: Viewer, text: str) -> None:
    """Read until this text has come."""
    while not rebuild(viewer.frames).endswith(text):
        assert viewer.read(1), f"the body ended before {text!r}"


def comes_to(check: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Until it is true."""
    until = time.monotonic() + patience
    while not check():
        assert time.monotonic() < until
        time.sleep(0.02)


def ending(viewer: Viewer) -> tuple[str, str | None]:
    """How the run ended that it has seen to the end."""
    last = transcript(viewer.frames)[-1]
    return last["outcome"], (last.get("error") or {}).get("code")


def epochs(viewer: Viewer) -> set[str]:
    """The epochs of all that it has seen."""
    return {frame.id.split(".")[1] for frame in viewer.frames if frame.id}


def is_told_of_a_loss(one: Server, other: Server, viewers: tuple[Viewer, Viewer], *, kept: str) -> None:
    """Views end, whoever comes back with a record that is lost hears 410, and the run has ended under a new epoch."""
    run = viewers[0].run
    for viewer in viewers:
        viewer.rest()
        assert viewer.frames[-1].json["type"] == "text.delta", "it ends as if cut"
    comes_to(lambda: one.client.get(f"/runs/{run}").json().get("state") == "ended")
    for server in (one, other):
        found = server.client.get(f"/runs/{run}").json()
        assert (found["epoch"], found["outcome"]) == (2, "failed")
        ahead = server.watch(f"/runs/{run}/events", last_event_id=viewers[1].parser.last_id)
        assert (ahead.status, ahead.json["code"]) == (410, "cursor_ahead")
        assert rebuild(server.watch(f"/runs/{run}/events").rest()) == kept


def are_told_all(viewers: Sequence[Viewer], text: str) -> None:
    """Each of them sees the run complete with this text, and nobody else has owned it."""
    for viewer in viewers:
        viewer.rest()
        assert rebuild(viewer.frames) == text
        assert ending(viewer) == ("completed", None)
        assert epochs(viewer) == {"1"}
