"""The examples with LangChain and LangGraph, before and after, on models of LangChain's own that need no key and no network."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.prompts import ChatPromptTemplate
from tests.sources.langchain_parts import Recorded, answer

from tidelog.testing import Server, collect, rebuild, serve

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = "Because of the moon."
Start = Callable[..., AbstractContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts an example in a folder of its own, where it keeps its database, with other functions in place of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    @contextmanager
    def started(name: str, **replaced: Any) -> Iterator[Server]:
        module = importlib.import_module(name)
        for function, made in replaced.items():
            monkeypatch.setattr(module, function, lambda made=made: made)
        try:
            with serve(module.app) as server:
                yield server
        finally:
            del sys.modules[name]  # the next test starts it anew, whatever became of this one

    return started


def words() -> Any:
    return FakeListChatModel(responses=[TEXT])


def joke() -> Any:
    return ChatPromptTemplate.from_template("About {topic}") | words()


def calls(name: str, input: dict[str, Any]) -> list[AIMessageChunk]:
    """An answer that asks for one call, its arguments in two pieces."""
    args = json.dumps(input)
    pieces: Any = [(name, args[:3], "t1"), (None, args[3:], None)]
    return [
        AIMessageChunk("", id="m1", tool_call_chunks=[{"index": 0, "name": name, "args": args, "id": id}])
        for name, args, id in pieces
    ]


def frames_of(body: str) -> list[Any]:
    """The data of each frame of a wire without ids."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line not in ("[DONE]", "")]


def tools_of(document: Any) -> list[Any]:
    return [
        (part["name"], part.get("input"), part.get("output"))
        for part in document["message"]["parts"]
        if part["type"] == "tool"
    ]


class TestStreamingResponse:
    def test_before(self, start: Start) -> None:
        with start("langchain_before", model=words()) as server:
            body = server.client.post("/chat", json={"question": "Why?"}).text
        assert "".join(frame["data"] for frame in frames_of(body)) == TEXT
        assert body.endswith("data: [DONE]\n\n")

    def test_before_with_tools(self, start: Start) -> None:
        model = Recorded(replies=[calls("add", {"a": 2, "b": 3}), answer(text="It is 5.")])
        with start("langchain_before", model=model) as server:
            frames = frames_of(server.client.post("/agent", json={"question": "Add."}).text)
        assert [frame["type"] for frame in frames[:2]] == ["tool_start", "tool_end"]
        assert "".join(frame["data"] for frame in frames[2:]) == "It is 5."

    def test_after(self, start: Start) -> None:
        with start("langchain_after", model=words()) as server:
            # Each record a frame: what is read again may otherwise come in fewer of them.
            frames = collect(f"{server.url}/chat?merge=0", json={"question": "Why?"})
            assert rebuild(frames) == TEXT
            [started, *_, ended] = frames
            assert ended.json["outcome"] == "completed"
            events = f"{server.url}/runs/{started.json['run']}/events?merge=0"
            again = collect(events, last_event_id=frames[3].id)
            assert [frame.id for frame in again] == [frame.id for frame in frames[4:]]

    def test_after_with_tools(self, start: Start) -> None:
        model = Recorded(replies=[calls("add", {"a": 2, "b": 3}), answer(text="It is 5.")])
        with start("langchain_after", model=model) as server:
            answered = server.client.post(
                "/agent", json={"question": "Add."}, headers={"Accept": "application/json"}
            ).json()
        assert answered["text"] == "It is 5."
        assert tools_of(answered) == [("add", {"a": 2, "b": 3}, "5.0")]


class TestLangServe:
    GIVEN = {"input": {"topic": "the moon"}}

    def test_before(self, start: Start) -> None:
        with start("langserve_before", joke=joke()) as server:
            invoked = server.client.post("/joke/invoke", json=self.GIVEN).json()
            streamed = server.client.post("/joke/stream", json=self.GIVEN).text
            events = server.client.post("/joke/stream_events", json=self.GIVEN).text
        assert invoked["output"]["kwargs"]["content"] == TEXT
        chunks = frames_of(streamed)
        assert "run_id" in chunks[0]
        assert "".join(chunk["kwargs"]["content"] for chunk in chunks[1:]) == TEXT
        assert streamed.rstrip().endswith("event: end")
        assert {"on_chain_start", "on_chat_model_stream"} <= {event["event"] for event in frames_of(events)}

    def test_after(self, start: Start) -> None:
        with start("langserve_after", joke=joke()) as server:
            invoked = server.client.post("/joke/invoke", json=self.GIVEN).json()
            for path in ("/joke", "/joke/stream", "/joke/stream_events"):
                assert rebuild(collect(f"{server.url}{path}", json=self.GIVEN)) == TEXT, path
            asked = server.client.post("/joke", json=self.GIVEN, headers={"Accept": "application/json"}).json()
        assert (invoked["text"], invoked["outcome"]) == (asked["text"], asked["outcome"]) == (TEXT, "completed")


class TestLangGraph:
    def test_an_agent_that_asks_before_it_acts(self, start: Start) -> None:
        model = Recorded(replies=[calls("order", {"item": "Tea"}), answer(text="Done.")])
        with start("langgraph_agent", model=model) as server:
            headers = {"Accept": "application/json"}
            asked = server.client.post("/agent/t1", json={"question": "Tea, please."}, headers=headers).json()
            [question] = [each for each in asked["data"] if each["name"] == "interrupt"]
            assert question["data"]["value"] == {"question": "Order Tea?"}
            [waiting] = [part for part in asked["message"]["parts"] if part["type"] == "tool"]
            assert (waiting["input"], waiting["outcome"]) == ({"item": "Tea"}, "stopped")
            agreed = server.client.post("/agent/t1/agree", json={"agreed": True}, headers=headers).json()
            thread = server.client.get("/threads/t1").json()
        assert agreed["text"] == "Done."
        assert [(name, output) for name, _, output in tools_of(agreed)] == [("order", "Tea is ordered.")]
        assert "Tea, please." in json.dumps(thread)
