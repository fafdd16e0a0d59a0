"""What every carrier must do, by one body, with real workers of its queue on a real Redis. A row of the registry enrols it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.workers import LONG, Works, own, queue, redis, until, works
from tests.redis_server import RedisServer, redis_server

from tidelog.testing import transcript, watch

assert queue and redis and own  # fixtures


@pytest.fixture(scope="module")
def shared(queue: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    """For what harms no process: one web process and one worker."""
    with redis_server() as server, works(queue, server, tmp_path_factory.mktemp("works")) as found:
        found.worker()
        yield found


def test_a_viewer_streams(shared: Works) -> None:
    """The web process queues the run and serves its cursor; another process produces it."""
    viewer = watch(f"{shared.url}/count", params={"to": 50, "merge": "0"}, timeout=LONG)
    events = transcript(viewer.rest())
    assert [event["state"] for event in events if event["type"] == "run.state"] == ["queued", "running"]
    assert "".join(event["text"] for event in events if event["type"] == "text.delta").split() == list(
        map(str, range(50))
    )
    assert events[-1]["outcome"] == "completed"
    assert int(viewer.frames[-1].id.split(".")[1]) > 1, "a new owner, a new epoch"
    [worker] = shared.notes(viewer.run, "began")
    assert worker != shared.web.pid


def test_sync_code_bodies_messages_and_progress(shared: Works) -> None:
    answer = shared.post("/report", json={"title": "Sales", "rows": 2}, headers={"Accept": "application/json"})
    found = answer.json()
    assert (found["text"], found["outcome"]) == ("# Sales\n- 0\n- 1\n", "completed")
    assert found["progress"]["rows"]["done"] == 2
    thread = shared.post(f"/runs/{answer.headers['run-id']}/retry").json()
    until(lambda: shared.state(thread["run"])["outcome"] == "completed")
    assert shared.text(thread["run"]) == found["text"]
    assert (thread["of"], thread["mode"]) == (answer.headers["run-id"], "retry")


def test_a_start_outside_a_request(shared: Works) -> None:
    found = shared.post("/sum", params={"a": 2, "b": 3}).json()
    assert found["outcome"] == "completed"
    assert shared.text(found["run"]) == "5"
    assert shared.notes(found["run"]) != [shared.web.pid]


def test_stop_pause_and_resume_reach_the_worker(shared: Works) -> None:
    viewer = watch(f"{shared.url}/count", params={"merge": "0"}, timeout=LONG)
    viewer.read(10)
    assert shared.post(f"/runs/{viewer.run}/pause").json() == {"result": "paused"}
    assert shared.state(viewer.run)["state"] == "paused"
    assert shared.post(f"/runs/{viewer.run}/resume").json() == {"result": "resumed"}
    assert shared.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
    viewer.rest()
    assert viewer.frames[-1].json["outcome"] == "stopped"
    until(lambda: shared.notes(viewer.run, "closed"))


def test_an_answer_reaches_the_worker(shared: Works) -> None:
    """Live, and parked: who goes on with a parked run is a worker again."""
    for state, after, text in (("", 60.0, "live yes"), ("kept", 0.0, "kept yes")):
        run = shared.start("/asks", state=state, park_after=after)
        until(lambda run=run, parked=bool(state): _asks(shared.state(run), parked))  # type: ignore[misc]
        said = shared.post(f"/runs/{run}/answer", json={"question": "q1", "value": "yes"})
        assert said.json()["value"] == "yes", said.text
        assert shared.ended(run)["outcome"] == "completed"
        assert shared.text(run) == text
        assert shared.web.pid not in shared.notes(run)


def _asks(state: dict[str, Any], parked: bool) -> bool:
    return bool(state["questions"]) and (state["owner_age"] is None) == parked


def test_leaving_is_known_to_the_worker(shared: Works) -> None:
    viewer = watch(f"{shared.url}/watched", timeout=LONG)
    viewer.until("text.delta")
    viewer.close()
    assert shared.ended(viewer.run)["outcome"] == "stopped"


def test_a_job_that_comes_twice_is_one_run(shared: Works) -> None:
    """While it is at work, and when it is over."""
    viewer = watch(f"{shared.url}/count", params={"merge": "0"}, timeout=LONG)
    viewer.read(5)
    assert shared.post(f"/again/{viewer.run}").is_success
    marker = shared.start("/count", "GET", to=1)  # behind the second delivery
    assert shared.ended(marker)["outcome"] == "completed"
    assert shared.state(viewer.run)["state"] == "running"
    shared.post(f"/runs/{viewer.run}/stop")
    viewer.rest()
    assert shared.post(f"/again/{viewer.run}").is_success
    assert shared.ended(shared.start("/count", "GET", to=1))["outcome"] == "completed"
    assert len(shared.notes(viewer.run, "began")) == 1


def test_a_reserved_run(shared: Works) -> None:
    """An existing task of the application's own queue writes a run that was reserved for it; once, however often it comes."""
    found = shared.post("/reserve", params={"title": "Sales"}).json()
    viewer = watch(f"{shared.url}{found['events']}", timeout=LONG)
    events = transcript(viewer.rest())
    assert [event["state"] for event in events if event["type"] == "run.state"] == ["queued", "running"]
    assert "".join(event["text"] for event in events if event["type"] == "text.delta") == "Sales: 0 1 2 "
    assert events[-1]["outcome"] == "completed"
    assert shared.notes(found["run"], "refused") == []
    assert shared.post("/reserve", params={"title": "Again", "run": found["run"]}).is_success
    until(lambda: shared.notes(found["run"], "refused"))
    assert shared.text(found["run"]) == "Sales: 0 1 2 "


