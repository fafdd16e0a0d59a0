"""Random disconnects, doubled connects and replays: the transcript is the same, always."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.conftest import count

from tidelog import Tidelog, ToolEnded, ToolStarted
from tidelog.testing import Frame, Server, Viewer, rebuild, serve, transcript

WORDS = 25
GRAINS = ({}, {"merge": "0"}, {"merge": "4ms"}, {"chunk": "sentence"}, {"chunk": "whole"})
FORMS = ("text/event-stream", "application/x-ndjson")


def script(seed: int) -> list[Any]:
    """What the run of this seed says: words, sentences, data, tool calls."""
    dice = random.Random(seed)
    steps: list[Any] = []
    for number in range(WORDS):
        steps.append(dice.choice((f"w{number} ", f"w{number}. ", f"\r\nw{number}\u2028", f"你{number}")))
        if dice.random() < 0.1:
            steps += [ToolStarted(call=f"c{number}", name="t"), ToolEnded(call=f"c{number}", output=number)]
        if dice.random() < 0.1:
            steps.append({"n": number})
    return steps


def text_of(steps: Iterable[Any]) -> str:
    return "".join(step for step in steps if isinstance(step, str))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    tide, app = Tidelog("memory:", drain_timeout=0.0), FastAPI()
    app.include_router(tide.router)

    async def play(seed: int) -> Any:
        dice = random.Random(seed)
        for step in script(seed):
            yield step
            if dice.random() < 0.5:
                await asyncio.sleep(dice.random() * 0.004)

    @app.get("/play/{seed}")
    async def endpoint(seed: int) -> Response:
        return tide.response(play(seed))

    with serve(app) as server:
        yield server


class Client:
    """A browser with bad luck. It opens connections from what it knows, reads a little, and loses them."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.dice = random.Random(-seed)
        self.frames: list[Frame] = []
        self.open: list[Viewer] = []

    def play(self) -> None:
        """Until the end has been seen."""
        self._take(self._connect(None))
        while not any(frame.json["type"] == "run.ended" for frame in self.frames) or self.dice.random() < 0.3:
            known = [frame for frame in self.frames if "seq" in frame.json]
            place = known[-1] if self.dice.random() < 0.7 else self.dice.choice(known)
            self._take(self._connect(place))
        for viewer in self.open:
            self.frames += viewer.rest()

    def _connect(self, place: Frame | None) -> Viewer:
        """From the start URL or the run's own; the position in a header or in the query."""
        params, accept = dict(self.dice.choice(GRAINS)), self.dice.choice(FORMS)
        if place is None:
            return self.server.watch(f"/play/{self.seed}", params=params)
        run, seq = self.frames[0].json["run"], place.json["seq"]
        last = f"{run}.1.{seq}"
        match self.dice.randrange(3):
            case 0:
                return self.server.watch(f"/play/{self.seed}", params=params, accept=accept, last_event_id=last)
            case 1:
                return self.server.watch(f"/runs/{run}/events", params=params, accept=accept, last_event_id=last)
            case _:
                return self.server.watch(f"/runs/{run}/events", params={**params, "after": str(seq)}, accept=accept)

    def _take(self, viewer: Viewer) -> None:
        """A few frames; then it breaks, or stays open beside the next one."""
        if viewer.status == 204:
            viewer.close()
            return
        self.frames += viewer.read(max(1, self.dice.randrange(8)))
        if self.dice.random() < 0.2:
            self.open.append(viewer)
        else:
            viewer.drop()


def reader(frames: Iterable[Frame]) -> str:
    """The text as a client shows it that applies frames as they come: only what begins right behind its position."""
    position, text = 0, ""
    for frame in frames:
        event = frame.json
        if event.get("from", event["seq"]) == position + 1:
            position = event["seq"]
            text += event["text"] if event["type"] == "text.delta" else ""
    return text


@pytest.mark.soak
def test_the_transcript_is_the_same(server: Server) -> None:
    for seed in range(1, count(100, 10_000) + 1):
        client = Client(server, seed)
        client.play()
        whole = text_of(script(seed))
        assert rebuild(client.frames) == whole, seed
        events = transcript(client.frames)
        assert (events[0]["type"], events[-1]["type"], events[-1]["outcome"]) == (
            "run.started",
            "run.ended",
            "completed",
        )
        twice = [frame for frame in client.frames for _ in range(2)]
        assert transcript(twice) == events, "applying a record twice changes nothing"
        document = server.client.get(f"/runs/{events[0]['run']}/transcript").json()
        assert document["text"] == whole
        assert document["last_seq"] == events[-1]["seq"]


@pytest.mark.soak
def test_a_reader_that_follows_its_position(server: Server) -> None:
    """One that reconnects from its position needs nothing but `from` and `seq`."""
    for seed in range(1, count(20, 1000) + 1):
        dice, frames = random.Random(seed), list[Frame]()
        last: str | None = None
        while not frames or frames[-1].json["type"] != "run.ended":
            viewer = server.watch(f"/play/{seed}", params=dice.choice(GRAINS), last_event_id=last)
            frames += viewer.read(dice.randrange(1, 6))
            viewer.drop()
            last = frames[-1].id
        assert reader(frames) == text_of(script(seed))
        assert reader(frame for frame in frames for _ in range(2)) == text_of(script(seed))
        runs = {frame.json["run"] for frame in frames if frame.json["type"] == "run.started"}
        assert len(runs) == 1
