"""Background responses, found again after a cut, a shutdown and `kill -9`: the real SDK against an upstream of our own.

aimock knows no background responses. This one speaks the four routes that matter and replays the same events to whoever asks.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.parts import ENDED

from tidelog import Tidelog
from tidelog import events as e
from tidelog.parts import Chunk
from tidelog.sources import background as module
from tidelog.sources.background import ATTEMPTS, NAME, Position, Rest, position
from tidelog.sources.values import Values
from tidelog.stitch import Stitch
from tidelog.testing import Server, Viewer, rebuild, serve, serve_process, watch

ROOT = Path(__file__).parents[2]
PARTS = (
    "The tide turns, and turns, and turns again: " + "|---|---|---|" * 14,
    "Ebb, then flood. " * 14 + "Slack water.",
)
"""The text of the answer, in two messages. It repeats itself, so that an end may look like a beginning."""
TEXT = "".join(PARTS)
SIZE = 7
"""Characters in a delta."""


def answer(id: str) -> list[dict[str, Any]]:
    """The events of a whole response: reasoning, then two messages."""
    made: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        made.append({"type": f"response.{kind}", "sequence_number": len(made), **fields})

    response = {"id": id, "object": "response", "created_at": 1, "model": "gpt-5", "output": [], "status": "queued"}
    add("created", response=response)
    add("reasoning_summary_text.delta", item_id="rs", output_index=0, summary_index=0, delta="Hm.")
    add("reasoning_summary_text.done", item_id="rs", output_index=0, summary_index=0, text="Hm.")
    for index, text in enumerate(PARTS):
        place = {"item_id": f"msg_{index}", "output_index": index + 1, "content_index": 0}
        add("output_item.added", output_index=index + 1, item={"id": f"msg_{index}", "type": "message", "content": []})
        for start in range(0, len(text), SIZE):
            add("output_text.delta", **place, delta=text[start : start + SIZE], logprobs=[])
        add("output_text.done", **place, text=text, logprobs=[])
    usage = {"input_tokens": 9, "output_tokens": 90, "total_tokens": 99}
    add("completed", response={**response, "status": "completed", "usage": usage})
    return made


LAST = len(answer("r")) - 1
MIDDLE = 20
"""In the first message."""
LATE = LAST - 30
"""In the second one."""


class Provider:
    """The upstream. `holds[n]` is where its n-th connection goes silent, `cuts[n]` where it breaks (-1: at once)."""

    def __init__(self) -> None:
        self.created: list[Any] = []
        """The bodies of the requests for new responses."""
        self.asked: list[tuple[str, int]] = []
        """Which responses were attached to again, and behind which event."""
        self.cancelled: list[str] = []
        self.holds: dict[int, int] = {}
        self.cuts: dict[int, int] = {}
        self.forgets = False
        self._connections = 0
        self.app = FastAPI()
        self.app.post("/v1/responses")(self.create)
        self.app.get("/v1/responses/{id}")(self.retrieve)
        self.app.post("/v1/responses/{id}/cancel")(self.cancel)

    async def create(self, request: Request) -> Response:
        self.created.append(await request.json())
        return self._stream(f"resp_{len(self.created)}", -1)

    async def retrieve(self, id: str, stream: bool, starting_after: int) -> Response:
        if self.forgets:
            return JSONResponse({"error": {"message": "Response not found.", "type": "invalid_request_error"}}, 404)
        self.asked.append((id, starting_after))
        return self._stream(id, starting_after)

    async def cancel(self, id: str) -> Response:
        self.cancelled.append(id)
        return JSONResponse({"id": id, "object": "response", "status": "cancelled", "output": []})

    def _stream(self, id: str, after: int) -> Response:
        number, self._connections = self._connections, self._connections + 1
        return StreamingResponse(self._events(id, after, number), media_type="text/event-stream")

    async def _events(self, id: str, after: int, number: int) -> AsyncIterator[str]:
        if self.cuts.get(number) == -1:
            raise ConnectionResetError("the connection is cut before it says anything")
        for event in answer(id)[after + 1 :]:
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            if event["sequence_number"] == self.holds.get(number):
                await asyncio.sleep(3600)
            if event["sequence_number"] == self.cuts.get(number):
                raise ConnectionResetError("the connection is cut here")


def make_app(store: str, provider: str, **options: Any) -> FastAPI:
    """An application as users write it."""
    tide = Tidelog(store, drain_timeout=0.0, **options)
    app = FastAPI()
    app.include_router(tide.router)

    @app.post("/chat")
    @tide.stream
    async def chat(question: str) -> AsyncIterator[Any]:
        async with openai.AsyncOpenAI(base_url=f"{provider}/v1", api_key="k", max_retries=0) as client:
            async for event in tide.background(client, model="gpt-5", input=question):
                yield event

    return app


app = make_app(os.environ.get("APP_STORE", "memory:"), os.environ.get("APP_PROVIDER", ""), lease_patience=1.0)
"""For `serve_process`."""


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def upstream(provider: Provider) -> Iterator[Server]:
    with serve(provider.app) as server:
        yield server


CHAT = ("/chat?question=When", "POST")


def ask(server: Server) -> Viewer:
    return server.watch(*CHAT, params={"merge": "0"}, timeout=15.0)


def go_on(url: str, run: str, verb: str = "continue") -> Viewer:
    """The events of the run that retries or continues this one."""
    found = watch(f"{url}/runs/{run}/{verb}", "POST", accept=None).json
    return watch(url + found["events"], params={"merge": "0"}, timeout=15.0)


def read_until(viewer: Viewer, text: str) -> None:
    """Read to this end of the text so far: from there on, the provider is silent."""
    while not rebuild(viewer.frames).endswith(text):
        viewer.read(1)


def types(viewer: Viewer) -> list[str]:
    return list(dict.fromkeys(frame.json["type"] for frame in viewer.frames))


def told(viewer: Viewer) -> list[dict[str, Any]]:
    """What the run has told of its response."""
    return [frame.json["data"] for frame in viewer.frames if frame.json.get("name") == NAME]


def said_before(event: int) -> str:
    """The text of the response up to this event."""
    events = answer("r")[: event + 1]
    return "".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")


class TestWithoutCrash:
    def test_a_whole_response(self, provider: Provider, upstream: Server) -> None:
        with serve(make_app("memory:", upstream.url)) as server:
            viewer = ask(server)
            viewer.rest()
        assert rebuild(viewer.frames) == TEXT
        assert told(viewer) == [{"id": "resp_1", "at": 0, "text": 0}]
        assert [frame.json["type"] for frame in viewer.frames][:3] == ["run.started", "data", "reasoning.delta"]
        assert viewer.frames[-1].json["usage"] == {"input": 9, "output": 90, "source": "provider"}
        assert provider.created == [{"model": "gpt-5", "input": "When", "background": True, "stream": True}]
        assert (provider.asked, provider.cancelled) == ([], [])

    def test_a_cut_connection_is_opened_again_where_it_was(
        self, provider: Provider, upstream: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "WAIT", 0.0)
        provider.cuts = {0: MIDDLE, 1: LATE}
        with serve(make_app("memory:", upstream.url)) as server:
            viewer = ask(server)
            viewer.rest()
        assert rebuild(viewer.frames) == TEXT
        assert viewer.frames[-1].json["outcome"] == "completed"
        assert len(told(viewer)) == 1
        assert len(provider.created) == 1
        assert [id for id, _ in provider.asked] == ["resp_1"] * 2
        # uvicorn may not have sent the last events when it breaks the connection
        assert all(0 < after <= cut for (_, after), cut in zip(provider.asked, (MIDDLE, LATE), strict=True))

    def test_but_not_for_ever(self, provider: Provider, upstream: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "WAIT", 0.0)
        provider.cuts = {0: MIDDLE} | dict.fromkeys(range(1, 10), -1)
        with serve(make_app("memory:", upstream.url)) as server:
            viewer = ask(server)
            viewer.rest()
        ended = viewer.frames[-1].json
        assert (ended["outcome"], ended["error"]["code"]) == ("failed", "provider_error")
        assert len(set(provider.asked)) == 1
        assert len(provider.asked) == ATTEMPTS

    def test_a_stop_cancels_the_response(self, provider: Provider, upstream: Server) -> None:
        provider.holds = {0: MIDDLE}
        with serve(make_app("memory:", upstream.url)) as server:
            viewer = ask(server)
            read_until(viewer, said_before(MIDDLE))
            assert watch(f"{server.url}/runs/{viewer.run}/stop", "POST", accept=None).json == {"result": "stopped"}
            assert provider.cancelled == ["resp_1"]
            again = go_on(server.url, viewer.run)
            again.rest()
        assert [each["id"] for each in told(again)] == ["resp_2"], "nobody can go on with a response that was cancelled"
        assert provider.asked == []

    def test_a_retry_asks_again(self, provider: Provider, upstream: Server) -> None:
        with serve(make_app("memory:", upstream.url)) as server:
            viewer = ask(server)
            viewer.rest()
            again = go_on(server.url, viewer.run, "retry")
            again.rest()
        assert rebuild(again.frames) == TEXT
        assert len(provider.created) == 2
        assert (provider.asked, provider.cancelled) == ([], [])


def test_kill_9(provider: Provider, upstream: Server, tmp_path: Path) -> None:
    """The process dies in the middle of a word. Another one ends its run, and `continue` brings the rest."""
    provider.holds = {0: MIDDLE}
    env = {"APP_STORE": f"sqlite:///{tmp_path}/logs.db?beat=0.2", "APP_PROVIDER": upstream.url}
    with serve_process("tests.sources.test_background:app", cwd=ROOT, env=env) as process:
        viewer = watch(process.url + CHAT[0], CHAT[1], params={"merge": "0"}, timeout=15.0)
        with viewer:
            read_until(viewer, said_before(MIDDLE))
            process.kill()
    with serve_process("tests.sources.test_background:app", cwd=ROOT, env=env) as process:
        orphan = watch(f"{process.url}/runs/{viewer.run}/events", timeout=15.0)
        orphan.rest()
        assert orphan.frames[-1].json["outcome"] == "interrupted"
        again = go_on(process.url, viewer.run)
        again.rest()
    assert rebuild(again.frames) == TEXT
    assert again.frames[-1].json["outcome"] == "completed"
    assert types(again)[:3] == ["run.started", "text.snapshot", "data"]
    assert "reasoning.delta" in types(again), "the log stands alone"
    assert len(provider.created) == 1, "the model was asked once"
    assert provider.asked == [("resp_1", 0)]
    assert provider.cancelled == []


def test_one_process_after_the_other(provider: Provider, upstream: Server, tmp_path: Path) -> None:
    """Shut down twice, in the first message and in the second: the third process has the whole text once."""
    provider.holds = {0: MIDDLE, 1: LATE}
    store = f"sqlite:///{tmp_path}/logs.db"
    with serve(make_app(store, upstream.url)) as server:
        first = ask(server)
        read_until(first, said_before(MIDDLE))
    with serve(make_app(store, upstream.url)) as server:
        second = go_on(server.url, first.run)
        read_until(second, said_before(LATE))
        second.close()
    with serve(make_app(store, upstream.url)) as server:
        third = go_on(server.url, second.frames[0].json["run"])
        third.rest()
    assert rebuild(third.frames) == TEXT
    stored = [told(viewer)[0]["text"] for viewer in (first, second, third)]
    assert stored == [0, len(said_before(MIDDLE)), len(said_before(LATE))]
    assert provider.asked == [("resp_1", 0)] * 2
    assert (len(provider.created), provider.cancelled) == (1, [])


def test_a_response_that_the_provider_has_forgotten(provider: Provider, upstream: Server, tmp_path: Path) -> None:
    provider.holds = {0: MIDDLE}
    store = f"sqlite:///{tmp_path}/logs.db"
    with serve(make_app(store, upstream.url)) as server:
        viewer = ask(server)
        read_until(viewer, said_before(MIDDLE))
    provider.forgets = True
    with serve(make_app(store, upstream.url)) as server:
        again = go_on(server.url, viewer.run)
        again.rest()
    assert rebuild(again.frames) == said_before(MIDDLE), "the earlier text is not lost"
    error = again.frames[-1].json["error"]
    assert (error["code"], error["message"]) == ("provider_error", "The provider no longer has this answer: ask again.")


@pytest.mark.parametrize("sizes", [(7,), (2, 1), (3, 50, 150), (10_000,)], ids=str)
def test_whatever_was_stored_the_rest_is_exact(sizes: tuple[int, ...]) -> None:
    """For every place at which the log may have been cut, and deltas that are cut otherwise than before."""
    for stored in range(1, len(TEXT) + 1):
        rest, values = Rest(stored), Values()
        values_after = Stitch(_continued(values, TEXT[:stored]), TEXT[:stored])
        events = [event for each in recut(sizes) for event in values_after.feed(Chunk("openai", rest.of(each)))]
        events += values_after.end()
        assert TEXT[:stored] + "".join(x.text for x in events if isinstance(x, e.TextDelta)) == TEXT, stored


def test_where_a_response_goes_on() -> None:
    here = e.Data(name=NAME, data={"id": "resp_1", "at": 0, "text": 10})
    before, said = e.TextDelta(text="not of the response"), e.TextDelta(text="four")
    assert position([before, here, said, said]) == Position("resp_1", 0, 18)
    assert position([before, said]) is None
    assert position([here, e.Data(name="other", data={"id": "x", "at": 1})]) == Position("resp_1", 0, 10)
    assert position([here, ENDED]) == Position("resp_1", 0, 10)
    assert position([here, e.RunEnded(outcome="stopped", usage=e.TokenUsage(), can=())]) is None
    assert position([e.Data(name=NAME, data="broken")]) is None


def _continued(values: Values, text: str) -> Values:
    """Values of a run whose log begins with this text."""
    list(values.feed(e.TextSnapshot(part="p1", text=text)))
    return values


def recut(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """The events behind the first one, with deltas of these lengths in turn."""
    made: list[dict[str, Any]] = []
    for event in answer("r")[1:]:
        if event["type"] != "response.output_text.delta":
            made.append(event)
        elif made[-1]["type"] != "response.output_text.delta":
            text, start, turn = PARTS[event["output_index"] - 1], 0, 0
            while start < len(text):
                size = sizes[turn % len(sizes)]
                made.append({**event, "delta": text[start : start + size]})
                start, turn = start + size, turn + 1
    return made
