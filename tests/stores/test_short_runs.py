"""A million short runs: keys, connections, tasks, open files, the WAL and memory are back where they were."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tests.conftest import count
from tests.redis_server import redis_server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(6 * 3600)]

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("SOAK_RUNS", "0")) or count(100, 100_000)
"""`SOAK_RUNS=1000000` takes an hour of a core for each store; what leaks a hundred bytes a run is seen long before."""
SLACK_KIB = 8192 + RUNS // 50
"""Of memory: what an allocator keeps for itself, and twenty bytes a run."""
WAL_BYTES = 64 * 1024 * 1024


def test_nothing_stays_in_redis() -> None:
    with redis_server() as redis, Redis(port=redis.port) as asked, short_runs(redis.url) as process:
        before, kept = told(process), left(asked)
        told(process, "go on")
        after, now = told(process, "go on"), left(asked)
    print(before, after, now)
    assert (now["keys"], now["channels"]) == (kept["keys"], kept["channels"])
    assert now["clients"] <= kept["clients"] + 1, "the thread that beats connects when it first beats"
    assert now["ended"] == kept["ended"] == 0
    assert now["bytes"] < kept["bytes"] + 256 * 1024
    check_level(before, after)


@pytest.mark.parametrize("keep", [False, True], ids=["deleted", "kept"])
def test_nothing_stays_in_the_process(tmp_path: Path, *, keep: bool) -> None:
    """Runs that end in memory are deleted; those in a file stay in it, and in it alone."""
    url = f"sqlite:///{tmp_path / 'runs.db'}" if keep else "memory:"
    with short_runs(url, *["keep"] * keep) as process:
        told(process)
        early = told(process, "go on")
        wal = [file.stat().st_size for file in tmp_path.glob("*-wal")]
        late = told(process, "go on")
        wal += [file.stat().st_size for file in tmp_path.glob("*-wal")]
    print(early, late, wal)
    assert len(wal) == 2 * keep
    assert max(wal, default=0) < WAL_BYTES
    check_level(early, late)


def check_level(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Nothing has grown between the two."""
    assert after["tasks"] == before["tasks"]
    assert after["open"] <= before["open"] + 1
    assert after["objects"] < before["objects"] + 2000
    assert after["resident_kib"] < before["resident_kib"] + SLACK_KIB


@contextlib.contextmanager
def short_runs(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The process that runs them, in three parts."""
    command = [sys.executable, "-m", "tests.stores.short_runs", arguments[0], str(RUNS), *arguments[1:]]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate("that is all\n")
    assert process.returncode == 0


def told(process: subprocess.Popen[str], say: str = "") -> dict[str, Any]:
    """The next line of it, once this was said."""
    assert process.stdin is not None and process.stdout is not None
    if say:
        process.stdin.write(f"{say}\n")
        process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def left(asked: Redis) -> dict[str, Any]:
    """What Redis holds."""
    asked.memory_purge()
    return {
        "keys": sorted(key.decode() for key in asked.scan_iter()), "channels": len(asked.pubsub_channels()),
        "clients": len(asked.client_list()), "bytes": asked.info("memory")["used_memory"], "ended": asked.zcard("tidelog:ended"),
    }  # fmt: skip
