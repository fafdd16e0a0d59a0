"""Processes behind a real nginx that share nothing but a real Redis, and that somebody keeps killing."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.integration.crowd import APP, BEAT, PATIENCE, ROOT, environment
from tests.nginx_server import in_turn, nginx
from tests.redis_server import RedisServer, free_port

from tidelog.testing import Process, serve_process

SIZE: Final = 3
"""Processes that serve."""
TRIES: Final = 20
"""How often a process is started that does not start: as a rule because Redis is away just now."""


class Fleet:
    """`url` is that of nginx. A process that was killed starts again at once, at its port."""

    def __init__(self, folder: Path, redis: RedisServer, size: int = SIZE, *, env: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.url = ""
        self.ports = [free_port() for _ in range(size)]
        self.kills = 0
        self.failed_starts = 0
        self.output: list[str] = []
        """What the dead have printed."""
        self._env = environment(folder, APP_STORE=f"{redis.url}?beat={BEAT}", APP_LEASE_PATIENCE=str(PATIENCE), **env)
        self._pool = ThreadPoolExecutor(size)
        self._closing = False
        self._processes: list[Future[Process]] = []

    @property
    def processes(self) -> list[Process]:
        """All of them, once all serve."""
        return [started.result() for started in self._processes]

    def kill_one(self, dice: random.Random) -> bool:
        """`kill -9` one that serves, whoever that is; False if all are about to start."""
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
        self._processes = [self._pool.submit(self._start, port) for port in self.ports]
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
        return self._start(self.ports[place])

    def _start(self, port: int) -> Process:
        for tried in range(TRIES):
            try:
                return serve_process(APP, cwd=ROOT, env=self._env, port=port)
            except RuntimeError:
                if self._closing or tried == TRIES - 1:
                    raise
                self.failed_starts += 1
        raise AssertionError


@contextlib.contextmanager
def fleet(folder: Path, redis: RedisServer, size: int = SIZE, *, env: Mapping[str, str] = {}) -> Iterator[Fleet]:
    """The processes, and nginx before them, which gives each request to the next."""
    with Fleet(folder, redis, size, env=env) as found, nginx(in_turn(found.ports)) as found.url:
        yield found
