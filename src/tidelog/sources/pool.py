"""A bounded pool of daemon threads for sync sources: a source that blocks for ever must not keep the process from exiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class Pool:
    """Runs jobs, at most `size` at once, each in one thread from beginning to end; others wait in order."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = 0
        self._idle = 0
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        """Run the job when a thread is free. Raises `RuntimeError` once the pool is closed."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool of threads is closed")
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._work, name="tidelog-source", daemon=True).start()

    def cancel(self, job: Job) -> bool:
        """Forget a job that has not begun; False if it has."""
        with self._changed:
            try:
                self._jobs.remove(job)
            except ValueError:
                return False
            return True

    def close(self) -> None:
        """Begin no more jobs; those at work go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._jobs or self._closed)
                self._idle -= 1
                if self._closed:
                    return
                job = self._jobs.popleft()
            job()
            del job  # while this thread is idle it must not keep the run
