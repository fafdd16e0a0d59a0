"""Questions over processes, restarts and `kill -9` (spec §10)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.conftest import count
from tests.lasting import LASTING, lasting

from tidelog.testing import Process, serve_process, transcript, watch

ROOT = Path(__file__).parents[2]
PATIENCE = 0.6
"""Of the lease, in seconds."""
LONG = 20.0


@pytest.fixture(params=LASTING)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with lasting(request.param, tmp_path, beat=0.1) as found:
        yield found


def start(store: str) -> Process:
    env = {"APP_STORE": store, "APP_LEASE_PATIENCE": str(PATIENCE)}
    return serve_process("tests.server.asking:app", cwd=ROOT, env=env)


def post(process: Process, path: str, **more: Any) -> httpx2.Response:
    return httpx2.post(process.url + path, timeout=LONG, trust_env=False, **more)


def ask(process: Process, path: str, **params: Any) -> str:
    """Start a run that asks; its id."""
    answer = post(process, path, params=params, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run"])


def answer(process: Process, run: str, value: Any, question: str = "q1") -> httpx2.Response:
    return post(process, f"/runs/{run}/answer", json={"question": question, "value": value})


def state(process: Process, run: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{process.url}/runs/{run}", timeout=LONG, trust_env=False).json()
    return found


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < limit, "never"
        time.sleep(0.02)


def waits(process: Process, run: str) -> bool:
    return bool(state(process, run)["questions"])


def is_parked(process: Process, run: str) -> bool:
    found = state(process, run)
    return bool(found["questions"]) and found["owner_age"] is None


def text(process: Process, run: str) -> str:
    """All that the run said, once it has ended; its log is whole."""
    viewer = watch(f"{process.url}/runs/{run}/events", timeout=LONG)
    events = transcript(viewer.rest())
    assert events[-1]["type"] == "run.ended" and events[-1]["outcome"] == "completed", events[-1]
    assert [event["type"] for event in events].count("question.answered") == 1
    return "".join(event["text"] for event in events if event["type"] == "text.delta")


def test_one_answer_over_processes(store: str) -> None:
    """50 at once to two processes, live and parked: one winner, and the others are told which."""
    with start(store) as one, start(store) as two, ThreadPoolExecutor(50) as pool:
        for path, ready in (("/live", waits), ("/parked", is_parked)):
            run = ask(one, path)
            until(lambda ready=ready, run=run: ready(two, run))  # type: ignore[misc]
            values = ["yes", "no"] * 25
            found = list(pool.map(lambda n: answer((one, two)[n // 2 % 2], run, values[n]), range(50)))  # noqa: B023
            won = {response.json()["value"] for response in found if response.is_success}
            assert len(won) == 1
            lost = [response.json() for response in found if response.status_code == 409]
            assert len(lost) + sum(response.is_success for response in found) == 50
            assert {(each["code"], each["answer"]["value"]) for each in lost} == {("already_answered", *won)}
            assert f"{won.pop()}" in text(two, run)


def test_an_answer_to_another_process_reaches_the_owner(store: str) -> None:
    with start(store) as one, start(store) as two:
        run = ask(one, "/live")
        until(lambda: waits(two, run))
        begun = time.monotonic()
        assert answer(two, run, "yes").json()["result"] == "answered"
        assert time.monotonic() - begun < 5.0
        assert text(two, run) == "Shall I? You said yes."


def test_the_question_outlives_its_process(store: str) -> None:
    """`kill -9` and SIGTERM, between question and answer, parked and live; an answer in the first moment after the restart."""
    for path, ready in (("/parked", is_parked), ("/sync", waits)):
        for kill in (True, False):
            with start(store) as process:
                run = ask(process, path)
                until(lambda process=process, run=run, ready=ready: ready(process, run))  # type: ignore[misc]
                process.kill() if kill else process.terminate()
                process.wait()
            with start(store) as process:
                said = answer(process, run, "yes")
                assert said.is_success, said.text
                told = text(process, run)
                assert told.startswith(
                    "Before. Dear all: answered yes" if path == "/parked" else "Your name? Later yes"
                ), told
                assert state(process, run)["epoch"] == (3 if kill and path == "/sync" else 2)


def test_without_resume_the_truth_is_told(store: str) -> None:
    """Who cannot be parked ends as interrupted, and may be tried again: by whoever shuts down, or reaps."""
    for kill in (True, False):
        with start(store) as process:
            run = ask(process, "/live")
            until(lambda process=process, run=run: waits(process, run))  # type: ignore[misc]
            process.kill() if kill else process.terminate()
            process.wait()
        with start(store) as process:
            until(lambda process=process, run=run: state(process, run)["outcome"] is not None)  # type: ignore[misc]
            found = state(process, run)
            assert (found["outcome"], found["error"]["retryable"]) == ("interrupted", True)
            assert answer(process, run, "yes").json()["code"] == "question_closed"


def test_it_expires_while_nobody_lives(store: str) -> None:
    """The keeper of the next process finds it due."""
    with start(store) as process:
        kept, dropped = ask(process, "/parked", expires=3.0, default="no"), ask(process, "/parked", expires=3.0)
        until(lambda: is_parked(process, kept) and is_parked(process, dropped))
        process.kill()
    time.sleep(3.0)  # the question's own time, in which nobody is there
    with start(store) as process:
        assert "expired no" in text(process, kept)
        until(lambda: state(process, dropped)["outcome"] is not None)
        assert state(process, dropped)["outcome"] == "timed_out"


def test_killed_over_the_answer(store: str) -> None:
    """Killed as it is answered, again and again: the answer that was accepted is the one that counts, and none is lost."""
    process = start(store)
    try:
        for _ in range(count(2, 20)):
            run = ask(process, "/parked")
            until(lambda process=process, run=run: is_parked(process, run))  # type: ignore[misc]
            with ThreadPoolExecutor(1) as pool:
                flying = pool.submit(answer, process, run, "yes")
                process.kill()
                try:
                    said = flying.result().status_code
                except httpx2.TransportError:
                    said = 0
            process.__exit__(None, None, None)
            process = start(store)
            again = answer(process, run, "no")
            until(lambda process=process, run=run: state(process, run)["outcome"] is not None)  # type: ignore[misc]
            found = state(process, run)
            if found["outcome"] == "completed":
                assert ("answered yes" in text(process, run)) == (again.status_code == 409)
                assert said != 200 or again.status_code == 409
            else:  # it had begun to go on, and that process died: as any run
                assert found["outcome"] == "interrupted" and again.status_code == 409
    finally:
        process.__exit__(None, None, None)
