"""taskiq: a job is awaited on the worker's own loop, beside the others that it has."""

from __future__ import annotations

from typing import Final

from taskiq import AsyncBroker, TaskiqEvents, TaskiqState

from tidelog.errors import InvalidRequest
from tidelog.seams import Jobs

JOB: Final = "tidelog.run"
"""The name of the task."""


class TaskiqCarrier:
    """Implements `seams.Carrier` over a broker, which it starts and shuts with the application."""

    def __init__(self, queue: AsyncBroker, jobs: Jobs) -> None:
        """Raises `InvalidRequest` for a broker that carries another Tidelog's runs."""
        if JOB in queue.local_task_registry:
            raise InvalidRequest("This broker carries the runs of another Tidelog already: give each its own.")
        self._broker = queue
        self._jobs = jobs

        async def job(run: str) -> None:
            await jobs.work(run)

        self._task = queue.register_task(job, task_name=JOB)
        queue.add_event_handler(TaskiqEvents.WORKER_STARTUP, self._begin)
        queue.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, self._shut)

    @property
    def here(self) -> bool:
        return self._broker.is_worker_process

    async def start(self) -> None:
        await self._broker.startup()

    async def aclose(self) -> None:
        await self._broker.shutdown()

    async def send(self, run: str) -> None:
        await self._task.kiq(run)

    async def _begin(self, _: TaskiqState) -> None:
        if self.here:  # a broker in memory is its own worker, and has begun with the application
            await self._jobs.ready()

    async def _shut(self, _: TaskiqState) -> None:
        if self.here:
            await self._jobs.shut()
