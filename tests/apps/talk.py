"""What the tests of the applications with a model share: the application on a server that is not ours, and its answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.upstream.aimock import KEY

from tidelog.apps.main import make_app
from tidelog.apps.model_choice import Choice, choose
from tidelog.testing import Server, rebuild, serve

CORPUS = Path(__file__).parent / "documents" / "corpus"

Kind = Literal["compatible", "anthropic"]
KINDS: tuple[Kind, ...] = ("compatible", "anthropic")


def environ(kind: Kind, url: str, key: str = KEY) -> dict[str, str]:
    """The variables that attach this server. Nothing of the real environment is in them."""
    if kind == "anthropic":
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}
    return {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}


def choice(kind: Kind, url: str, key: str = KEY) -> Choice:
    """The model that these attach."""
    found = choose(environ(kind, url, key), "claude-sonnet-5-5" if kind == "anthropic" else "gpt-6-luna")
    assert found is not None
    return found


@contextmanager
def serving(model: Choice | None, docs: Path = CORPUS) -> Iterator[Server]:
    """The built-in applications with this model."""
    with serve(make_app("memory:", str(docs), drain_timeout=0.0, model=model)) as server:
        yield server


def events(server: Server, path: str, question: str, **more: Any) -> list[dict[str, Any]]:
    """Every event of the run of this question."""
    headers = {"Thread-Id": more.pop("thread")} if "thread" in more else {}
    viewer = server.watch(path, json={"question": question, **more}, headers=headers)
    found = [frame.json for frame in viewer.rest()]
    assert viewer.status == 200, viewer.body
    return found


def text(found: list[dict[str, Any]]) -> str:
    """The text of a run that completed."""
    assert found[-1]["outcome"] == "completed", found[-1]
    return rebuild(found)


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of this type."""
    return [one for one in found if one["type"] == kind]


def problem(server: Server, path: str, question: str) -> Any:
    """The answer to a start that is refused."""
    answer = server.client.post(path, json={"question": question}, headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer
