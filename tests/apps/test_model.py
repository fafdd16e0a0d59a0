"""The attached model: how it is chosen, what is sent, and what is told when its server is wrong, gone, slow or cut off."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.apps.talk import CORPUS, KINDS, Kind, choice, events, of_type, problem, serving, text
from tests.test_cli import free_port, popen, run
from tests.upstream.aimock import Upstream, aimock, cuts, fails, says, stalls
from tests.upstream.tap import tap

from tidelog import SourceError, TidelogError
from tidelog.apps.main import answering, make_app
from tidelog.apps.model import first_name
from tidelog.apps.model_choice import ANTHROPIC_MODEL, OPENAI_MODEL, VARIABLES, Choice, choose
from tidelog.apps.model_wire import AnthropicWire, Asked, OpenAIWire
from tidelog.apps.tools import Call, Said
from tidelog.testing import Server, serve

BOTH = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": "a"}
LOCAL = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1"}


# Which one it is


@pytest.mark.parametrize(
    ("given", "name", "provider", "found"),
    [
        ({"OPENAI_API_KEY": "o"}, None, "openai", OPENAI_MODEL),
        ({"OPENAI_API_KEY": "o"}, "gpt-5.4", "openai", "gpt-5.4"),
        ({"ANTHROPIC_API_KEY": "a"}, None, "anthropic", ANTHROPIC_MODEL),
        ({"ANTHROPIC_API_KEY": "a"}, "claude-opus-5", "anthropic", "claude-opus-5"),
        (BOTH, None, "openai", OPENAI_MODEL),
        (BOTH, "claude-opus-5", "anthropic", "claude-opus-5"),
        (BOTH, "o3", "openai", "o3"),
        (LOCAL, None, "compatible", None),
        (LOCAL, "qwen3", "compatible", "qwen3"),
        (LOCAL, "claude-opus-5", "compatible", "claude-opus-5"),
        ({**LOCAL, **BOTH}, "claude-opus-5", "anthropic", "claude-opus-5"),
        ({**LOCAL, **BOTH}, None, "compatible", None),
        ({"OPENAI_API_KEY": "o", "OPENAI_BASE_URL": "https://api.openai.com/v1/"}, None, "openai", OPENAI_MODEL),
    ],
)
def test_the_environment_chooses(given: dict[str, str], name: str | None, provider: str, found: str | None) -> None:
    chosen = choose(given, name)
    assert chosen is not None
    assert (chosen.provider, chosen.name) == (provider, found)


@pytest.mark.parametrize("given", [{}, {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": " "}])
def test_nothing_attached(given: dict[str, str]) -> None:
    assert choose(given) is None


@pytest.mark.parametrize(
    ("given", "name", "words"),
    [
        ({}, "gpt-5.4", "set OPENAI_API_KEY, OPENAI_BASE_URL, ANTHROPIC_API_KEY"),
        ({"OPENAI_API_KEY": "o"}, "claude-opus-5", "needs ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_API_KEY": "a"}, "gpt-5.4", "needs OPENAI_API_KEY"),
        ({"OPENAI_BASE_URL": "secret@host"}, None, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_BASE_URL": "ftp://secret@host/v1"}, None, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_BASE_URL": "http://secret@host:port/"}, None, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_BASE_URL": "http://secret@a\x01b/v1"}, None, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_API_KEY": "secret\n\u00e9"}, None, "OPENAI_API_KEY holds characters"),
    ],
)
def test_what_cannot_be_chosen(given: dict[str, str], name: str | None, words: str) -> None:
    with pytest.raises(TidelogError, match=words) as caught:
        choose(given, name)
    assert "secret" not in str(caught.value)


def test_credentials_are_kept_apart() -> None:
    chosen = choose({"OPENAI_BASE_URL": "http://me:pass%40word@[::1]:8080", "OPENAI_API_KEY": "key"})
    assert chosen is not None
    assert (chosen.url, chosen.place, chosen.login) == (
        "http://[::1]:8080/v1",
        "http://[::1]:8080",
        ("me", "pass@word"),
    )
    assert "pass" not in repr(chosen)
    assert "key='" not in repr(chosen)


LISTED = {"data": [{"id": "nomic-embed-text"}, {"id": "qwen3"}, {"id": "llama4"}]}


def test_the_first_model_that_chats() -> None:
    chosen = Choice("compatible", "http://h/v1", None)
    assert first_name(json.dumps(LISTED).encode(), chosen) == "qwen3"
    for listed, words in (
        ({"data": LISTED["data"][:1]}, "no model loaded"),
        ([], "cannot be read"),
        ({}, "cannot be read"),
    ):
        with pytest.raises(SourceError, match=words):
            first_name(json.dumps(listed).encode(), chosen)


# What is sent and heard, without a server


@pytest.mark.parametrize(
    ("name", "effort"), [("gpt-6-luna", "none"), ("gpt-5.1", "none"), ("gpt-5", None), ("o3", None)]
)
def test_new_models_of_openai_take_tools_without_thinking(name: str, effort: str | None) -> None:
    asked = Asked("", [], tools=(TOOL,))
    assert OpenAIWire(own=True).body(name, asked).get("reasoning_effort") == effort
    assert "reasoning_effort" not in OpenAIWire(own=False).body(name, asked)
    assert "reasoning_effort" not in OpenAIWire(own=True).body(name, Asked("", []))


def test_the_last_round_is_without_tools() -> None:
    asked = Asked("", [], tools=(TOOL,), may_call=False)
    assert OpenAIWire(own=False).body("m", asked)["tool_choice"] == "none"
    assert AnthropicWire().body("m", asked)["tool_choice"] == {"type": "none"}
    assert AnthropicWire().body("m", asked._replace(may_call=True))["tool_choice"] == {"type": "auto"}


class _Named:
    name, description, schema = "add", "Adds.", {"type": "object"}


TOOL: Any = _Named()


def fragment(index: int | None, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    found = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {"choices": [{"delta": {"tool_calls": [{key: value for key, value in found.items() if value is not None}]}}]}


def ids(chunk: dict[str, Any]) -> Any:
    return chunk["choices"][0]["delta"]["tool_calls"][0].get("id")


def test_ids_that_were_used_are_replaced() -> None:
    """By a server that gives none, gives the same one each time, or one index to all."""
    used = {"c1"}
    hearing = OpenAIWire(own=False).hearing(used)
    chunks = [
        fragment(0, "c1", "add", '{"a":'), fragment(0, None, None, " 1}"), fragment(0, "c2", "add", "{}"),
        fragment(1, None, "add", ""), fragment(None, None, "add", "[1]"), fragment(None, None, "add", "{"),
    ]  # fmt: skip
    for chunk in chunks:
        hearing.take(chunk)
    names = [one.id for one in hearing.calls]
    assert [one.input for one in hearing.calls] == [{"a": 1}, {}, {}, None, None]
    assert len({*names, "c1"}) == 6
    assert [ids(chunk) for chunk in chunks] == [names[0], None, *names[1:]]
    assert {*names} < used
    answer, *results = hearing.after([Said(call, "ok") for call in hearing.calls])
    assert [call["id"] for call in answer["tool_calls"]] == [one["tool_call_id"] for one in results] == names
    assert [call["function"]["arguments"] for call in answer["tool_calls"]] == ['{"a": 1}', "{}", "{}", "{}", "{}"]


def test_thoughts_go_back_as_they_came() -> None:
    hearing = AnthropicWire().hearing({"t1"})
    blocks = [
        {"type": "thinking", "thinking": ""}, {"type": "text", "text": ""}, {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {}}, {"type": "text", "text": " "},
    ]  # fmt: skip
    deltas = {
        0: [{"thinking": "Hm."}, {"signature": "s"}],
        1: [{"text": "A "}, {"text": "b"}],
        3: [{"partial_json": '{"a":1}'}],
    }
    for index, block in enumerate(blocks):
        hearing.take({"type": "content_block_start", "index": index, "content_block": block})
        for delta in deltas.get(index, []):
            hearing.take({"type": "content_block_delta", "index": index, "delta": delta})
    assert not hearing.whole
    hearing.take({"type": "message_stop"})
    assert hearing.whole
    (call,) = hearing.calls
    assert call == Call(str(blocks[3]["id"]), "add", {"a": 1})
    assert call.id != "t1"
    answer, results = hearing.after([Said(call, "no", failed=True)])
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "A b"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": call.id, "name": "add", "input": {"a": 1}},
    ]
    assert results["content"][0] == {"type": "tool_result", "tool_use_id": call.id, "content": "no", "is_error": True}


# A server that answers, or does not


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with aimock(
        says("tides", content="Because of the moon.", chunkSize=5, usage={"prompt_tokens": 7, "completion_tokens": 3}),
        fails("busy", 429, retry_after=120),
        fails("broke", 429, code="insufficient_quota"),
        fails("lost", 404, code="model_not_found"),
        fails("bad", 400),
        says("flaky", match={"sequenceIndex": 0}, error={"message": "no", "type": "error"}, status=503),
        says("flaky", content="Here I am.", chunkSize=5),
        cuts("cut", after=6, content="One two three four five six seven eight."),
        stalls("stall", after=6, content="One two three four five six seven eight."),
        stalls("silent", after=0, content="Never."),
    ) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def server(upstream: Upstream, kind: Kind) -> Iterator[Server]:
    with serving(choice(kind, upstream.url)) as server:
        yield server


def test_an_answer_with_its_usage(server: Server, kind: Kind) -> None:
    found = events(server, "/chat", "Why tides?")
    assert text(found) == "Because of the moon."
    assert found[1] == {"seq": 2, "type": "data", "name": "question", "data": "Why tides?"}
    if kind == "compatible":
        assert found[-1]["usage"] == {"input": 7, "output": 3, "source": "provider"}


def test_about_names_the_model(server: Server, kind: Kind) -> None:
    found = server.client.get("/about").json()
    assert found["answerer"] == "model"
    assert found["model"]["provider"] == kind
    assert found["model"]["name"] in ("gpt-6-luna", "claude-sonnet-5-5")
    assert found["apps"] == ["rag", "chat", "agent"]


@pytest.mark.parametrize("path", ["/chat", "/rag", "/agent"])
def test_a_wrong_key_is_a_status(upstream: Upstream, kind: Kind, path: str) -> None:
    with serving(choice(kind, upstream.url, "wrong")) as server:
        answer = problem(server, path, "Why tides?")
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (502, "provider_error", False)
    variable = "ANTHROPIC_API_KEY" if kind == "anthropic" else "OPENAI_API_KEY"
    assert answer.json()["detail"] == f"{upstream.url} refused the key: check {variable}."
    assert "wrong" not in answer.text


@pytest.mark.parametrize("path", ["/chat", "/rag", "/agent"])
def test_a_dead_server_is_a_status(kind: Kind, path: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with serving(choice(kind, url)) as server:
        answer = problem(server, path, "Why tides?")
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_error")
    assert answer.json()["detail"] == f"The model server at {url} cannot be reached: is it running?"


@pytest.mark.parametrize(
    ("question", "status", "code", "words"),
    [
        ("busy", 429, "rate_limited", "The provider is busy."),
        ("lost", 502, "provider_error", "choose another with --model"),
        ("bad", 502, "provider_error", "The provider refused the request."),
    ],
)
def test_what_a_provider_refuses(server: Server, question: str, status: int, code: str, words: str) -> None:
    answer = problem(server, "/chat", question)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert words in answer.json()["detail"]
    assert answer.headers.get("retry-after") == ("120" if question == "busy" else None)


def test_an_account_without_credit(upstream: Upstream) -> None:
    with serving(choice("compatible", upstream.url)) as server:
        answer = problem(server, "/chat", "broke")
    assert (answer.status_code, answer.json()["detail"]) == (
        502,
        "The provider says that the account has no credit left.",
    )


def test_a_provider_that_is_late_is_asked_again(upstream: Upstream) -> None:
    with serving(choice("compatible", upstream.url)) as server:
        found = events(server, "/chat", "flaky")
    assert text(found) == "Here I am."
    (attempt,) = of_type(found, "progress")
    assert (attempt["task"], attempt["done"], attempt["total"]) == ("attempt", 2, 2)


def test_a_cut_in_the_middle_is_told_in_band(server: Server) -> None:
    found = events(server, "/chat", "cut")
    assert (found[-1]["outcome"], found[-1]["error"]["code"]) == ("failed", "provider_error")
    assert found[-1]["error"]["message"] == "The connection to the model server was cut."
    assert "continue" in found[-1]["can"]
    assert of_type(found, "text.delta")


@pytest.mark.parametrize("question", ["stall", "silent"])
def test_stop_closes_the_connection(
    upstream: Upstream, kind: Kind, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an answer, and before the model has said anything at all."""
    monkeypatch.setattr("tidelog.apps.model.HOLD", 0.1)
    with tap(upstream.url) as line, serving(choice(kind, line.url)) as server:
        viewer = server.watch("/chat", json={"question": question}, headers={"Prefer": "respond-async"}, accept=None)
        run = viewer.run
        line.wait(opened=1, sent=300 if question == "stall" else 0)
        watching = server.watch(f"/runs/{run}/events")
        watching.until("text.delta" if question == "stall" else "data")
        assert server.client.post(f"/runs/{run}/stop").json() == {"result": "stopped"}
        line.wait(left=1)
        assert watching.rest()[-1].json["outcome"] == "stopped"


