"""The examples of docs/workers.md, as their first lines say: a web process, a worker, and a Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from tests.integration.workers import worker_process
from tests.redis_server import RedisServer, redis_server

from tidelog.testing import serve_process, watch

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


@contextmanager
def worked(module: str, command: list[str], folder: Path, redis: RedisServer) -> Iterator[str]:
    """The URL of the example's web process, beside its worker."""
    env = {"REDIS": redis.url}
    with (
        serve_process(f"{module}:app", cwd=folder, env=env) as web,
        worker_process(["-m", *command], cwd=folder, env=env),
    ):
        yield web.url


def test_taskiq(folder: Path) -> None:
    command = ["taskiq", "worker", "work_taskiq:broker", "--workers", "1"]
    with redis_server() as redis, worked("work_taskiq", command, folder, redis) as url:
        answer = httpx2.post(
            f"{url}/reports", json={"title": "Sales"}, headers={"Accept": "application/json"},
            timeout=PATIENCE, trust_env=False,
        )  # fmt: skip
        assert answer.json()["text"] == "# Sales\n\nNorth has grown.\nSouth has grown.\n"


def test_celery(folder: Path) -> None:
    command = ["celery", "-A", "work_celery:celery", "worker", "-c", "1"]
    with redis_server() as redis, worked("work_celery", command, folder, redis) as url:
        found = httpx2.post(f"{url}/imports", params={"file": "flats.csv"}, timeout=PATIENCE, trust_env=False).json()
        frames = watch(url + found["events"], timeout=PATIENCE).rest()
        assert frames[-1].json["outcome"] == "completed"
        steps = [one.json["done"] for one in frames if one.json["type"] == "progress"]
        assert steps == sorted(steps) and steps[-1] == 100 and len(steps) > 2
        assert "".join(one.json["text"] for one in frames if one.json["type"] == "text.delta") == "flats.csv: 100 rows."
