"""What a process has acknowledged survives `kill -9`; what is there is a legal prefix; others may take it over."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import count

from tidelog.log import Record
from tidelog.stores.sqlite import SqliteStore
from tidelog.testing.conformance import eventually, whole

pytestmark = pytest.mark.anyio

SCRIBE = Path(__file__).with_name("scribe.py")


def killed_after(url: str, lines: int) -> dict[str, int]:
    """Let the scribe write so much, kill it; the last number that it acknowledged for each log."""
    acknowledged: dict[str, int] = {}
    with subprocess.Popen([sys.executable, SCRIBE, url], stdout=subprocess.PIPE, text=True) as scribe:
        assert scribe.stdout is not None
        for n, line in enumerate(scribe.stdout):
            if line.endswith("\n"):
                log, last = line.split()
                acknowledged[log] = int(last)
            if n == lines:
                os.kill(scribe.pid, signal.SIGKILL)
    return acknowledged


@pytest.mark.soak
@pytest.mark.parametrize("attempt", range(count(4, 50)))
async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, attempt: int) -> None:
    url = f"sqlite:///{tmp_path}/logs.db"
    acknowledged = killed_after(url, random.Random(attempt).randrange(20, 3000))
    store = SqliteStore(url)
    await store.start("later")
    try:
        for log, last in acknowledged.items():
            found = await whole(store, log)
            assert found == [Record(n, 1.0, b"%d" % n * (n % 300)) for n in range(1, len(found) + 1)]
            assert len(found) >= last

        async def all_orphaned() -> bool:
            return set(await store.orphans(0.3)) == set(acknowledged)

        assert await eventually(all_orphaned)
        for log in acknowledged:
            last = len(await whole(store, log))
            await store.take(log, last, [Record(last + 1, 2.0, b"end", 2)])
            assert (await store.read(log, last)).records == [Record(last + 1, 2.0, b"end", 2)]
            assert len(await whole(store, log)) == last + 1
    finally:
        await store.aclose()
