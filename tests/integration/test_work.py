"""Runs that workers own, as far as it depends on the queue: how a worker goes, and what of it can die. What is the same for all
queues is judged by tests/conformance/test_carriers.py.
"""

from __future__ import annotations

import os
import signal

import pytest
from tests.integration.workers import LONG, Works, own, queue, redis, until

from tidelog.testing import watch

assert queue and redis and own  # fixtures


@pytest.mark.parametrize("queue", ["taskiq"], indirect=True)
def test_a_worker_that_goes(own: Works) -> None:
    """It waits for its runs as long as its queue is told to; what was to be begun again waits for another worker then."""
    worker = own.worker("--wait-tasks-timeout", "0.2")
    ending = own.start("/count", "GET")
    again = own.start("/slow")
    until(lambda: own.notes(ending, "began") and own.notes(again, "began"))
    worker.terminate()
    worker.wait(LONG)
    assert own.ended(ending)["outcome"] == "interrupted"
    assert own.notes(ending, "closed")
    until(lambda: own.state(again)["state"] == "queued")
    own.worker()
    own.open_gate("slow")
    assert own.ended(again)["outcome"] == "completed"


@pytest.mark.parametrize("queue", ["celery"], indirect=True)
def test_a_process_of_a_pool(own: Works) -> None:
    """One of three is killed: its run is begun again in another, the others notice nothing; then the worker goes."""
    worker = own.worker()
    other = watch(f"{own.url}/count", params={"merge": "0"}, timeout=LONG)
    other.read(5)
    again = own.start("/slow")
    until(lambda: own.notes(again, "began"))
    os.kill(own.notes(again, "began")[0], signal.SIGKILL)
    until(lambda: len(own.notes(again, "began")) == 2)
    worker.terminate()
    own.open_gate("slow")
    assert own.ended(again)["outcome"] == "completed"
    assert own.post(f"/runs/{other.run}/stop").json() == {"result": "stopped"}
    other.rest()
    assert len(set(own.notes(again) + own.notes(other.run))) == 3
    assert worker.wait(LONG) == 0, "it has waited for its runs"


@pytest.mark.parametrize("queue", ["taskiq"], indirect=True)
def test_a_frozen_worker_stops_writing_and_spending(own: Works) -> None:
    """It loses its lease; when it thaws its source is closed, and nothing of it is stored."""
    worker = own.worker()
    viewer = watch(f"{own.url}/count", params={"merge": "0"}, timeout=LONG)
    viewer.read(5)
    os.killpg(worker.pid, signal.SIGSTOP)
    viewer.rest()
    assert viewer.frames[-1].json["outcome"] == "interrupted"
    last = own.state(viewer.run)["last_seq"]
    assert own.notes(viewer.run, "closed") == []
    os.killpg(worker.pid, signal.SIGCONT)
    until(lambda: own.notes(viewer.run, "closed"))
    assert own.state(viewer.run)["last_seq"] == last
    assert own.ended(own.start("/count", "GET", to=1))["outcome"] == "completed", "it works on"
