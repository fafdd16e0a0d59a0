"""A million short runs, deleted: keys, connections, tasks and memory are back where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tests.conftest import count
from tests.redis_server import redis_server

ROOT = Path(__file__).parents[2]
RUNS = int(os.environ.get("SOAK_RUNS", "0")) or count(100, 100_000)
"""`SOAK_RUNS=1000000` takes an hour and a half of a core; what leaks a hundred bytes a run is seen long before."""
SLACK_KIB = 8192 + RUNS // 50
"""Of memory: what an allocator keeps for itself, and twenty bytes a run."""


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_nothing_stays() -> None:
    with redis_server() as redis, Redis(port=redis.port) as asked:
        command = [sys.executable, "-m", "tests.stores.short_runs", redis.url, str(RUNS)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            before, kept = told(process), left(asked)
            after, now = told(process, "go on"), left(asked)
            process.communicate("that is all\n")
    print(before, after, now)
    assert process.returncode == 0
    assert (now["keys"], now["channels"]) == (kept["keys"], kept["channels"])
    assert now["clients"] <= kept["clients"] + 1, "the thread that beats connects when it first beats"
    assert now["ended"] == kept["ended"] == 0
    assert now["bytes"] < kept["bytes"] + 256 * 1024
    assert after["tasks"] == before["tasks"]
    assert after["open"] <= before["open"] + 1
    assert after["objects"] < before["objects"] + 2000
    assert after["resident_kib"] < before["resident_kib"] + SLACK_KIB


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
