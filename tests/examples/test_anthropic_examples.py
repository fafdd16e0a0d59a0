"""The examples with Anthropic's SDK and with pydantic-ai, each as a server of its own against a provider that is not ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.parts import PATIENCE
from tests.upstream.aimock import KEY, Upstream, aimock, cuts, says

from tidelog.testing import Process, rebuild, serve_process, watch

TIDES = "The moon pulls at the sea, twice a day."
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    tokens = {"usage": {"input_tokens": 7, "output_tokens": 3}}
    with aimock(
        says("Why", content="Because of the moon.", **tokens),
        cuts("cut", after=6, content=TIDES, turnIndex=0),
        says("Your answer broke off", turnIndex=1, content=TIDES),
        says("sum", hasToolResult=True, content="It is 5.", **tokens),
        says("sum", toolCalls=[{"id": "t1", "name": "add", "arguments": {"a": 2, "b": 3}}], **tokens),
    ) as upstream:
        yield upstream


@pytest.fixture
def env(upstream: Upstream) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": upstream.url, "NO_PROXY": "127.0.0.1"}


def started(name: str, folder: Path, env: dict[str, str]) -> Process:
    """The example in a folder of its own: it keeps its database in the working directory."""
    shutil.copy(EXAMPLES / f"{name}.py", folder)
    return serve_process(f"{name}:app", cwd=folder, env=env)


def document(server: Process, path: str, question: str) -> Any:
    headers = {"Accept": "application/json"}
    with httpx2.Client(base_url=server.url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
        return client.post(path, json={"question": question}).json()


def check_stream(server: Process, path: str) -> None:
    """The answer streams, and is there for whoever comes later."""
    with watch(f"{server.url}{path}", json={"question": "Why do tides rise?"}) as viewer:
        frames = viewer.rest()
    assert rebuild(frames) == "Because of the moon."
    last = frames[-1].json
    assert (last["type"], last["outcome"]) == ("run.ended", "completed")
    assert last["usage"] == {"input": 7, "output": 3, "source": "provider"}
    with watch(f"{server.url}/runs/{viewer.run}/events") as again:
        assert rebuild(again.rest()) == "Because of the moon."


def test_a_chat(tmp_path: Path, env: dict[str, str]) -> None:
    with started("anthropic_chat", tmp_path, env) as server:
        check_stream(server, "/chat")


def test_an_agent_and_its_tools(tmp_path: Path, env: dict[str, str]) -> None:
    with started("pydantic_ai_agent", tmp_path, env) as server:
        check_stream(server, "/agent")
        found = document(server, "/agent", "What is the sum of 2 and 3?")
    assert found["text"] == "It is 5."
    (tool,) = (part for part in found["message"]["parts"] if part["type"] == "tool")
    assert (tool["name"], tool["input"], tool["output"], tool["outcome"]) == ("add", {"a": 2, "b": 3}, 5.0, "completed")
    assert found["usage"] == {"input": 14, "output": 6, "source": "provider"}


def test_a_wrong_key_is_told(tmp_path: Path, env: dict[str, str]) -> None:
    with started("anthropic_chat", tmp_path, {**env, "ANTHROPIC_API_KEY": "wrong"}) as server:
        found = document(server, "/chat", "Why do tides rise?")
    assert (found["status"], found["detail"]) == (502, "The provider refused the key.")


def test_an_answer_that_broke_off_goes_on(tmp_path: Path, upstream: Upstream, env: dict[str, str]) -> None:
    """The text so far goes back, with a user's word behind it: Claude answers nobody else."""
    with started("anthropic_chat", tmp_path, env) as server:
        with watch(f"{server.url}/chat", json={"question": "Tell of the cut"}) as viewer:
            before = rebuild(viewer.rest())
        with httpx2.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
            events = client.post(f"/runs/{viewer.run}/continue").json()["events"]
        with watch(f"{server.url}{events}") as later:
            assert rebuild(later.rest()) == TIDES
    assert before and TIDES.startswith(before)
    assert [(one["role"], one["content"]) for one in upstream.journal()[-1]["body"]["messages"][:2]] == [
        ("user", "Tell of the cut"), ("assistant", before),
    ]  # fmt: skip
