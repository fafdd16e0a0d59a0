"""`/chat` and `/rag` with a model's server that is not ours, and `/chat` without a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.apps.talk import KINDS, Kind, choice, events, of_type, serving, text
from tests.upstream.aimock import Upstream, aimock, cuts, says

from tidelog.apps.prompts import GO_ON, conversation
from tidelog.testing import Server, rebuild

WHOLE = "The moon pulls the water, and the water follows it around."


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("How old", turnIndex=1, content="Four billion years, as I said of the moon.", chunkSize=6),
        says("the moon", content="It is a stone.", chunkSize=6),
        cuts("tides", after=6, content=WHOLE, chunkSize=4),
        says(GO_ON[:20], content=WHOLE, chunkSize=3),
        says("deposit", systemMessage="[1] Millbrook Bicycles", content="It is 40 euros. [1]", chunkSize=4),
        says("gravity", systemMessage="No passage was found", content="The documents do not say.", chunkSize=4),
    ) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=KINDS)
def server(upstream: Upstream, request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    with serving(choice(kind, upstream.url)) as server:
        yield server


def sent(upstream: Upstream) -> Any:
    """The body of the last request."""
    return upstream.journal()[-1]["body"]


def thread(server: Server, name: str) -> list[tuple[str, str]]:
    found = server.client.get(f"/threads/{name}").json()
    assert found["active"] is None
    return [(one["role"], one["content"]) for one in found["messages"]]


def test_a_conversation_in_two_turns(server: Server, upstream: Upstream) -> None:
    first = events(server, "/chat", "What is the moon?", thread="moon")
    assert text(first) == "It is a stone."
    second = events(server, "/chat", "How old is it?", thread="moon")
    assert text(second) == "Four billion years, as I said of the moon."
    said = [one for one in sent(upstream)["messages"] if one["role"] != "system"]
    assert [(one["role"], one["content"]) for one in said] == [
        ("user", "What is the moon?"), ("assistant", "It is a stone."), ("user", "How old is it?"),
    ]  # fmt: skip
    assert thread(server, "moon") == [
        ("user", "What is the moon?"), ("assistant", "It is a stone."), ("user", "How old is it?"), ("assistant", text(second)),
    ]  # fmt: skip


def test_continue_after_a_cut(server: Server, upstream: Upstream) -> None:
    """The model gets its own beginning back, and repeats all of it, which is dropped."""
    found = events(server, "/chat", "Why tides?", thread="tides")
    assert found[-1]["outcome"] == "failed"
    partial = rebuild(found)
    assert WHOLE.startswith(partial)
    assert 8 <= len(partial) < len(WHOLE)
    more = server.client.post(f"/runs/{found[0]['run']}/continue").json()["run"]
    frames = [frame.json for frame in server.watch(f"/runs/{more}/events").rest()]
    assert text(frames) == WHOLE
    assert frames[1]["type"] == "text.snapshot"
    *_, question, answer, last = sent(upstream)["messages"]
    assert (question["content"], answer["content"], last["content"]) == ("Why tides?", partial, GO_ON)
    assert thread(server, "tides") == [("user", "Why tides?"), ("assistant", WHOLE)]


def test_an_answer_from_documents_cites_them(server: Server) -> None:
    found = events(server, "/rag", "What is the deposit?", thread="rag")
    assert text(found) == "It is 40 euros. [1]"
    kinds = [one["type"] for one in found]
    assert kinds[:4] == ["run.started", "data", "progress", "sources"]
    assert kinds.index("text.delta") > 3
    (sources,) = of_type(found, "sources")
    assert (sources["sources"][0]["id"], sources["sources"][0]["quote"]) == ("s1", "The deposit is 40 euros.")
    assert thread(server, "rag") == [("user", "What is the deposit?"), ("assistant", "It is 40 euros. [1]")]


def test_passages_are_sent_whole(server: Server, upstream: Upstream) -> None:
    answer = server.client.get("/rag", params={"question": "What is the deposit?"}).json()
    assert answer["text"] == "It is 40 euros. [1]"
    body = sent(upstream)
    system = next((one["content"] for one in body["messages"] if one["role"] == "system"), "")
    assert "The deposit is 40 euros." in system
    assert f"[{len(answer['sources'])}] " in system
    assert f"[{len(answer['sources']) + 1}] " not in system


def test_what_is_not_there_the_model_is_told(server: Server) -> None:
    found = events(server, "/rag", "quantum gravity")
    assert text(found) == "The documents do not say."
    assert of_type(found, "sources")[0]["sources"] == []


# Without a model


@pytest.fixture(scope="module")
def plain() -> Iterator[Server]:
    with serving(None) as server:
        yield server


def test_without_a_model_the_documents_answer_and_say_so(plain: Server) -> None:
    found = events(plain, "/chat", "What is the deposit?", thread="t")
    assert text(found).startswith("The deposit is 40 euros. [1]")
    assert [(one["name"], one["data"]) for one in of_type(found, "data")] == [
        ("question", "What is the deposit?"), ("answerer", "extractive"),
    ]  # fmt: skip
    assert found[1]["name"] == "question"
    assert of_type(found, "sources")
    assert thread(plain, "t")[0] == ("user", "What is the deposit?")


def test_the_built_in_answer_continues_where_it_stopped(plain: Server) -> None:
    whole = text(events(plain, "/chat", "How do I lock the bike?"))
    viewer = plain.watch("/chat", json={"question": "How do I lock the bike?", "pace": 100})
    viewer.until("text.delta")
    plain.client.post(f"/runs/{viewer.run}/stop")
    partial = rebuild([*viewer.frames, *viewer.rest()])
    assert 0 < len(partial) < len(whole)
    more = plain.client.post(f"/runs/{viewer.run}/continue").json()["run"]
    plain.client.post(f"/runs/{more}/stop")
    more = plain.client.post(f"/runs/{more}/continue").json()["run"]
    assert plain.watch(f"/runs/{more}/events").until("text.snapshot")


def test_history_as_models_take_it() -> None:
    def said(*turns: str) -> list[dict[str, str]]:
        return [{"role": {"u": "user", "a": "assistant"}[turn[0]], "content": turn[1:]} for turn in turns]

    assert conversation(said("a0", "u1", "u2", "a3", "u4")) == said("u1\n\n2", "a3", "u4")
    assert conversation(said("u1", "a2")) == [*said("u1", "a2"), {"role": "user", "content": GO_ON}]
    assert conversation([]) == []