def test_nobody_takes_it(own: Works) -> None:
    """It is queued, can be watched, is stopped, and ends by itself in time."""
    viewer = watch(f"{own.url}/count", timeout=LONG)
    viewer.until("run.state")
    assert viewer.frames[-1].json["state"] == "queued"
    state = own.state(viewer.run)
    assert (state["state"], state["owner_age"]) == ("queued", None)
    assert own.post(f"/runs/{viewer.run}/stop").json() == {"result": "stopped"}
    viewer.rest()
    assert viewer.frames[-1].json["outcome"] == "stopped"
    late = own.ended(own.start("/hurried"))
    assert (late["outcome"], late["error"]["code"]) == ("failed", "overloaded")
    assert "No worker" in late["error"]["message"]
    own.worker()
    assert own.ended(own.start("/count", "GET", to=1))["outcome"] == "completed"
    assert own.notes(viewer.run) == [], "its job came when it was over"


def test_arguments_that_do_not_travel(shared: Works) -> None:
    """Nothing is started, and no worker is asked."""
    before = shared.runs()
    assert shared.post("/untold").json() == {"code": "invalid_request"}
    assert shared.ended(shared.start("/count", "GET", to=1))["outcome"] == "completed"
    assert len(shared.runs() - before) == 1


def test_a_worker_is_killed_that_has_a_job_and_not_yet_its_run(queue: str, redis: RedisServer, tmp_path: Path) -> None:
    """The run is queued as before, and another worker's: its job is sent again."""
    with works(queue, redis, tmp_path, again=1.0) as found:
        found.hold_jobs()
        worker = found.worker()
        run = found.start("/count", "GET", to=3)
        until(lambda: found.notes(run, "fetched"))
        worker.kill()
        state = found.state(run)
        assert (state["state"], state["owner_age"]) == ("queued", None)
        found.let_jobs_go()
        found.worker()
        assert found.ended(run)["outcome"] == "completed"
        assert found.text(run) == "0 1 2 "
        assert len(found.notes(run, "began")) == 1


def test_a_killed_worker(own: Works) -> None:
    """`kill -9` in mid-run. One run ends; two were to be begun again: in the same run where nothing was said but progress, else
    in a new one of the thread.
    """
    worker = own.worker()
    told = watch(f"{own.url}/count", params={"merge": "0"}, timeout=LONG)
    told.read(5)
    spoke = watch(f"{own.url}/slow", "POST", params={"words": "Well,"}, timeout=LONG)
    spoke.until("text.delta")
    silent = own.start("/slow")
    until(lambda: own.notes(silent, "began"))
    worker.kill()
    told.rest()
    spoke.rest()
    assert told.frames[-1].json["error"]["code"] == "interrupted"
    assert spoke.frames[-1].json["outcome"] == "interrupted"
    until(lambda: own.state(silent)["state"] == "queued")
    until(lambda: own.state(spoke.run)["successor"])
    own.worker()
    own.open_gate("slow")
    assert own.ended(silent)["outcome"] == "completed"
    assert own.text(silent) == "done"
    assert len(own.notes(silent, "began")) == 2
    attempts = watch(f"{own.url}/runs/{silent}/events", timeout=LONG).rest()
    assert [one.json["done"] for one in attempts if one.json.get("task") == "attempt"] == [2]
    after = own.ended(own.state(spoke.run)["successor"])
    assert (after["outcome"], after["of"], after["mode"]) == ("completed", spoke.run, "retry")
    assert after["thread"] == own.state(spoke.run)["thread"]
    assert (own.text(spoke.run), own.text(after["run"])) == ("Well, ", "Well, done")
    assert own.state(told.run)["successor"] is None


def test_the_queue_is_away(queue: str, redis: RedisServer, tmp_path: Path) -> None:
    """Nothing is started, and the caller is told."""
    with works(queue, redis, tmp_path, f"sqlite:///{tmp_path}/logs.db") as found:
        redis.kill()
        begun = time.monotonic()
        answer = found.post("/slow", headers={"Idempotency-Key": "k", "Accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded"), answer.text
        assert time.monotonic() - begun < LONG
        redis.start()
        found.worker()
        found.open_gate("slow")
        answer = found.post("/slow", headers={"Idempotency-Key": "k", "Accept": "application/json"})
        assert answer.json()["outcome"] == "completed", answer.text
