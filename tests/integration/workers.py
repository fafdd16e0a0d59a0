"""A web process and real workers of a job queue, on a real Redis. Files that use it import its fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.redis_server import RedisServer, redis_server

from tidelog.elsewhere import SEND_AGAIN
from tidelog.registry import CARRIERS
from tidelog.testing import Process, serve_process

ROOT = Path(__file__).parents[2]
LONG = 30.0
QUEUES = tuple(CARRIERS)
LEASE = 1.0
"""Seconds after which a process is dead that does not beat."""


def worker_process(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Process:
    """Python with these arguments, a worker of some queue, in a process group of its own. `env` is added to this process's."""
    output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
    started = subprocess.Popen(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **env},
        stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return Process(started, "", output)


def listens(worker: Process) -> bool:
    """Whether a worker of taskiq takes jobs."""
    return "Listening started." in worker.output


class Works:
    """Starts processes of the application `worked`, and asks its web process."""

    def __init__(
        self, queue: str, redis: RedisServer, folder: Path, store: str, stack: ExitStack, again: float
    ) -> None:
        self.queue = queue
        self.folder = folder
        self._stack = stack
        self._env = {
            "WORK_QUEUE": queue, "WORK_REDIS": redis.url, "WORK_FOLDER": str(folder), "WORK_STORE": store,
            "WORK_PATIENCE": str(LEASE), "WORK_SEND_AGAIN": str(again),
        }  # fmt: skip
        self.web = stack.enter_context(serve_process("tests.integration.worked:app", cwd=ROOT, env=self._env))
        self.url = self.web.url

    def worker(self, *more: str) -> Process:
        """A worker with three processes (Celery), or one (taskiq). It takes jobs once it has connected, some time later."""
        command = {
            "taskiq": ["-m", "taskiq", "worker", "tests.integration.worked:broker", "--workers", "1"],
            "celery": ["-m", "celery", "-A", "tests.integration.worked:celery", "worker", "--pool", "prefork", "-c", "3",
                       "--without-gossip", "--without-mingle"],
        }[self.queue]  # fmt: skip
        return self._stack.enter_context(worker_process([*command, *more], cwd=ROOT, env=self._env))

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, timeout=LONG, trust_env=False, **more)

    def start(self, path: str, method: str = "POST", **params: Any) -> str:
        """Start a run that nobody watches; its id."""
        headers = {"Prefer": "respond-async"}
        answer = httpx2.request(method, self.url + path, params=params, headers=headers, timeout=LONG, trust_env=False)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["run"])

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(f"{self.url}/runs/{run}", timeout=LONG, trust_env=False).json()
        return found

    def text(self, run: str) -> str:
        found: str = httpx2.get(f"{self.url}/runs/{run}/transcript", timeout=LONG, trust_env=False).json()["text"]
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """The state of the run once it has ended."""
        until(lambda: self.state(run)["state"] == "ended")
        return self.state(run)

    def notes(self, run: str, what: str = "") -> list[int]:
        """The processes that noted this for the run."""
        try:
            lines = (self.folder / run).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [int(line.split()[1]) for line in lines if line.startswith(what)]

    def runs(self) -> set[str]:
        """The newest."""
        found = httpx2.get(f"{self.url}/runs", timeout=LONG, trust_env=False).json()["runs"]
        return {str(one["run"]) for one in found}

    def open_gate(self, name: str) -> None:
        (self.folder / f"gate-{name}").touch()

    def hold_jobs(self) -> None:
        """Workers take jobs from the queue, and do nothing with them."""
        (self.folder / "hold").touch()

    def let_jobs_go(self) -> None:
        """Workers do what they take from now on."""
        (self.folder / "hold").unlink()


def until(condition: Callable[[], Any]) -> None:
    """Ask until it is true."""
    limit = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < limit, "never"
        time.sleep(0.02)


@contextmanager
def works(
    queue: str, redis: RedisServer, folder: Path, store: str | None = None, *, again: float = SEND_AGAIN
) -> Iterator[Works]:
    """All of its processes are killed at the end. `again`: seconds after which a run is sent again that no worker has taken."""
    with ExitStack() as stack:
        yield Works(queue, redis, folder, store or f"{redis.url}?beat=0.1", stack, again)


@pytest.fixture(scope="session", params=QUEUES)
def queue(request: pytest.FixtureRequest) -> str:
    """The name of a job queue."""
    return str(request.param)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """For logs and jobs."""
    with redis_server() as found:
        yield found


@pytest.fixture
def own(queue: str, redis: RedisServer, tmp_path: Path) -> Iterator[Works]:
    """A web process of this test's own, and no worker yet."""
    with works(queue, redis, tmp_path) as found:
        yield found
