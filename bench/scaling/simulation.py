"""A discrete-event simulation of live runs over processes and shards of Redis.

A process has one loop and a shard has one thread: each does one piece of work after the other, and needs a core for it. An event
of a run costs its process `event`. What was accepted while a flush was under way goes with the next one, a piece to each shard
that its logs are on; nobody sees an event before its piece is answered. So under load flushes grow, and share what one costs.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

NETWORK: Final = 50e-6
"""Seconds from a process to a shard: loopback here, a rack elsewhere."""


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU. `event` and `piece` are the process's, `record` and `batch` the shard's, for each event and each piece.

    `gather` are seconds for which a loop has, on average, more events come before it sends the first: its timers go off together.
    """

    event: float
    piece: float
    record: float
    batch: float
    gather: float = 0.0


@dataclass(frozen=True)
class Plan:
    """So many live runs, each with one viewer where it lives and `rate` events a second.

    A log is on one of `shards_in_all`; `shards` of them are simulated, and take what goes to the others as well. `cores` are what
    all threads share; None: a core for each. `waits` are seconds, of which a thread waits some when it wakes up on a machine that
    others use, too.
    """

    processes: int
    runs: int
    rate: float
    shards: int = 1
    shards_in_all: int = 1
    cores: int | None = None
    seconds: float = 5.0
    waits: Sequence[float] = ()


@dataclass
class Seen:
    """What came of it: shares are of one core, `latency` is in seconds."""

    process_share: float
    shard_share: float
    pieces: float  # a second
    events: float  # a second
    p50: float
    p99: float


class Clock:
    """What happens next. `cores` None: nobody waits for one; `wait` is how long a thread sleeps on that is woken."""

    def __init__(self, cores: int | None, wait: Callable[[], float]) -> None:
        self.now = 0.0
        self.wait = wait
        self._next: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._free = cores
        self._waiting: deque[Callable[[], None]] = deque()

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._next, (when, self._number, what))

    def take_core(self, work: Callable[[], None]) -> None:
        """Do this as soon as a core is free; it gives it back."""
        if self._free is None:
            work()
        elif self._free:
            self._free -= 1
            work()
        else:
            self._waiting.append(work)

    def give_core(self) -> None:
        if self._free is None:
            return
        if self._waiting:
            self._waiting.popleft()()
        else:
            self._free += 1

    def until(self, end: float) -> None:
        while self._next and self._next[0][0] <= end:
            self.now, _, what = heapq.heappop(self._next)
            what()


class Thread:
    """Does one piece of work after the other. `busy` is how long it has worked."""

    def __init__(self, clock: Clock) -> None:
        self.busy = 0.0
        self._clock = clock
        self._queue: deque[tuple[Callable[[], float], Callable[[], None]]] = deque()
        self._at_work = False

    def do(self, cost: Callable[[], float], then: Callable[[], None]) -> None:
        """Begin when everything before is done; `cost` is asked for then."""
        self._queue.append((cost, then))
        if not self._at_work:
            self._at_work = True
            self._clock.at(self._clock.now + self._clock.wait(), lambda: self._clock.take_core(self._begin))

    def _begin(self) -> None:
        cost, then = self._queue.popleft()
        taken = cost()
        self.busy += taken
        self._clock.at(self._clock.now + taken, lambda: self._done(then))

    def _done(self, then: Callable[[], None]) -> None:
        then()
        self._at_work = bool(self._queue)
        self._clock.give_core()
        if self._at_work:
            self._clock.take_core(self._begin)


@dataclass
class Process:
    """A loop, what gathers in it, and how much of what is under way is not answered yet."""

    thread: Thread
    gathered: list[tuple[int, float]] = field(default_factory=list)
    under_way: int = 0
    asked: bool = False


class Simulation:
    """One run of a plan, after a fifth of its time in which it settles."""

    def __init__(self, plan: Plan, costs: Costs, *, dice: random.Random) -> None:
        self._plan = plan
        self._costs = costs
        self._dice = dice
        self._clock = Clock(plan.cores, lambda: dice.choice(plan.waits) if plan.waits else 0.0)
        self._processes = [Process(Thread(self._clock)) for _ in range(plan.processes)]
        self._shards = [Thread(self._clock) for _ in range(plan.shards)]
        self._latencies: list[float] = []
        self._pieces = 0

    def run(self) -> Seen:
        """Raises `ValueError` where less than 100 events came through: it is overloaded beyond all measure."""
        plan, settle = self._plan, self._plan.seconds / 5
        for number in range(plan.runs):
            self._speak(
                self._processes[number % plan.processes],
                self._dice.randrange(plan.shards_in_all),
                self._dice.random() / plan.rate,
            )
        self._clock.until(settle)
        before = self._pieces, len(self._latencies), self._busy()
        self._clock.until(plan.seconds)
        window = plan.seconds - settle
        process, shard = (now - then for now, then in zip(self._busy(), before[2], strict=True))
        latencies = self._latencies[before[1] :]
        if len(latencies) < 100:
            raise ValueError("overloaded")
        cuts = quantiles(latencies, n=100)
        return Seen(
            process / window / plan.processes, shard / window / plan.shards, (self._pieces - before[0]) / window,
            len(latencies) / window, cuts[49], cuts[98],
        )  # fmt: skip

    def _busy(self) -> tuple[float, float]:
        return sum(each.thread.busy for each in self._processes), sum(each.busy for each in self._shards)

    def _speak(self, process: Process, shard: int, at: float) -> None:
        """An event of a run, and then its next."""

        def due() -> None:
            self._clock.at(at + 1 / self._plan.rate, lambda: self._speak(process, shard, at + 1 / self._plan.rate))
            process.thread.do(lambda: self._costs.event, accepted)

        def accepted() -> None:
            process.gathered.append((shard, at))
            self._flush(process)

        self._clock.at(at, due) if at > self._clock.now else due()

    def _flush(self, process: Process) -> None:
        if process.gathered and not process.under_way and not process.asked:
            process.asked = True
            pieces: dict[int, list[float]] = {}

            def cost() -> float:
                for shard, at in process.gathered:
                    pieces.setdefault(shard, []).append(at)
                process.gathered, process.under_way = [], len(pieces)
                return self._costs.piece * len(pieces)

            def sent() -> None:
                process.asked = False
                for shard, events in pieces.items():
                    self._send(process, self._shards[shard % self._plan.shards], events)

            self._clock.at(self._clock.now + self._costs.gather, lambda: process.thread.do(cost, sent))

    def _send(self, process: Process, shard: Thread, events: list[float]) -> None:
        self._pieces += 1
        taken = self._costs.batch + self._costs.record * len(events)

        def arrived() -> None:
            shard.do(lambda: taken, lambda: self._clock.at(self._clock.now + NETWORK, answered))

        def answered() -> None:
            process.thread.do(lambda: 0.0, seen)

        def seen() -> None:
            self._latencies += [self._clock.now - at for at in events]
            process.under_way -= 1
            self._flush(process)

        self._clock.at(self._clock.now + NETWORK, arrived)


def simulate(plan: Plan, costs: Costs, *, seed: int = 1) -> Seen:
    """See `Simulation`."""
    return Simulation(plan, costs, dice=random.Random(seed)).run()
