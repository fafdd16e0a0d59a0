"""The applications that the README shows, each as a server of its own against a provider that is not ours."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.upstream.aimock import KEY, Upstream, aimock, says

from tidelog.testing import Process, rebuild, serve_process, watch

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    calls = [
        {"id": "t1", "name": "Add", "arguments": json.dumps({"a": 2, "b": 3})},
        {"id": "t2", "name": "Clock", "arguments": json.dumps({"zone": "Asia/Tokyo"})},
    ]
    with aimock(
        says("again", turnIndex=1, content="The moon, as I said."),
        says("Why", content="Because of the moon."),
        says("gate", systemMessage="[1] The gate opens at nine.", content="At nine. [1]"),
        says("strange", hasToolResult=True, content="I see."),
        says(
            "strange",
            toolCalls=[
                {"id": "t1", "name": "Multiply", "arguments": "{}"},
                {"id": "t2", "name": "Clock", "arguments": json.dumps({"zone": "Moon/Sea"})},
            ],
        ),
        says("sum", hasToolResult=True, content="It is 5."),
        says("sum", toolCalls=calls),
    ) as upstream:
        yield upstream


@pytest.fixture
def env(upstream: Upstream) -> dict[str, str]:
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{upstream.url}/v1", "NO_PROXY": "127.0.0.1"}


def started(name: str, folder: Path, env: dict[str, str]) -> Process:
    """The example in a folder of its own: it keeps its database in the working directory."""
    for file in (f"{name}.py", "backend.py", "tools.py"):
        shutil.copy(EXAMPLES / file, folder)
    return serve_process(f"{name}:app", cwd=folder, env=env)


def events(server: Process, path: str, question: str, **headers: str) -> list[dict[str, Any]]:
    """Every event of the run, which completes."""
    with watch(f"{server.url}{path}", json={"question": question}, headers=headers) as viewer:
        found = [frame.json for frame in viewer.rest()]
    assert found[-1]["outcome"] == "completed", found[-1]
    return found


def test_a_chat_remembers(tmp_path: Path, env: dict[str, str]) -> None:
    with started("chat", tmp_path, env) as server:
        thread = {"Thread-Id": "tides"}
        assert rebuild(events(server, "/chat", "Why do tides rise?", **thread)) == "Because of the moon."
        assert rebuild(events(server, "/chat", "Say it again.", **thread)) == "The moon, as I said."


def test_an_answer_from_documents(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/gate.md").write_text("The shop is red.\n\nThe gate opens at nine.")
    with started("rag", tmp_path, env) as server:
        found = events(server, "/rag", "When does the gate open?")
    kinds = [one["type"] for one in found]
    assert kinds[1] == "sources"
    assert found[1]["sources"][0]["quote"] == "The gate opens at nine."
    assert rebuild(found) == "At nine. [1]"


def test_an_agent_and_its_two_tools(tmp_path: Path, env: dict[str, str]) -> None:
    with started("agent", tmp_path, env) as server:
        found = events(server, "/agent", "What is the sum of 2 and 3?")
    assert [one["name"] for one in found if one["type"] == "tool.started"] == ["Add", "Clock"]
    ended = {one["call"]: one["output"] for one in found if one["type"] == "tool.ended"}
    assert ended["t1"] == 5.0
    assert ended["t2"].endswith("+09:00")
    assert rebuild(found) == "It is 5."


def test_a_call_that_makes_no_sense_is_told_to_the_model(tmp_path: Path, env: dict[str, str]) -> None:
    with started("agent", tmp_path, env) as server:
        found = events(server, "/agent", "A strange call")
    outputs = [one["output"] for one in found if one["type"] == "tool.ended"]
    assert outputs[0].startswith("There is no Multiply({}); there are the tools Add")
    assert outputs[1].startswith("There is no Clock")
    assert rebuild(found) == "I see."


def test_a_wrong_key_is_a_status(tmp_path: Path, env: dict[str, str]) -> None:
    with started("chat", tmp_path, {**env, "OPENAI_API_KEY": "wrong"}) as server:
        viewer = watch(f"{server.url}/chat", json={"question": "Why?"})
        assert (viewer.status, viewer.json["code"]) == (502, "provider_error")
        assert viewer.json["detail"] == "The provider refused the key."


def test_the_curl_of_the_page(tmp_path: Path, env: dict[str, str]) -> None:
    """Each line names one of the three, with a body that it takes."""
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents/gate.md").write_text("The gate opens at nine.")
    for line in (EXAMPLES / "models.sh").read_text(encoding="utf-8").splitlines():
        [path] = re.findall(r"http://127\.0\.0\.1:8000(/\w+)$", line)
        [body] = re.findall(r"--json '(.*?)'", line)
        with started(path[1:], tmp_path, env) as server:
            assert events(server, path, json.loads(body)["question"])[-1]["outcome"] == "completed"
