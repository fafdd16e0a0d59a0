"""`GET /metrics`: what a Prometheus server asks for, with the extra `tidelog[metrics]`.

Runs are counted at their start and their end; what moves between is looked up when somebody asks. Labels are route templates,
outcomes and codes: never an id, never a principal. Each Tidelog has a registry of its own; `Metrics` is also a collector
that an application may register in its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tidelog.admission import Admission
from tidelog.errors import NotFound
from tidelog.server.guard import is_local
from tidelog.server.logs import RunLines
from tidelog.server.status import json_response, problem
from tidelog.server.tally import Buckets, Tally
from tidelog.server.witness import Edge, Listener, Witness

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

EXTRA: Final = "/metrics needs an extra: pip install 'tidelog[metrics]'."
BEHIND: Final = 256
"""Events from which on a viewer counts as being behind."""

Found = dict[str, dict[tuple[str, ...], Any]]
"""Name to label values to number, or to `Buckets`."""


class Family(NamedTuple):
    """One metric. Times in seconds."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Final = (
    Family("counter", "tidelog_runs_started_total", "Runs that this process started.", ("route",)),
    Family("counter", "tidelog_runs_ended_total", "Runs of this process that ended.", ("route", "outcome", "code")),
    Family("gauge", "tidelog_runs", "Runs that live in this process, by state.", ("state",)),
    Family("counter", "tidelog_refused_total", "Starts and views for which there was no room.", ("reason",)),
    Family("gauge", "tidelog_viewers_admitted", "Connections that count as viewers, of whatever run."),
    Family("histogram", "tidelog_run_seconds", "From start to end, once a run.", ("route",)),
    Family("histogram", "tidelog_first_event_seconds", "From start until the first event was stored.", ("route",)),
    Family("histogram", "tidelog_largest_gap_seconds", "The largest gap between a run's last 128 events, once a run."),
    Family("gauge", "tidelog_longest_silence_seconds", "Since the last event of the live run that is silent longest."),
    Family("counter", "tidelog_events_total", "Events that were written."),
    Family("counter", "tidelog_bytes_total", "Bytes of events that were written."),
    Family("gauge", "tidelog_pending_bytes", "Bytes of events that wait for the append in flight."),
    Family(
        "histogram", "tidelog_store_seconds",
        "Until the store has answered; sampled: the first record (open) and the ending (append) of each run.", ("call",),
    ),
    Family("gauge", "tidelog_viewers", "Open views of runs that live in this process."),
    Family("gauge", "tidelog_viewers_behind", f"Those that are more than {BEHIND} events behind."),
    Family("gauge", "tidelog_viewer_lag_events", "Events by which the slowest is behind."),
    Family("counter", "tidelog_tokens_total", "Tokens by the endings of runs.", ("direction", "source")),
)  # fmt: skip


class Metrics:
    """The metrics of one Tidelog. They answer to this machine only, unless `public` is set."""

    def __init__(self, edge: Edge, *others: Listener) -> None:
        """`others` hear of runs as the metrics and the log do."""
        self.public = False
        """Whether whoever reaches the server may read them."""
        self._tally = Tally()
        self.witness = Witness(edge, (self._tally, RunLines(), *others))
        self._admission = edge.runner.admission
        self._registry: CollectorRegistry | None = None

    def add_to(self, router: APIRouter) -> Self:
        """Add the route, which is no part of the API that OpenAPI describes."""
        router.add_route("/metrics", self._answer, methods=["GET"], name="tidelog_metrics", include_in_schema=False)
        return self

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now, for a registry of prometheus_client."""
        found = {**_counted(self._tally), **_seen(self._tally, self.witness), **_admitted(self._admission)}
        for family in FAMILIES:
            yield _metric(family, found[family.name])

    def describe(self) -> Iterator[Metric]:
        """Their names, for a registry of prometheus_client."""
        return (_metric(family, {}) for family in FAMILIES)

    async def _answer(self, request: Request) -> Response:
        if not self.public and not is_local(request.scope):
            return problem(NotFound("There is nothing here."))
        try:
            from prometheus_client import CollectorRegistry
            from prometheus_client.exposition import choose_encoder
        except ImportError:
            return json_response(
                {"type": "about:blank", "title": "Not Implemented", "status": 501, "detail": EXTRA}, 501
            )
        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"Content-Type": media_type, "Cache-Control": "no-store"})


def _counted(tally: Tally) -> Found:
    return {
        "tidelog_runs_started_total": {(route,): count for route, count in tally.runs_started.items()},
        "tidelog_runs_ended_total": dict(tally.runs_ended),
        "tidelog_run_seconds": {(route,): buckets for route, buckets in tally.seconds.items()},
        "tidelog_first_event_seconds": {(route,): buckets for route, buckets in tally.first_events.items()},
        "tidelog_largest_gap_seconds": {(): tally.largest_gap},
        "tidelog_store_seconds": {(call,): buckets for call, buckets in tally.store.items()},
        "tidelog_tokens_total": dict(tally.tokens),
    }


def _seen(tally: Tally, witness: Witness) -> Found:
    """What the live runs and their viewers tell of themselves."""
    states = dict.fromkeys(("queued", "started", "running", "paused", "waiting", "ending"), 0)
    events, size, pending, silence = tally.events, tally.bytes, 0, 0.0
    lags: list[int] = []
    for seen in tuple(witness.live.values()):
        states[seen.state] = states.get(seen.state, 0) + 1
        events += seen.run.last
        size += seen.bytes
        pending += seen.pending_bytes
        silence = max(silence, seen.silence)
        lags += seen.lags()
    return {
        "tidelog_runs": {(state,): count for state, count in states.items()},
        "tidelog_events_total": {(): events},
        "tidelog_bytes_total": {(): size},
        "tidelog_pending_bytes": {(): pending},
        "tidelog_longest_silence_seconds": {(): silence},
        "tidelog_viewers": {(): len(lags)},
        "tidelog_viewers_behind": {(): sum(lag > BEHIND for lag in lags)},
        "tidelog_viewer_lag_events": {(): max(lags, default=0)},
    }


def _admitted(admission: Admission) -> Found:
    return {
        "tidelog_refused_total": {(reason,): count for reason, count in admission.refused.items()},
        "tidelog_viewers_admitted": {(): len(admission.viewers)},
    }


def _metric(family: Family, values: Mapping[tuple[str, ...], Any]) -> Metric:
    from prometheus_client import core

    if family.kind == "histogram":
        histogram = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, buckets in values.items():
            assert isinstance(buckets, Buckets)
            histogram.add_metric(labels, buckets.cumulative(), buckets.sum)
        return histogram
    kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
