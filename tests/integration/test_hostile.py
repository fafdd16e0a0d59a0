"""Text that breaks naive streams: it arrives as it was sent, in every form, and never makes a second event."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.responses import Response
from tests.conftest import count

from tidelog import Data, Tidelog
from tidelog.testing import Frame, Parser, Server, rebuild, serve

pytestmark = pytest.mark.soak

MARKS = '\r\n\0\x0b\x0c\x1c\x85\u2028\u2029\ufeff\ud800\udbff\udc00\udfff\U0001f600\U0010ffff :"\\\t'
PIECES = [
    "\r\n",
    "\n\n",
    "\r\r",
    "data: x",
    "id: 7\n",
    "event: error\n\n",
    "\n\ndata: {}\n\n",
    ": hb",
    "retry: 1",
    "[DONE]",
]
words = st.lists(
    st.one_of(
        st.text(st.one_of(st.sampled_from(MARKS), st.characters()), min_size=1, max_size=20), st.sampled_from(PIECES)
    ),
    min_size=1,
    max_size=8,
)
hostile = settings(
    max_examples=count(40, 3000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORST = ["\ud83d", "\ude00", "a\r", "\nb", "\n\nid: 9\n\n", "\x85\u2028\0", "\ufeff"]


@dataclass
class Place:
    """A server whose endpoint yields what lies in `steps`."""

    server: Server
    steps: list[Any] = field(default_factory=list)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    tide, app = Tidelog("memory:", drain_timeout=0.0), FastAPI()
    app.include_router(tide.router)

    async def play() -> Any:
        for step in place.steps:
            yield step

    @app.get("/play")
    async def endpoint() -> Response:
        return tide.response(play)

    with serve(app) as server:
        place = Place(server)
        yield place


def joined(text: str) -> str:
    """The text with surrogate pairs as the characters they mean: JSON cannot tell the two apart."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def shown(text: str) -> str:
    """The text as UTF-8 can hold it: a lone surrogate becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def parsed(body: bytes, cuts: list[int]) -> list[Frame]:
    parser = Parser()
    edges = [0, *cuts, len(body)]
    return [frame for a, b in pairwise(edges) for frame in parser.feed(body[a:b])]


@hostile
@given(words)
@example(WORST)
def test_through_sse(place: Place, words: list[str]) -> None:
    place.steps = list(words)
    viewer = place.server.watch("/play", params={"merge": "0"})
    frames = viewer.rest()
    deltas = [frame.json["text"] for frame in frames if frame.json["type"] == "text.delta"]
    assert list(map(joined, deltas)) == list(map(joined, words))
    assert [frame.json["seq"] for frame in frames] == list(range(1, len(words) + 4)), "no event more, none less"
    assert all(frame.event == "message" and frame.id == f"{viewer.run}.1.{frame.json['seq']}" for frame in frames)
    body = bytes(viewer.body)
    assert b"\r" not in body
    for cut in range(0, len(body), max(1, len(body) // 150)):
        assert parsed(body, [cut]) == frames
    assert parsed(body, list(range(1, len(body)))) == frames


@hostile
@given(words)
@example(WORST)
def test_merged(place: Place, words: list[str]) -> None:
    place.steps = list(words)
    for params in ({}, {"chunk": "whole"}, {"chunk": "sentence"}):
        frames = place.server.watch("/play", params=params).rest()
        assert joined(rebuild(frames)) == joined("".join(words))


@hostile
@given(words)
@example(WORST)
def test_through_lines(place: Place, words: list[str]) -> None:
    place.steps = list(words)
    viewer = place.server.watch("/play", accept="application/x-ndjson", params={"merge": "0"})
    viewer.rest()
    lines = bytes(viewer.body).split(b"\n")[:-1]
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == list(range(1, len(words) + 4))
    assert joined(rebuild(events)) == joined("".join(words))
    assert len(bytes(viewer.body).decode().splitlines()) >= len(lines)
    assert b"\r" not in viewer.body


@hostile
@given(words)
@example(WORST)
def test_through_json_and_text(place: Place, words: list[str]) -> None:
    place.steps = list(words)
    document = place.server.watch("/play", accept="application/json")
    assert joined(document.json["text"]) == joined("".join(words))
    text = place.server.watch("/play", accept="text/plain", params={"merge": "0"}).text
    assert text == "".join(map(shown, words))
    events = place.server.watch(f"/runs/{document.run}/events", accept="application/json").json
    assert joined(rebuild(events)) == joined("".join(words))


@hostile
@given(words)
@example(WORST)
def test_through_bare_sse(place: Place, words: list[str]) -> None:
    """SSE has no way to carry CR: the page sees LF. Nothing else changes, and a word is one frame."""
    place.steps = list(words)
    viewer = place.server.watch("/play", params={"dialect": "sse-text", "merge": "0"})
    frames = viewer.rest()
    assert [frame.event for frame in frames] == ["message"] * len(words) + ["done"]
    assert [frame.data for frame in frames[:-1]] == [re.sub("\r\n|\r", "\n", shown(word)) for word in words]


@hostile
@given(words, st.dictionaries(st.text(max_size=5), st.text(st.sampled_from(MARKS), max_size=8), max_size=3))
@example(WORST, {"a\n\nid: 1": "\r\n\r\ndata: x"})
def test_names_and_data(place: Place, words: list[str], data: dict[str, str]) -> None:
    place.steps = [Data(name=name, data=data) for name in words]
    for dialect in ("native", "simple"):
        frames = place.server.watch("/play", params={"dialect": dialect, "merge": "0"}).rest()
        told = [frame for frame in frames if frame.event != "done"]
        found = [frame.json.get("data") if dialect == "native" else frame.json for frame in told]
        mine = found[1:-1] if dialect == "native" else found
        assert [{joined(k): joined(v) for k, v in one.items()} for one in mine] == [
            {joined(k): joined(v) for k, v in data.items()}
        ] * len(words)
        assert not any(mark in frame.event for frame in frames for mark in "\r\n\0")
