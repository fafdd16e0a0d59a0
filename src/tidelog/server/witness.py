"""Sees each run of this process start and end, and tells what came of it: to the metrics and to the log.

Nothing here is called for an event: what is known of a run is looked up where it stands, at its end or when somebody asks.
The first event is heard by a place at the log's bell, which is left at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol

from tidelog.bell import Bell
from tidelog.events import Outcome, TokenUsage
from tidelog.head import Head
from tidelog.log import run_log
from tidelog.run import Run
from tidelog.runner import Runner
from tidelog.seams import Peeking, Window
from tidelog.server.links import Links
from tidelog.server.templates import Templates

GAPS: Final = 128
"""The last events of a run between which the largest gap is looked for."""


class Started(NamedTuple):
    """A run that was started. `route` is a template; `stored`: seconds until its first record was stored, if that was here."""

    head: Head
    route: str
    stored: float | None


class Ended(NamedTuple):
    """A run that has ended, its ending stored. Times in seconds."""

    head: Head
    route: str
    outcome: Outcome
    code: str | None
    records: int
    bytes: int
    """Of its events, as they are stored."""
    seconds: float
    first_event: float | None
    """From its start until its first event was stored; None where there was none."""
    largest_gap: float | None
    """Between two of its last GAPS events; None where that is not known."""
    stored: float | None
    """From its ending to the answer of the store; None where the store had failed."""
    usage: TokenUsage


class Listener(Protocol):
    """Who wants to be told. Called on the loop; must not wait."""

    def started(self, fact: Started) -> None:
        """A run was started."""
        ...

    def first_event(self, route: str, seconds: float) -> None:
        """A run of this route has its first event, so long after its start."""
        ...

    def ended(self, fact: Ended) -> None:
        """A run has ended."""
        ...

    def parked(self, head: Head) -> None:
        """A run has left this process without an end: it is parked, or its producer goes on elsewhere."""
        ...

    def again(self, head: Head, route: str) -> None:
        """A run that was begun elsewhere, or was parked, goes on in this process."""
        ...


class Edge(Protocol):
    """What is needed of a Tidelog."""

    runner: Runner
    links: Links


class Witness:
    """Of the runs of one Tidelog. `live` holds those that have not ended."""

    def __init__(self, edge: Edge, listeners: Sequence[Listener]) -> None:
        self.live: dict[str, Seen] = {}
        self._runner = edge.runner
        self._templates = Templates(edge.links)
        self._listeners = tuple(listeners)
        store = edge.runner.store
        self._window = store.window if isinstance(store, Peeking) else _no_window
        edge.runner.observers.append(self)

    def started(self, run: Run) -> None:
        """Implements `runner.Observer`."""
        bell = self._runner.store.changed(run_log(run.id))
        seen = self.live[run.id] = Seen(run, self._templates.of(run.head.route), bell, self._first_event)
        stored = max(0.0, time.time() - run.head.created) if run.head.work is None else None
        fact = Started(run.head, seen.route, stored)
        for listener in self._listeners:
            listener.started(fact)

    def ended(self, run: Run) -> None:
        """Implements `runner.Observer`."""
        seen = self.live.pop(run.id, None)
        if seen is None:
            return
        seen.leave()
        fact = seen.ended(self._window(run_log(run.id)))
        for listener in self._listeners:
            listener.ended(fact)

    def parked(self, run: Run) -> None:
        """Implements `runner.Observer`."""
        if (seen := self.live.pop(run.id, None)) is not None:
            seen.leave()
            for listener in self._listeners:
                listener.parked(run.head)

    def again(self, run: Run) -> None:
        """Implements `runner.Observer`. It has started, and said its first, long ago."""
        seen = self.live[run.id] = Seen(run, self._templates.of(run.head.route), Bell(), self._first_event)
        seen.leave()
        for listener in self._listeners:
            listener.again(run.head, seen.route)

    def _first_event(self, route: str, seconds: float) -> None:
        for listener in self._listeners:
            listener.first_event(route, seconds)


class Seen:
    """A live run, and what its own objects know of it."""

    __slots__ = ("_bell", "_first_event", "_tell", "route", "run")

    def __init__(self, run: Run, route: str, bell: Bell, tell: Callable[[str, float], None]) -> None:
        self.run = run
        self.route = route
        self._first_event: float | None = None
        self._tell = tell
        self._bell: Bell | None = bell
        bell.add(self._rung)

    @property
    def state(self) -> str:
        """`queued`; `started`: there is no event yet; `running`, `paused` …; `ending`: decided, and not stored yet."""
        if self.run.outcome is not None:
            return "ending"
        if self.run.head.state != "running":
            return self.run.head.state
        return "running" if self._spoke else "started"

    @property
    def _spoke(self) -> bool:
        """Whether there is an event of the source. `run.ended`, and the end of an earlier text before it, are none."""
        closing = 0 if self.run.outcome is None else 1 + bool(self.run.partial)
        return self.run.last > self.run.writer.silent_until + closing

    @property
    def bytes(self) -> int:
        """Of its events so far."""
        return self.run.writer.bytes

    @property
    def pending_bytes(self) -> int:
        """Bytes of events that wait for the append in flight."""
        return self.run.writer.pending_bytes

    @property
    def silence(self) -> float:
        """Seconds since its last event, or since it was created where there is none yet. An announced attempt is none.

        A run that is paused or queued, or waits for an answer, is not silent: nobody expects anything of it.
        """
        if self.run.paused or self.state == "queued" or self.run.head.questions:
            return 0.0
        return max(0.0, self.run.writer.age() if self._spoke else time.time() - self.run.head.created)

    def lags(self) -> Iterable[int]:
        """For each viewer that holds a cursor here: how many events it is behind."""
        last = self.run.last
        for viewer in self.run.viewers:
            position = getattr(viewer, "position", None)
            if position is not None:  # an endpoint's answer stands beside the view that it becomes, and has none
                yield max(0, last - position)

    def leave(self) -> None:
        """Hear the bell no more."""
        if self._bell is not None:
            self._bell.discard(self._rung)
            self._bell = None

    def ended(self, window: Window | None) -> Ended:
        """What is known now that it has ended; `window` is what is left of its log in memory."""
        run, writer = self.run, self.run.writer
        return Ended(
            head=run.head, route=self.route, outcome=run.outcome or "failed",
            code=run.error.code if run.error is not None else None, records=run.last, bytes=writer.bytes,
            seconds=max(0.0, writer.at - run.head.created), first_event=self._first_event,
            largest_gap=_largest_gap(window), stored=None if run.writer.lost is not None else max(0.0, writer.age()),
            usage=run.writer.usage,
        )  # fmt: skip

    def _rung(self) -> None:
        """Something was stored."""
        if self._spoke:
            self.leave()
            self._first_event = max(0.0, time.time() - self.run.head.created)
            self._tell(self.route, self._first_event)


def _no_window(_: str) -> Window | None:
    return None


def _largest_gap(window: Window | None) -> float | None:
    if window is None:
        return None
    times = [record.at for record in window.records[-GAPS:] if record.seq > 1]
    return max((later - sooner for sooner, later in pairwise(times)), default=None)
