"""Traces: one span a run, current in its source, and one for each view, linked to it wherever the run lives."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.server.chat import JSON, Chat, make_tide

from tidelog import Answer, SourceError, Tidelog, Usage
from tidelog.testing import Gate, serve


class Traced:
    """A provider that keeps what it is given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def tide(self, store: str = "memory:") -> Tidelog:
        return make_tide(store, tracer_provider=self.provider)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    @property
    def run(self) -> ReadableSpan:
        (only,) = self.named("tidelog.run")
        return only


@pytest.fixture
def traced() -> Traced:
    return Traced()


def of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_a_run_is_one_span_and_its_view_is_linked(traced: Traced) -> None:
    chat = Chat("Hi", Usage(input=3, output=5), tide=traced.tide())
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        viewer.rest()
    run, (view,) = traced.run, traced.named("tidelog.view")
    assert of(run)["tidelog.run"] == viewer.run
    assert of(run)["http.route"] == "/chat"
    assert of(run)["tidelog.outcome"] == "completed"
    assert of(run)["gen_ai.usage.input_tokens"], of(run)["gen_ai.usage.output_tokens"] == (3, 5)
    assert run.status.status_code is StatusCode.UNSET
    assert [link.context.span_id for link in view.links] == [run.context.span_id]
    assert of(view)["tidelog.how"] == "ended"


def test_a_failure_is_an_error_without_its_text(traced: Traced) -> None:
    chat = Chat("Hel", SourceError("secret words", code="rate_limited"), tide=traced.tide())
    with serve(chat.app) as server:
        server.watch("/chat").rest()
    assert traced.run.status.status_code is StatusCode.ERROR
    assert of(traced.run)["error.type"] == "rate_limited"
    assert "secret" not in traced.run.to_json()


def test_what_starts_nothing_is_no_span(traced: Traced) -> None:
    """A repeat by an idempotency key finds the run; it does not begin another."""
    chat = Chat("Hi", tide=traced.tide())
    with serve(chat.app) as server:
        for _ in range(3):
            assert server.client.post("/chat", headers={"Idempotency-Key": "k", "Accept": JSON}).json()["text"] == "Hi"
    assert len(traced.named("tidelog.run")) == 1


def test_the_views_of_another_process_are_linked_too(traced: Traced, tmp_path: Path) -> None:
    store, gate, other = f"sqlite:///{tmp_path}/logs.db", Gate(), Traced()
    chat, reader = Chat("Hel", gate, "lo", tide=traced.tide(store)), FastAPI()
    reader.include_router(other.tide(store).router)
    with serve(chat.app) as server, serve(reader) as elsewhere:
        run = server.watch("/chat").run
        with elsewhere.watch(f"/runs/{run}/events") as viewer:
            viewer.read(2)
            gate.open()
            viewer.rest()
    (view,) = other.named("tidelog.view")
    assert not other.named("tidelog.run")
    (link,) = view.links
    assert link.context.trace_id == traced.run.context.trace_id
    assert link.context.span_id == traced.run.context.span_id


class TestSource:
    """OpenTelemetry in a source: spans held over yields, in one context, with nothing left behind."""

    def app(self, traced: Traced, gate: Gate) -> FastAPI:
        tide, tracer, app = traced.tide(), traced.provider.get_tracer("test"), FastAPI()

        @app.get("/chat")
        @tide.stream
        async def chat() -> AsyncIterator[str]:
            with tracer.start_as_current_span("model"):
                for number in range(5):
                    with tracer.start_as_current_span(f"token {number}"):
                        yield f"{number} "
                await gate.wait()
                yield "end"

        app.include_router(tide.router)
        return app

    @pytest.mark.parametrize("stopped", [False, True], ids=["to its end", "stopped"])
    def test_its_spans_are_children_of_the_run(
        self, traced: Traced, stopped: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = Gate()
        with caplog.at_level(logging.WARNING), serve(self.app(traced, gate)) as server:
            viewer = server.watch("/chat")
            viewer.read(2)
            if stopped:
                server.client.post(f"/runs/{viewer.run}/stop")
            gate.open()
            viewer.rest()
        assert [record.getMessage() for record in caplog.records] == [], "such as: failed to detach context"
        (model,) = traced.named("model")
        assert model.parent is not None
        assert model.parent.span_id == traced.run.context.span_id
        assert of(traced.run)["tidelog.outcome"] == ("stopped" if stopped else "completed")
        assert trace.get_current_span(context.get_current()) is trace.INVALID_SPAN


def test_a_request_that_fastapi_traces_is_the_parent(traced: Traced) -> None:
    """FastAPI's own spans and ours are one trace: the request's span has the run and the first view below it."""
    tide = traced.tide()
    app = FastAPI(telemetry={"tracer_provider": traced.provider, "metrics": False, "logs": False})
    app.include_router(tide.router)

    @app.get("/chat")
    @tide.stream
    async def chat() -> AsyncIterator[str]:
        yield "Hi"

    with serve(app) as server, server.watch("/chat") as viewer:
        viewer.rest()
    (view,) = traced.named("tidelog.view")
    for span in (traced.run, view):
        assert span.parent is not None
        assert span.context.trace_id == span.parent.trace_id
    ours = {span.context.trace_id for span in (traced.run, view)}
    (request,) = (
        span
        for span in traced.exporter.get_finished_spans()
        if of(span).get("http.route") == "/chat" and not of(span).get("tidelog.run")
    )
    assert ours == {request.context.trace_id}


def test_a_parked_run_goes_on_in_its_trace(traced: Traced, tmp_path: Path) -> None:
    """In another process: its span there is linked to the first one, and is current in the source that goes on."""

    def app(traced: Traced) -> FastAPI:
        app, tide = FastAPI(), traced.tide(f"sqlite:///{tmp_path}/logs.db")
        app.include_router(tide.router)

        async def later(state: object, answer: Answer) -> AsyncIterator[str]:
            with traced.provider.get_tracer("test").start_as_current_span("later"):
                yield answer.value

        @app.get("/ask")
        @tide.stream(resume=later, park_after=0.0)
        async def ask() -> AsyncIterator[str]:
            yield await tide.ask("Well?", state={})

        return app

    other = Traced()
    with serve(app(traced)) as server, serve(app(other)) as elsewhere, server.watch("/ask") as viewer:
        viewer.until("run.state")
        eventually(lambda: traced.named("tidelog.run"))
        assert elsewhere.client.post(f"/runs/{viewer.run}/answer", json={"question": "q1", "value": "Yes"}).is_success
        viewer.rest()
        eventually(lambda: other.named("tidelog.run"))
    first, second, (later,) = traced.run, other.run, other.named("later")
    assert [of(one)["tidelog.outcome"] for one in (first, second)] == ["parked", "completed"]
    assert [of(one)["http.route"] for one in (first, second)] == ["/ask", "/ask"]
    assert first.context.trace_id == second.context.trace_id == later.context.trace_id
    assert second.parent is not None and later.parent is not None
    assert (second.parent.span_id, later.parent.span_id) == (first.context.span_id, second.context.span_id)
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


def eventually(condition: Callable[[], object]) -> None:
    """What a test hears of is done, and its span is ended a moment later."""
    until = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < until, "never"
        time.sleep(0.005)


def test_nothing_is_recorded_without_a_provider() -> None:
    chat = Chat("Hi")
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        viewer.rest()
        head = server.call(lambda: chat.tide.runner.store.tail(f"run/{viewer.run}"))
    assert b"trace" not in head.head
