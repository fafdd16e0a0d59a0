"""Processes behind a real nginx, and workers, that share nothing but a real Redis, and that somebody keeps killing."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.integration.crowd import APP, BEAT, PATIENCE, ROOT, environment
from tests.integration.workers import listens, worker_process
from tests.nginx_server import in_turn, nginx
from tests.redis_server import RedisServer, free_port

from tidelog.testing import Process, serve_process

SIZE: Final = 3
"""Processes that serve."""
WORKERS: Final = 2
"""Processes that serve nobody, and do what is declared for workers: a taskiq of one process each."""
WORK: Final = ("-m", "taskiq", "worker", "tests.integration.shared:broker", "--workers", "1")
START_TIMEOUT: Final = 30.0
TRIES: Final = 20
"""How often a process is started that does not start: as a rule because Redis is away just now."""


class Fleet:
    """`url` is that of nginx. A process that was killed starts again at once, at its port."""

    def __init__(self, folder: Path, redis: RedisServer, *, env: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.url = ""
        self.ports = [free_port() for _ in range(SIZE)]
        self.kills = 0
        self.failed_starts = 0
        self.output: list[str] = []
        """What the dead have printed."""
        store = f"{redis.url}?beat={BEAT}"
        self._env = environment(folder, APP_STORE=store, APP_JOBS=redis.url, APP_LEASE_PATIENCE=str(PATIENCE), **env)
        self._starts: list[Callable[[], Process]] = [partial(self._serve, port) for port in self.ports]
        self._starts += [self._work] * WORKERS
        self._pool = ThreadPoolExecutor(len(self._starts))
        self._closing = False
        self._processes: list[Future[Process]] = []

    @property
    def processes(self) -> list[Process]:
        """All of them, once all are at work: those that serve, then the workers."""
        return [started.result() for started in self._processes]

    def kill_one(self, dice: random.Random) -> bool:
        """`kill -9` one that is at work, whoever that is; False if all are about to start."""
        alive = [place for place, started in enumerate(self._processes) if started.done()]
        if not alive:
            return False
        place = dice.choice(alive)
        victim = self._processes[place].result()
        victim.kill()
        self.kills += 1
        self._processes[place] = self._pool.submit(self._again, victim, place)
        return True

    def kill_every(self, seconds: float, times: int, dice: random.Random) -> None:
        """One after the other, so many."""
        pause = threading.Event()
        for _ in range(times):
            pause.wait(seconds)
            self.kill_one(dice)

    def __enter__(self) -> Fleet:
        self._processes = [self._pool.submit(self._start, place) for place in range(len(self._starts))]
        try:
            _ = self.processes
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for started in self._processes:
            with contextlib.suppress(Exception):
                process = started.result()
                self.output.append(process.output)
                process.__exit__(None, None, None)
        self._pool.shutdown()

    def _again(self, victim: Process, place: int) -> Process:
        self.output.append(victim.output)
        victim.__exit__(None, None, None)
        return self._start(place)

    def _start(self, place: int) -> Process:
        for tried in range(TRIES):
            try:
                return self._starts[place]()
            except RuntimeError:
                if self._closing or tried == TRIES - 1:
                    raise
                self.failed_starts += 1
        raise AssertionError

    def _serve(self, port: int) -> Process:
        return serve_process(APP, cwd=ROOT, env=self._env, port=port)

    def _work(self) -> Process:
        """A worker, once it takes jobs. Raises `RuntimeError` for one that does not."""
        process = worker_process(WORK, cwd=ROOT, env=self._env)
        until = time.monotonic() + START_TIMEOUT
        while not listens(process):
            if self._closing or time.monotonic() > until:
                said = process.output
                process.__exit__(None, None, None)
                raise RuntimeError(f"a worker did not start:\n{said}")
            time.sleep(0.05)
        return process


@contextlib.contextmanager
def fleet(folder: Path, redis: RedisServer, *, env: Mapping[str, str] = {}) -> Iterator[Fleet]:
    """The processes, and nginx before those that serve, which gives each request to the next."""
    with Fleet(folder, redis, env=env) as found, nginx(in_turn(found.ports)) as found.url:
        yield found
