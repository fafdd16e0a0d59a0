"""`tide.graph`: interrupts of real LangGraph graphs as questions, with a checkpointer in a file, over restarts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from tests.parts import legal_events, records_of
from tests.sources.langchain_parts import Recorded, answer, calling

from tidelog import Tidelog
from tidelog import events as e
from tidelog.sources.graphs import question_of
from tidelog.testing import Server, serve

LONG = 15.0


@tool
def add(a: int, b: int) -> int:
    """Add two numbers, once a person has agreed."""
    agreed = interrupt({"question": f"Add {a} and {b}?", "options": ["yes", "no"]})
    return a + b if agreed == "yes" else -1


def builder() -> Any:
    """Two questions, one after the other, and typed."""

    def first(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", f"First {interrupt('Your name?')}. ")]}

    def second(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", f"Then {interrupt('How many?', response_schema=int)}.")]}

    made = StateGraph(MessagesState).add_node("first", first).add_node("second", second)
    return made.add_edge(START, "first").add_edge("first", "second")


class App:
    """A graph in an application; its checkpoints are in a file, and its log in another."""

    def __init__(self, folder: Path | None, make: Callable[[Any], Any], *, resume: bool = True) -> None:
        self.tide = tide = Tidelog(f"sqlite:///{folder}/logs.db" if folder else "memory:", drain_timeout=0.0)
        self._saver: Any = InMemorySaver() if folder is None else None

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            if folder is None:
                yield
                return
            async with AsyncSqliteSaver.from_conn_string(f"{folder}/graph.db") as self._saver:
                yield

        self.app = FastAPI(lifespan=lifespan)
        self.app.include_router(tide.router)
        graph = tide.graph(lambda: make(self._saver))

        @self.app.post("/graph")
        @tide.stream(**({"resume": graph.resume} if resume else {}))
        def ask(question: str = "What is 1 + 2, and 3 + 4?") -> AsyncIterator[Any]:
            return graph.run({"messages": [("user", question)]})

    def events(self, server: Server, run: str) -> list[Any]:
        """The events of a run that has ended, proven to be legal."""
        until(lambda: server.client.get(f"/runs/{run}").json()["outcome"] is not None)
        return legal_events(server.call(lambda: records_of(self.tide.runner.store, run)))


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < limit, "never"
        time.sleep(0.01)


def start(server: Server) -> str:
    return str(server.client.post("/graph", headers={"Prefer": "respond-async"}).json()["run"])


def waits(server: Server, run: str, prompt: str, *, parked: bool = True) -> Any:
    """The open question, once it is this one."""

    def is_open() -> bool:
        found = server.client.get(f"/runs/{run}").json()
        assert found["outcome"] is None, found
        return any(one["prompt"] == prompt for one in found["questions"]) and (found["owner_age"] is None) == parked

    until(is_open)
    return server.client.get(f"/runs/{run}").json()["questions"][0]


def say(server: Server, run: str, question: Any, value: Any) -> int:
    body = {"question": question["question"], "value": value}
    return server.client.post(f"/runs/{run}/answer", json=body).status_code


def test_an_agent_with_a_gated_tool_over_restarts(tmp_path: Path) -> None:
    """Two calls at once are two questions, one after the other; each is answered by another server than the one that asked."""

    def make(saver: Any) -> Any:
        return create_agent(Recorded(replies=replies), [add], checkpointer=saver)

    replies = [calling(), answer()]
    app = App(tmp_path, make)
    with serve(app.app) as server:
        run = start(server)
        asked = waits(server, run, "Add 1 and 2?")
        assert asked["options"] == ["yes", "no"] and asked["data"]["question"] == "Add 1 and 2?"
        assert say(server, run, asked, "perhaps") == 422
    replies = [answer()]  # the model goes on where the checkpoint stands
    app = App(tmp_path, make)
    with serve(app.app) as server:
        assert say(server, run, waits(server, run, "Add 1 and 2?"), "yes") == 200
        asked = waits(server, run, "Add 3 and 4?")
    app = App(tmp_path, make)
    with serve(app.app) as server:
        assert say(server, run, asked, "no") == 200
        found = app.events(server, run)
        assert found[-1].outcome == "completed", found[-1]
        ended = {one.call: one.output for one in found if isinstance(one, e.ToolEnded)}
        assert sorted(map(str, ended.values())) == ["-1", "3"]
        assert sum(isinstance(one, e.ToolStarted) for one in found) == 2, "the calls stayed open over the questions"
        assert not [one for one in found if isinstance(one, e.Data) and one.name == "interrupt"]
        assert server.client.get(f"/runs/{run}/transcript").json()["text"].endswith("Three and seven.")
        assert server.client.get(f"/runs/{run}").json()["epoch"] == 3


@pytest.mark.parametrize("resume", [True, False])
def test_question_after_question(resume: bool) -> None:
    """Without a declared `resume` the same graph waits live."""
    app = App(None, lambda saver: builder().compile(checkpointer=saver), resume=resume)
    with serve(app.app) as server:
        run = start(server)
        assert say(server, run, waits(server, run, "Your name?", parked=resume), "Ann") == 200
        asked = waits(server, run, "How many?", parked=resume)
        assert asked["schema"] == {"type": "integer"}
        assert say(server, run, asked, "three") == 422
        assert say(server, run, asked, 3) == 200
        found = app.events(server, run)
        assert found[-1].outcome == "completed", found[-1]
        assert server.client.get(f"/runs/{run}/transcript").json()["text"] == "First Ann. Then 3."


def test_a_graph_without_a_checkpointer_cannot_ask() -> None:
    app = App(None, lambda saver: StateGraph(MessagesState).add_node("one", lambda _: {"messages": [("ai", "Hi.")]}).add_edge(START, "one").compile())  # noqa: E501  # fmt: skip
    with serve(app.app) as server:
        run = start(server)
        assert app.events(server, run)[-1].outcome == "completed"


def test_what_is_asked_for_an_interrupt() -> None:
    assert question_of("Sure?") == {"prompt": "Sure?", "schema": {}}
    assert question_of({"message": "Sure?", "n": 1}) == {
        "prompt": "Sure?", "schema": {}, "data": {"message": "Sure?", "n": 1},
    }  # fmt: skip
    assert question_of({"question": "Sure?", "options": ["a"]})["options"] == ["a"]
    assert question_of({"question": "Sure?", "options": [1]})["schema"] == {}
    assert question_of(None)["prompt"].startswith("The agent")