def test_a_silent_server_holds_no_sources_back(upstream: Upstream, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows yet whether it will answer; the sources are there all the same."""
    monkeypatch.setattr("tidelog.apps.model.HOLD", 0.1)
    with serving(choice(kind, upstream.url)) as server:
        found = [frame.json for frame in server.watch("/rag", json={"question": "silent deposit"}).until("sources")]
        assert [one["type"] for one in found] == ["run.started", "data", "progress", "sources"]


# Servers of other kinds


def request(near: socket.socket) -> bytes:
    """All of a request: a connection that is closed with bytes unread is reset."""
    head, _, body = near.recv(65536).partition(b"\r\n\r\n")
    length = int((re.search(rb"content-length: (\d+)", head.lower()) or [b"", b"0"])[1])
    while len(body) < length:
        body += near.recv(65536)
    return head + body


@contextlib.contextmanager
def answers(
    *bodies: bytes, kind: str = "text/event-stream", status: str = "200 OK"
) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each connection with the next of these bodies and closes it; its URL, and the requests."""
    seen: list[bytes] = []

    def work(listener: socket.socket) -> None:
        for body in bodies:
            with contextlib.suppress(OSError):
                near, _ = listener.accept()
                with near:
                    seen.append(request(near))
                    near.sendall(
                        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode() + body
                    )

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def said(*words: str, last: str = "[DONE]") -> bytes:
    chunks = [json.dumps({"choices": [{"delta": {"content": word}}]}) for word in words]
    return "".join(f"data: {data}\n\n" for data in (*chunks, *([last] if last else []))).encode()


def test_the_name_of_a_model_is_told_when_it_is_known() -> None:
    """Not before: whoever reads `/about` must not take an address for a model."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    app = make_app("memory:", drain_timeout=0.0, model=choose({"OPENAI_BASE_URL": url}))
    with serve(app) as server:
        assert server.client.get("/about").json()["model"] == {"name": None, "provider": "compatible", "place": url}
        assert answering(app) == f"the model server at {url} has not named its model yet"


def test_a_server_without_a_name_is_asked_once() -> None:
    with answers(json.dumps(LISTED).encode(), said("One"), said("Two")) as (url, seen):
        chosen = choose({"OPENAI_BASE_URL": url.replace("//", "//me:word@")})
        assert chosen is not None
        app = make_app("memory:", drain_timeout=0.0, model=chosen)
        with serve(app) as server:
            assert server.client.get("/about").json()["model"] == {
                "name": "qwen3",
                "provider": "compatible",
                "place": url,
            }
            assert answering(app) == f"qwen3 answers ({url})"
            assert text(events(server, "/chat", "x")) == "One"
            assert text(events(server, "/chat", "x")) == "Two"
    assert [one.split(b" ")[1] for one in seen] == [b"/v1/models", b"/v1/chat/completions", b"/v1/chat/completions"]
    assert all(b"authorization: basic bwu6d29yza==" in one.lower() for one in seen)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (said("Half", last=""), "text/event-stream", "200 OK", "ended its answer too early"),
        (b"data: {broken\n\n", "text/event-stream", "200 OK", "sent what cannot be read"),
        (b"data: [1]\n\n", "text/event-stream", "200 OK", "sent what cannot be read"),
        (b"data: " + b"x" * 1_100_000, "text/event-stream", "200 OK", "sent what cannot be read"),
        (b"{}", "application/json", "200 OK", "does not stream its answers"),
        (b"<html>", "text/html", "404 Not Found", "is no model server, or not at"),
        (b"", "text/html", "302 Found", "is no model server, or not at"),
        (b"", "text/html", "403 Forbidden", "wants a key: set OPENAI_API_KEY"),
    ],
)
def test_servers_that_are_none(body: bytes, kind: str, status: str, words: str) -> None:
    with (
        answers(body, body, kind=kind, status=status) as (url, _),
        serving(choose({"OPENAI_BASE_URL": url}, "m")) as server,
    ):
        found = server.client.post("/chat", json={"question": "x"}, headers={"Accept": "application/json"}).json()
    assert words in (found.get("detail") or found["error"]["message"])


# The command line

NO_KEYS = dict.fromkeys(VARIABLES, "")


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (["--model", "gpt-5.4"], {}, "The model gpt-5.4 needs a key or a server"),
        ([], {"TIDELOG_MODEL": "gpt-5.4"}, "The model gpt-5.4 needs a key or a server"),
        (["--model", "gpt-5.4"], {"ANTHROPIC_API_KEY": "a"}, "needs OPENAI_API_KEY"),
        (["app:app", "--model", "gpt-5.4"], {}, "--model is for the built-in applications"),
    ],
)
def test_a_model_that_cannot_be_is_told_at_once(
    tmp_path: Path, arguments: list[str], env: dict[str, str], words: str
) -> None:
    code, out, err = run("serve", *arguments, folder=tmp_path, **{**NO_KEYS, **env})
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "no language model is attached"),
        ({"ANTHROPIC_API_KEY": "a", "TIDELOG_MODEL": "claude-opus-5"}, "claude-opus-5 answers (api.anthropic.com)"),
    ],
)
def test_the_first_line_tells_who_answers(tmp_path: Path, env: dict[str, str], words: str) -> None:
    command = ("serve", "--store", "memory:", "--docs", str(CORPUS), "--port", str(free_port()))
    with popen(command, tmp_path, env={**NO_KEYS, **env}) as process:
        assert process.stdout is not None
        try:
            assert f" - {words}; prompts and answers are kept in memory" in process.stdout.readline()
        finally:
            process.kill()
