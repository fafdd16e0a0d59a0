"""Several processes on one listening socket, and this one, which only watches them.

They are spawned, never forked: a fork would share threads, connections and random numbers of a loop that runs. The first goes
alone, so that what is wrong with the application is told once, and that it has made the file when the others open it.
A worker is a process group of its own: a terminal's Ctrl-C reaches this process alone, which passes it on, once.
Whatever ends this process ends the workers, too: they drain when it is gone.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Final, NamedTuple

log = logging.getLogger("tidelog")

STEADY: Final = 5.0
"""Seconds after which a worker that serves is no longer one that dies at its start."""
DELAY: Final = 0.25
LONGEST_DELAY: Final = 10.0
"""Seconds between two starts: none after a first death, then DELAY, doubled each time."""
TRIES: Final = 5
"""Starts in a row of one worker that fail while nobody else serves: then it is given up."""
GRACE: Final = 2.0
"""Seconds beyond the drain time-out after which a worker that does not go is killed."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Up(NamedTuple):
    """A worker's word that it serves; what it would tell its user, and how many seconds its runs may take to drain."""

    line: str
    drain_timeout: float


class Refused(NamedTuple):
    """A worker's word that it cannot serve, and why; `code` is the exit code."""

    sentence: str
    code: int = 1


Say = Callable[[Up | Refused], None]
Work = Callable[[socket.socket, Say], None]
"""What a worker does, in its own process: serve on the socket until a signal. It can be pickled."""


class GivenUp(Exception):
    """There is no worker, and there will be none."""

    def __init__(self, why: Refused) -> None:
        self.why = why
        super().__init__(why.sentence)


