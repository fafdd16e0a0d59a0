"""Memory that nobody uses any more is given back to the system, when there is little to do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import uvicorn
from tests.server.chat import Chat

from tidelog.server import memory
from tidelog.server import serve as serving
from tidelog.server.memory import CALM, REST, WORTH, Heap


class Process:
    """A process whose clocks are set; what is given back takes `takes` seconds."""

    def __init__(self) -> None:
        self.at = self.worked = 0.0
        self.takes = 0.0
        self.given = 0
        self.heap = Heap(self._give, working=lambda: self.worked, clock=lambda: self.at)

    def _give(self) -> None:
        self.given += 1
        self.at += self.takes
        self.worked += self.takes

    def work(self, seconds: float, *, within: float) -> int:
        """Work so much of so many seconds, look; how often memory was given back in all."""
        self.at += within
        self.worked += seconds
        self.heap.look()
        return self.given


def test_a_calm_process_gives_back_what_it_has_left() -> None:
    process = Process()
    assert process.work(WORTH, within=1.0) == 1


def test_a_busy_one_waits_until_it_is_calm() -> None:
    process = Process()
    assert process.work(0.5, within=0.5) == 0
    assert process.work((CALM + 0.1) * 0.5, within=0.5) == 0
    assert process.work(0.0, within=0.5) == 1


def test_one_that_has_done_nothing_since_has_nothing_to_give() -> None:
    process = Process()
    process.work(WORTH, within=1.0)
    assert process.work(WORTH / 2, within=1.0) == 1
    assert process.work(WORTH / 2, within=1.0) == 2


def test_a_heap_through_which_it_takes_long_is_left_alone_for_as_long() -> None:
    process = Process()
    process.takes = 0.02
    assert process.work(WORTH, within=1.0) == 1
    for _ in range(int(REST * process.takes) - 1):
        assert process.work(WORTH, within=1.0) == 1
    assert process.work(WORTH, within=1.1) == 2


def test_what_was_held_between_things_that_stay_is_given_back() -> None:
    """In a process of its own, by the C library that is there."""
    found = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(found.stdout)
    if told is None:
        pytest.skip("the C library is not glibc")
    full, free, given = told
    assert full > 60
    assert free > full - 15, "free, and still the process's"
    assert given < full - 45


HELD = """
import json, os, time
from tidelog.server.memory import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

here = heap()
if here is None:
    print("null")
    raise SystemExit
before = resident()
held = [bytes(2000) for _ in range(32_000)]
full = resident() - before
held = held[::64]
free = resident() - before
end = time.process_time() + 0.06
while time.process_time() < end:
    pass
time.sleep(0.5)
here.look()
print(json.dumps([full, free, resident() - before]))
"""


def test_without_such_a_library_nothing_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert memory.heap() is None


@pytest.mark.anyio
async def test_a_server_looks_several_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    looked: list[None] = []
    monkeypatch.setattr(process.heap, "look", lambda: looked.append(None))
    monkeypatch.setattr(serving, "heap", lambda: process.heap)
    server = serving.Server(uvicorn.Config(Chat("Hi").app))
    for tick in range(10):
        assert not await server.on_tick(tick)
    assert len(looked) == 5
