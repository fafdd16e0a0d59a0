"""`/agent`: with a model's server that is not ours, and by the script where there is no model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.apps.talk import CORPUS, KINDS, Kind, choice, events, of_type, serving, text
from tests.upstream.aimock import Upstream, aimock, cuts, says

from tidelog.apps.agent import ROUNDS
from tidelog.apps.main import make_app
from tidelog.apps.prompts import GO_ON
from tidelog.testing import Server, rebuild, serve

COUNTED = "One two three four five six seven eight."


def tool(id: str, name: str, **arguments: Any) -> dict[str, Any]:
    return {"id": id, "name": name, "arguments": json.dumps(arguments)}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("deposit times", hasToolResult=True, content="It is 280 euros. [1]", chunkSize=5),
        says(
            "deposit times",
            content="Let me see.",
            toolCalls=[
                tool("t1", "calculator", expression="40 * 7"),
                tool("t2", "search", query="What is the deposit?"),
            ],
        ),
        says("divide", hasToolResult=True, content="One cannot divide by zero.", chunkSize=5),
        says("divide", toolCalls=[tool("t1", "calculator", expression="1 / 0")]),
        says("forever", toolCalls=[tool("same", "clock", place="UTC")]),
        says(GO_ON[:20], content=COUNTED, chunkSize=5),
        cuts("count", after=6, content=COUNTED),
    ) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=KINDS)
def server(upstream: Upstream, request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    with serving(choice(kind, upstream.url)) as server:
        yield server


def ended(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["call"]: one for one in of_type(found, "tool.ended")}


def test_two_calls_at_once_then_the_answer(server: Server, upstream: Upstream) -> None:
    found = events(server, "/agent", "What is the deposit times seven?", thread="two")
    assert text(found) == "Let me see.It is 280 euros. [1]"
    kinds = [one["type"] for one in found]
    assert found[1]["name"] == "question"
    assert kinds.index("sources") > kinds.index("tool.started")
    inputs = {one["call"]: one["input"] for one in of_type(found, "tool.input")}
    assert inputs == {"t1": {"expression": "40 * 7"}, "t2": {"query": "What is the deposit?"}}
    results = ended(found)
    assert results["t1"]["output"] == {"expression": "40 * 7", "value": "280"}
    assert results["t2"]["output"]["passages"][0]["n"] == 1
    assert "The deposit is 40 euros." in results["t2"]["output"]["passages"][0]["text"]
    (sources,) = of_type(found, "sources")
    assert sources["sources"][0]["id"] == "s1"
    assert "280" in json.dumps(upstream.journal()[-1]["body"]["messages"][-2:])
    messages = server.client.get("/threads/two").json()["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant"]


def test_a_tool_that_fails_is_told_to_the_model(server: Server, upstream: Upstream) -> None:
    found = events(server, "/agent", "Please divide.")
    assert text(found) == "One cannot divide by zero."
    (result,) = ended(found).values()
    assert json.dumps("It divides by zero.") in json.dumps(upstream.journal()[-1]["body"]["messages"][-1])
    assert (result["outcome"], result["error"]) == ("failed", "It divides by zero.")


def test_a_model_that_never_answers_is_stopped(server: Server, upstream: Upstream) -> None:
    """It calls tools in every round, under one id; each call has an ending of its own in the log."""
    upstream.forget()
    found = events(server, "/agent", "Go on forever.")
    assert (found[-1]["outcome"], found[-1]["error"]["code"]) == ("failed", "provider_error")
    assert f"after {ROUNDS} rounds" in found[-1]["error"]["message"]
    assert [one["outcome"] for one in ended(found).values()] == ["completed"] * ROUNDS
    asked = [one["body"] for one in upstream.journal()]
    assert len(asked) == ROUNDS
    assert [one.get("tool_choice") for one in asked[-2:]] in (
        ["auto", "none"],
        [None, None],
    )  # aimock drops Anthropic's


def test_continue_after_a_cut(server: Server) -> None:
    found = events(server, "/agent", "Please count.")
    assert found[-1]["outcome"] == "failed"
    partial = rebuild(found)
    assert 8 <= len(partial) < len(COUNTED)
    more = server.client.post(f"/runs/{found[0]['run']}/continue").json()["run"]
    frames = [frame.json for frame in server.watch(f"/runs/{more}/events").rest()]
    assert frames[1]["text"] == partial
    assert text(frames) == COUNTED


# By the script


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    with serving(None) as server:
        yield server


def test_the_script_computes_and_says_that_it_is_one(plain: Server) -> None:
    found = events(plain, "/agent", "What is 12 * 7, and what time is it in Tokyo?", thread="t")
    said = text(found)
    assert said.startswith("No language model is attached: a script chose the tools")
    assert "12 * 7 = 84" in said
    assert "In Asia/Tokyo it is " in said
    assert [(one["name"], one["data"]) for one in of_type(found, "data")][1] == ("answerer", "scripted")
    assert [one["name"] for one in of_type(found, "tool.started")] == ["calculator", "clock"]
    assert of_type(found, "tool.input")[0]["input"] == {"expression": "12 * 7"}
    assert ended(found)["c1"]["output"] == {"expression": "12 * 7", "value": "84"}
    assert plain.client.get("/threads/t").json()["messages"][0]["role"] == "user"


def test_the_script_searches(plain: Server) -> None:
    found = events(plain, "/agent", "search the deposit")
    assert "The deposit is 40 euros. [1]" in text(found)
    assert of_type(found, "sources")[0]["sources"][0]["id"] == "s1"


def test_the_script_answers_in_the_language_of_the_question(plain: Server) -> None:
    assert text(events(plain, "/agent", "押金")).startswith("没有接入语言模型")
    assert text(events(plain, "/agent", "押金", lang="en")).startswith("No language model")


def test_the_script_groups_a_table(plain: Server) -> None:
    """The corpus has no such table, so that the sample answers, and its name says what it is."""
    found = events(plain, "/agent", "average revenue by product")
    said = text(found)
    assert "Sample: sales of an invented shop" in said
    rows = [line for line in said.splitlines() if line.startswith("|")]
    assert rows[0] == "| product | avg_revenue |"
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| coffee", "| cups", "| tea"]


def test_the_script_reads_tables_of_documents(tmp_path: Path) -> None:
    (tmp_path / "prices.md").write_text(
        "# Prices\n\n| city | price |\n|---|---|\n| Bern | 4 |\n| Bern | 8 |\n| Basel | 5 |\n"
    )
    with serving(None, tmp_path) as server:
        assert "| Bern | 6.0 |" in text(events(server, "/agent", "average price by city"))
        assert "- Prices: city, price" in text(events(server, "/agent", "average weight by city"))


def test_a_tool_of_the_script_that_fails_is_told(plain: Server) -> None:
    said = text(events(plain, "/agent", "1 / 0"))
    assert "`calculator` failed: It divides by zero." in said


def test_the_script_continues(plain: Server) -> None:
    question = {"question": "search the deposit", "pace": 60}
    viewer = plain.watch("/agent", json=question)
    viewer.until("text.delta")
    plain.client.post(f"/runs/{viewer.run}/stop")
    viewer.rest()
    more = plain.client.post(f"/runs/{viewer.run}/continue").json()["run"]
    frames = [frame.json for frame in plain.watch(f"/runs/{more}/events").rest()]
    assert text(frames) == text(events(plain, "/agent", "search the deposit"))


@pytest.mark.parametrize(("question", "value", "outcome", "said"), [
    ("Send a mail to Ann: the tide is in.", "send", "completed", "You agreed: now the mail to Ann would leave."),
    ("Send a mail to Ann: the tide is in.", "do not send", "stopped", "You did not agree: the mail to Ann was not sent."),
    ("给 Ann 发邮件：涨潮了。", "发送", "completed", "您已同意"),
])  # fmt: skip
@pytest.mark.parametrize("moves", [False, True], ids=["", "to another process"])
def test_the_script_asks_before_it_sends(
    question: str, value: str, outcome: str, said: str, moves: bool, tmp_path: Path
) -> None:
    """Whether the run waits where it stands, or its process goes before the answer comes."""

    def app() -> FastAPI:
        return make_app(f"sqlite:///{tmp_path}/logs.db", str(CORPUS), drain_timeout=1.0)

    with ExitStack() as first:
        server = first.enter_context(serve(app()))
        viewer = first.enter_context(server.watch("/agent", json={"question": question}))
        asked = viewer.until("question.asked")[-1].json
        assert asked["data"]["to"] == "Ann" and value in asked["options"]
        if moves:
            first.close()
            server = first.enter_context(serve(app()))
        path = f"/runs/{viewer.run}"
        answer = server.client.post(f"{path}/answer", json={"question": "q1", "value": value})
        assert answer.status_code == 200, answer.text
        found = [frame.json for frame in server.watch(f"{path}/events").rest()]
        assert server.client.get(path).json()["epoch"] == 1 + moves
    assert [one["outcome"] for one in of_type(found, "tool.ended")] == [outcome]
    assert text(found).startswith(said)
