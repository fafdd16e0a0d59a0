"""Celery: a job blocks its process, or thread, for as long as the run lasts; the run itself lives on a loop in another thread.

Processes of a prefork pool are made after the application was imported, so nothing is begun before the first job.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from celery import Celery, signals

from tidelog.errors import InvalidRequest
from tidelog.seams import Jobs

JOB: Final = "tidelog.run"
"""The name of the task."""
PUBLISHING: Final = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0}
"""How often Celery tries to send a job, before whoever starts the run is told."""


class CeleryCarrier:
    """Implements `seams.Carrier` over a Celery application."""

    def __init__(self, queue: Celery, jobs: Jobs) -> None:
        """Raises `InvalidRequest` for an application that carries another Tidelog's runs."""
        self._app = queue
        self._jobs = jobs
        if JOB in queue._tasks:  # type: ignore[attr-defined]  # `tasks` would read the configuration too early
            raise InvalidRequest(
                "This Celery application carries the runs of another Tidelog already: give each its own."
            )

        # Late, and again if its process dies: a job that comes twice does no harm, and one that is lost delays its run.
        @queue.task(name=JOB, acks_late=True, reject_on_worker_lost=True, ignore_result=True, lazy=False)
        def job(run: str) -> None:
            jobs.call(jobs.work(run))

        self._task = job
        for signal in (signals.worker_process_shutdown, signals.worker_shutdown):
            signal.connect(self._shut, weak=False)

    @property
    def here(self) -> bool:
        return self._jobs.apart

    async def start(self) -> None:
        """Celery connects when it sends."""

    async def aclose(self) -> None:
        await asyncio.to_thread(self._app.close)

    async def send(self, run: str) -> None:
        await asyncio.to_thread(self._task.apply_async, (run,), retry_policy=PUBLISHING)

    def _shut(self, **_: Any) -> None:
        if self._jobs.apart:
            self._jobs.call(self._jobs.shut())
