"""Memory that nobody uses any more is given back to the system, when there is little to do."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from typing import Any

import pytest
import uvicorn
from tests.server.chat import Chat
from tests.server.stage import Stage, until

from tidelog.server import memory
from tidelog.server import serve as serving
from tidelog.server.memory import CALM, REST, WORTH, Heap
from tidelog.testing import Gate, rebuild


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
from tidelog.server.memory import _malloc_trim, heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

here = heap()
if _malloc_trim() is None:
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


class Cycle:
    """Held by itself alone."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("glibc", [True, False])
@pytest.mark.parametrize("collects", [True, False])
def test_what_only_cycles_hold_is_looked_for(glibc: bool, collects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the C library is, and unless the application has switched the collector off."""
    if not glibc:
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    here = memory.heap()
    here._working = lambda: 1e9  # it has worked, and not of late
    here._worked = 1e9
    monkeypatch.setattr(gc, "isenabled", lambda: collects)
    gone = weakref.ref(Cycle())
    here.look()
    assert (gone() is None) is collects


def test_a_collector_that_takes_long_is_not_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is too much to look through: every stream would stand still for as long."""
    here, now, calls = memory.heap(), [0.0], []

    def collect() -> None:
        calls.append(None)
        now[0] += memory.LONGEST if len(calls) == 3 else memory.LONGEST / 2

    monkeypatch.setattr(gc, "collect", collect)
    monkeypatch.setattr(memory.time, "perf_counter", lambda: now[0])
    for _ in range(5):
        here._give_back()
    assert len(calls) == 3


def test_a_run_that_has_ended_is_held_by_none_of_its_viewers() -> None:
    """Who is behind watches on, of the log, for as long as it takes."""
    gate = Gate()
    chat = Chat("Hel", gate, *["x" * 4096] * 500)
    with Stage(chat) as stage, stage.server.watch("/chat") as viewer:
        viewer.read(2)
        runs: list[Any] = stage.server.call(lambda: [weakref.ref(live.run) for live in chat.tide.runner._live.values()])
        gate.open()
        chat.script.wait_closed()
        until(lambda: stage.server.call(lambda: not chat.tide.runner._live))
        assert len(runs) == 1
        assert stage.viewers == 1
        chat.script.plays.clear()  # it knows in which task it was opened
        until(lambda: (stage.server.call(gc.collect), runs[0]() is None)[1])
        assert rebuild([*viewer.frames, *viewer.rest()]) == "Hel" + "x" * 4096 * 500


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
