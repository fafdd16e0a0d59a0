"""Traces: a span for each run, from its start to its ending, and one for each view, linked to the run's.

A run that is parked, or taken over, has one for each of its parts, all in one trace.

A run's span is current in its source, so that what a provider's SDK does there becomes its child. Its place is kept in the run's
head, so that viewers in other processes link to it, too. FastAPI brings OpenTelemetry's API; nothing is recorded while the
application has configured no provider. Names of attributes: those of OpenTelemetry where there are any, all of them here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import Link, NonRecordingSpan, Span, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidelog.head import Head
from tidelog.launch import Launch
from tidelog.runner import Runner
from tidelog.server.witness import Ended, Started

RUN: Final = "tidelog.run"
VIEW: Final = "tidelog.view"
_W3C: Final = TraceContextTextMapPropagator()
_NOTHING: Final = nullcontext()


class Tracing:
    """Implements `runner.Prelude` and `witness.Listener`. `provider` None: OpenTelemetry's global one."""

    def __init__(self, runner: Runner, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("tidelog", tracer_provider=provider)
        self._spans: dict[str, Span] = {}
        runner.preludes.append(self.opening)

    def opening(self, launch: Launch) -> Launch:
        """Begin the run's span, in the task that will start it: the source inherits its context.

        A span that is never ended, because nothing was started, is never recorded.
        """
        span = self._tracer.start_span(RUN)
        if not span.is_recording():
            return launch
        context.attach(trace.set_span_in_context(span))
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        return launch._replace(trace=carrier.get("traceparent"))

    def started(self, fact: Started) -> None:
        """Still in that task: the span that is current is the run's."""
        if fact.head.trace is not None and (span := trace.get_current_span()).is_recording():
            self._describe(span, fact.head, fact.route)

    def first_event(self, route: str, seconds: float) -> None:
        """Told with the end."""

    def ended(self, fact: Ended) -> None:
        """End the run's span."""
        span = self._spans.pop(fact.head.run, None)
        if span is None:
            return
        known = fact.usage.source != "unknown"
        span.set_attributes(
            _given(
                {
                    "tidelog.outcome": fact.outcome,
                    "tidelog.records": fact.records,
                    "tidelog.first_event": fact.first_event,
                    "error.type": fact.code,
                    "gen_ai.usage.input_tokens": fact.usage.input if known else None,
                    "gen_ai.usage.output_tokens": fact.usage.output if known else None,
                }
            )
        )
        if fact.outcome not in ("completed", "stopped"):
            span.set_status(Status(StatusCode.ERROR, fact.code))
        span.end()

    def again(self, head: Head, route: str) -> None:
        """Begin the span of a later part, in the task that will set it to work: the source inherits its context.

        In the trace of the run, below the span of the first part and linked to it: that has ended, or was lost with its process.
        """
        if head.trace is None:
            return
        first = _place(head)
        under = trace.set_span_in_context(NonRecordingSpan(first))
        span = self._tracer.start_span(RUN, context=under, links=[Link(first)])
        if not span.is_recording():
            return
        context.attach(trace.set_span_in_context(span))
        self._describe(span, head, route)

    def parked(self, head: Head) -> None:
        """End the span of this part: what follows the answer is in whatever process has it."""
        span = self._spans.pop(head.run, None)
        if span is not None:
            span.set_attributes({"tidelog.outcome": "parked"})
            span.end()

    def _describe(self, span: Span, head: Head, route: str) -> None:
        span.set_attributes(_of(head))
        span.set_attributes(_given({"http.route": route or None, "tidelog.of": head.of, "tidelog.mode": head.mode}))
        self._spans[head.run] = span

    def view(self, head: Head, position: int) -> Span:
        """A span for one view that begins behind `position`: its `Ending` ends it."""
        links = [Link(_place(head))] if head.trace is not None else []
        attributes = {**_of(head), "tidelog.position": position}
        return self._tracer.start_span(VIEW, links=links, attributes=attributes)


class Ending:
    """Ends a span with a block."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        """It has begun."""

    def __exit__(self, *_: object) -> None:
        self._span.end()


def current(span: Span) -> AbstractContextManager[object]:
    """While the block lasts this span is current in its task, and hears of the error that ends it."""
    return trace.use_span(span) if span.is_recording() else _NOTHING


def _place(head: Head) -> trace.SpanContext:
    """Where the run's span is, in whatever process it was begun."""
    found = _W3C.extract({"traceparent": head.trace or ""}, context.Context())
    return trace.get_current_span(found).get_span_context()


def _of(head: Head) -> dict[str, Any]:
    return {"tidelog.run": head.run, "tidelog.thread": head.thread}


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