class Worker:
    """One process. `strikes`: how often in a row it and those before it in its place have died at their start."""

    def __init__(self, work: Work, sock: socket.socket, strikes: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.strikes = strikes
        self.up: Up | None = None
        self.refused: Refused | None = None
        self._up_at = 0.0
        self.ear, mouth = spawn.Pipe(duplex=False)
        self._process: SpawnProcess = spawn.Process(target=_work, args=(work, sock, mouth), name="tidelog-worker")
        self._process.start()
        mouth.close()
        self.sentinel = self._process.sentinel

    def __str__(self) -> str:
        return f"worker {self._process.pid}"

    def hear(self) -> None:
        """Take what it has said, if anything."""
        with contextlib.suppress(EOFError, OSError):
            while self.ear.poll():
                said = self.ear.recv()
                if isinstance(said, Up):
                    self.up, self._up_at = said, time.monotonic()
                else:
                    self.refused = said

    def pass_on(self, number: int) -> None:
        """Send it this signal; one that does not serve yet has no ears for Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid or 0, number if self.up is not None else signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def bury(self) -> str:
        """It has died: how. Raises nothing, waits for nothing."""
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        self.ear.close()
        steady = self.up is not None and time.monotonic() - self._up_at >= STEADY
        self.strikes = 0 if steady else self.strikes + 1
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


class Workers:
    """`count` workers, kept alive until a signal. `up` is called with the first one's word, once all of them serve."""

    def __init__(self, work: Work, sock: socket.socket, count: int, *, up: Callable[[Up], None]) -> None:
        self._work = work
        self._socket = sock
        self._count = count
        self._tell: Callable[[Up], None] | None = up
        self._alive: list[Worker] = []
        self._due: list[tuple[float, int]] = [(0.0, 0)]  # when to start one, and with how many strikes
        self._first: Up | None = None
        self._heard: deque[int] = deque()
        self._obeyed: list[int] = []
        self._kill_at: float | None = None
        """Known from the first signal on."""
        self._killed = False
        self._wake, self._woken = socket.socketpair()

    def run(self) -> None:
        """Until a signal, and until all have gone; the signal is then raised once more, as a server does. Raises `GivenUp`."""
        try:
            with _hearing(self._hear):
                while self._alive or self._due:
                    self._start()
                    self._wait()
                    self._obey()
                    self._look()
        finally:
            for worker in self._alive:
                worker.kill()
                worker.bury()
            for each in (self._wake, self._woken, self._socket):
                each.close()
        if self._obeyed:
            signal.raise_signal(self._obeyed[0])

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """A signal: nothing is done here that may not happen in the middle of anything else."""
        self._heard.append(number)
        self._woken.send(b"!")

    def _start(self) -> None:
        """Start those that are due."""
        now = time.monotonic()
        due = [strikes for at, strikes in self._due if at <= now]
        self._due = [each for each in self._due if each[0] > now]
        for strikes in due:
            self._alive.append(Worker(self._work, self._socket, strikes))

    def _wait(self) -> None:
        """For a word, a death, a signal or a time."""
        times = [at for at, _ in self._due]
        if self._kill_at is not None and not self._killed:
            times.append(self._kill_at)
        left = max(0.0, min(times) - time.monotonic()) if times else None
        ears: list[Any] = [worker.ear for worker in self._alive if worker.up is None and worker.refused is None]
        connection.wait([self._wake, *ears, *(worker.sentinel for worker in self._alive)], left)

    def _obey(self) -> None:
        """Pass the signals on that were heard; kill who does not go."""
        while self._heard:
            self._wake.recv(1)
            self._go(self._heard.popleft())
        if self._kill_at is not None and not self._killed and time.monotonic() >= self._kill_at:
            self._killed = True
            for worker in self._alive:
                log.warning("tidelog: %s does not end and is killed", worker)
                worker.kill()

    def _go(self, number: int) -> None:
        self._obeyed.append(number)
        if self._kill_at is None:
            drain = max((worker.up.drain_timeout for worker in self._alive if worker.up is not None), default=0.0)
            self._kill_at = time.monotonic() + drain + GRACE
            self._due.clear()
            self._socket.close()  # else the system would go on taking connections for nobody
        for worker in self._alive:
            worker.pass_on(number)

    def _look(self) -> None:
        """Hear what the workers say, and see who has died."""
        for worker in self._alive:
            worker.hear()
        dead = connection.wait([worker.sentinel for worker in self._alive], 0)
        for worker in [worker for worker in self._alive if worker.sentinel in dead]:
            self._alive.remove(worker)
            worker.hear()
            self._replace(worker)
        self._count_those_up()

    def _count_those_up(self) -> None:
        up = [worker.up for worker in self._alive if worker.up is not None]
        if self._first is None and up and self._kill_at is None:
            self._first = up[0]
            self._due += [(0.0, 0)] * (self._count - 1)
        if self._tell is not None and self._first is not None and len(up) == self._count:
            self._tell(self._first)
            self._tell = None

    def _replace(self, dead: Worker) -> None:
        name, how = str(dead), dead.bury()
        if self._kill_at is not None:
            return
        why = dead.refused or Refused(f"The application did not start: {name} ended with {how}.")
        serving = any(worker.up is not None for worker in self._alive)
        if dead.up is None and (self._first is None or (dead.strikes >= TRIES and not serving)):
            raise GivenUp(why)
        delay = min(LONGEST_DELAY, DELAY * 2.0 ** (dead.strikes - 2)) if dead.strikes > 1 else 0.0
        log.warning(
            "tidelog: %s ended (%s), another one starts%s", name, _reason(dead, how), f" in {delay:g} s" * bool(delay)
        )
        self._due.append((time.monotonic() + delay, dead.strikes))


def _reason(dead: Worker, how: str) -> str:
    return dead.refused.sentence if dead.refused is not None else how


def _work(work: Work, sock: socket.socket, mouth: Connection) -> None:
    """In the new process."""
    os.setsid()
    threading.Thread(target=_mind_parent, name="tidelog-parent", daemon=True).start()
    work(sock, mouth.send)


def _mind_parent() -> None:
    """Go when the one who watches has gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _hearing(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, hear) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
