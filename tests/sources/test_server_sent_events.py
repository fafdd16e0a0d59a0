"""`ServerSentEvent` objects of sse-starlette and of FastAPI, as endpoints yielded them before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import fastapi.sse
import pydantic
import pytest
import sse_starlette
from sse_starlette import JSONServerSentEvent, ServerSentEvent
from tests.parts import PATIENCE, legal, text_of

from tidelog import Tidelog
from tidelog import events as e
from tidelog.errors import SENTENCES, SourceError
from tidelog.sources.events import ServerSentEvents
from tidelog.sources.values import Values

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[2] / "spec/cases/sources"
CLASSES: dict[str, Any] = {"sse_starlette": ServerSentEvent, "fastapi": fastapi.sse.ServerSentEvent}
CASES = [case for name in CLASSES for case in json.loads((FOLDER / f"{name}.json").read_text())]


class City(pydantic.BaseModel):
    name: str


def told(*chunks: Any) -> list[Any]:
    values = Values()
    events = [event for chunk in chunks for event in values.feed(chunk)] + list(values.end())
    return [json.loads(e.encode(event)) for event in events if not isinstance(event, e.Usage | e.TextEnded)]


def text(*words: str) -> list[Any]:
    return [{"type": "text.delta", "part": "p1", "text": word} for word in words]


def data(value: Any, name: str | None = None) -> dict[str, Any]:
    return {"type": "data", "data": value, **({"name": name} if name else {})}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['library']}: {case['name']}")
def test_recorded_events(case: dict[str, Any]) -> None:
    kind, values = CLASSES[case["library"]], Values()
    events = [event for chunk in case["chunks"] for event in values.feed(kind(**chunk))] + list(values.end())
    assert [json.loads(e.encode(event)) for event in events] == case["events"]


def test_what_is_a_chunk() -> None:
    assert ServerSentEvents.takes(ServerSentEvent)
    assert ServerSentEvents.takes(fastapi.sse.ServerSentEvent)
    for other in (sse_starlette.EventSourceResponse, fastapi.sse.EventSourceResponse, fastapi.FastAPI):
        assert not ServerSentEvents.takes(other)


def test_an_event_that_says_it_is_json() -> None:
    chunks = [JSONServerSentEvent(value) for value in ("[1]", 5, None, {}, ["a"], {"a": 1})]
    assert told(*chunks) == [*text("[1]"), data(5), data({}), data(["a"]), data({"a": 1})]
    assert told(JSONServerSentEvent("5", event="count")) == [data("5", "count")]


def test_models_as_data() -> None:
    kind = fastapi.sse.ServerSentEvent
    found = told(
        kind(data=City(name="Lyon")),
        kind(data=[City(name="Metz")], event="cities"),
        kind(data={"in": City(name="Nice")}),
    )
    assert found == [data({"name": "Lyon"}, "City"), data([{"name": "Metz"}], "cities"), data({"in": {"name": "Nice"}})]


@pytest.mark.parametrize("kind", CLASSES.values())
@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("The index is gone.", "provider_error", "The index is gone."),
        ('{"message": "Slowly.", "code": "rate_limited"}', "rate_limited", "Slowly."),
        ('{"detail": "No such page.", "code": "E17"}', "provider_error", "No such page."),
        ('{"error": {"code": 5}, "code": []}', "provider_error", SENTENCES["provider_error"]),
        ('"Quoted."', "provider_error", "Quoted."),
    ],
)
def test_an_error_ends_the_run(kind: Any, said: str, code: str, words: str) -> None:
    with pytest.raises(SourceError) as raised:
        list(Values().feed(kind(data=said, event="error")))
    assert (raised.value.code, str(raised.value)) == (code, words)


async def test_a_generator_of_another_library() -> None:
    """As an endpoint of sse-starlette has it: tokens, a status, an end that is told; another part for text that stands alone."""

    async def work() -> AsyncIterator[Any]:
        yield ServerSentEvent(comment="warming up")
        yield ServerSentEvent(data="searching", event="status")
        for token in ("It ", "is ", "42", "."):
            yield ServerSentEvent(data=token, id="1", retry=1000)
        yield " Indeed."
        yield ServerSentEvent(data="[DONE]")

    tide = Tidelog("memory:")
    run = await tide.start(work)
    await asyncio.wait_for(run.wait(), PATIENCE)
    events = await legal(tide.runner.store, run.id)
    await tide.aclose()
    assert text_of(events) == "It is 42. Indeed."
    assert [event for event in events if isinstance(event, e.Data)] == [e.Data(name="status", data="searching")]
    assert isinstance(events[-1], e.RunEnded)
    assert (events[-1].outcome, events[-1].usage.source) == ("completed", "estimated")
