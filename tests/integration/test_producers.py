"""Runs that are fed from outside, over several processes and through their deaths: each event is in the log once, in order."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.conftest import count

from tidelog.client import connect
from tidelog.testing import Process, serve_process, watch

ROOT = Path(__file__).parents[2]
PATIENCE = 0.5
BEAT = 0.1


def start(folder: Path, port: int = 0) -> Process:
    env = {
        "APP_STORE": f"sqlite:///{folder}/logs.db?beat={BEAT}",
        "APP_LEASE_PATIENCE": str(PATIENCE), "APP_DRAIN_TIMEOUT": "20.0",
    }  # fmt: skip
    return serve_process("tests.integration.apps:app", cwd=ROOT, env=env, port=port)


def port_of(process: Process) -> int:
    return int(process.url.rpartition(":")[2])


def log_of(url: str, run: str) -> list[dict[str, Any]]:
    viewer = watch(f"{url}/runs/{run}/events", params={"merge": "0"}, timeout=20.0)
    return [frame.json for frame in viewer.rest()]


def numbers(log: list[dict[str, Any]]) -> list[int]:
    return [event["data"] for event in log if event["type"] == "data"]


def post(url: str, seq: int, *events: Any, end: str = "") -> httpx2.Response:
    headers = {"Producer-Id": "me", "Producer-Seq": str(seq)}
    query = {"end": end} if end else {}
    return httpx2.post(f"{url}/runs/job/events", headers=headers, params=query, json=list(events), trust_env=False)


def put(url: str) -> httpx2.Response:
    return httpx2.put(f"{url}/runs/job", headers={"Producer-Id": "me"}, trust_env=False)


def datum(n: int) -> dict[str, Any]:
    return {"type": "data", "data": n}


def test_any_process_takes_them(tmp_path: Path) -> None:
    """Batches at random processes, each twice and both at once: the log holds each event once, in order."""
    dice, total = random.Random(5), count(30, 300)
    with start(tmp_path) as one, start(tmp_path) as two:
        urls = [one.url, two.url]
        assert put(one.url).status_code == 201
        assert put(two.url).status_code == 200
        at = 1
        while at <= total:
            events = [datum(n) for n in range(at, at + dice.randrange(1, 5))]
            first = max(1, at - dice.randrange(3))
            batch = [datum(n) for n in range(first, at)] + events
            answers = list[httpx2.Response]()
            threads = [
                threading.Thread(target=lambda url=url: answers.append(post(url, first, *batch)))  # noqa: B023
                for url in urls
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            at += len(events)
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.json()["expected"] for answer in answers} == {at}
        gap = post(two.url, at + 1, datum(0))
        assert (gap.status_code, gap.json()["expected"]) == (409, at)
        post(two.url, at, end="completed")
        log = log_of(dice.choice(urls), "job")
        assert numbers(log) == list(range(1, at))
        assert log[-1]["outcome"] == "completed"


def test_another_process_goes_on_when_the_owner_dies(tmp_path: Path) -> None:
    with start(tmp_path) as other:
        with start(tmp_path) as owner:
            put(owner.url)
            post(owner.url, 1, datum(1), datum(2))
            post(other.url, 3, datum(3))
            owner.kill()
        assert post(other.url, 4, datum(4)).json()["state"] == "running"
        with watch(f"{other.url}/runs/job/events", params={"merge": "0"}, timeout=20.0) as viewer:
            assert numbers([frame.json for frame in viewer.read(6)]) == [1, 2, 3, 4]
        assert post(other.url, 5, end="completed").status_code == 200
        log = log_of(other.url, "job")
        found = httpx2.get(f"{other.url}/runs/job", trust_env=False).json()
    assert numbers(log) == [1, 2, 3, 4]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert [event["state"] for event in log if event["type"] == "run.state"] == ["running"], "who took it over says so"
    assert (found["epoch"], found["outcome"]) == (2, "completed")


def test_a_server_that_is_asked_to_go_hands_the_run_over(tmp_path: Path) -> None:
    """It does not wait for the producer, and the run does not end."""
    with start(tmp_path) as one:
        port = port_of(one)
        put(one.url)
        post(one.url, 1, datum(1))
        begun = time.monotonic()
        one.terminate()
        one.wait()
        assert time.monotonic() - begun < 15.0, "less than its drain_timeout"
    with start(tmp_path, port) as two:
        post(two.url, 2, datum(2), end="completed")
        log = log_of(two.url, "job")
    assert (numbers(log), log[-1]["outcome"]) == ([1, 2], "completed")


def test_stopped_while_nobody_owns_it(tmp_path: Path) -> None:
    with start(tmp_path) as other:
        with start(tmp_path) as owner:
            put(owner.url)
            post(owner.url, 1, datum(1))
            owner.kill()
        stopped = httpx2.post(f"{other.url}/runs/job/stop", trust_env=False, timeout=20)
        assert stopped.json() == {"result": "stopped"}
        assert post(other.url, 2, datum(2)).json()["outcome"] == "stopped"


def test_what_is_paused_stays_so_when_its_owner_dies(tmp_path: Path) -> None:
    with start(tmp_path) as other:
        with start(tmp_path) as owner:
            put(owner.url)
            post(owner.url, 1, datum(1))
            paused = httpx2.post(f"{owner.url}/runs/job/pause", trust_env=False)
            assert paused.json()["result"] == "paused"
            owner.kill()
        with watch(f"{other.url}/runs/job/events", params={"merge": "0"}, timeout=20.0) as viewer:
            frames = iter(viewer)
            states = [event["state"] for event in (next(frames).json for _ in range(4)) if event["type"] == "run.state"]
        assert states == ["paused", "paused"], "taken over as it was"
        assert post(other.url, 2, datum(2)).json()["state"] == "paused", "it is taken, and waits"
        assert httpx2.post(f"{other.url}/runs/job/resume", trust_env=False).json()["result"] == "resumed"
        post(other.url, 3, end="completed")
        log = log_of(other.url, "job")
    assert (numbers(log), log[-1]["outcome"]) == ([1, 2], "completed")


@pytest.mark.soak
def test_deaths_at_random_moments(tmp_path: Path) -> None:
    """The server is killed and started again while a producer writes: nothing is lost, nothing is there twice."""
    dice, process = random.Random(3), start(tmp_path)
    port = port_of(process)
    try:
        with connect(process.url) as run:
            at = 0
            for _ in range(count(1, 20)):
                until = time.monotonic() + dice.uniform(0.1, 0.6)
                while time.monotonic() < until:
                    run.data(at)
                    at += 1
                    time.sleep(0.0005)
                process.kill()
                process.__exit__(None, None, None)
                process = start(tmp_path, port)
        log = log_of(process.url, run.run)
    finally:
        process.__exit__(None, None, None)
    assert numbers(log) == list(range(at))
    assert log[-1]["outcome"] == "completed"
