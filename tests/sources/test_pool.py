"""The bounded pool of threads."""

from __future__ import annotations

import threading
import time
import weakref

import pytest
from tests.parts import PATIENCE

from tidelog.sources.pool import Pool


def wait_for(condition: object) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_it_never_has_more_threads_than_its_size_and_uses_idle_ones_again() -> None:
    pool, seen, done = Pool(2), set[int](), threading.Semaphore(0)

    def job() -> None:
        seen.add(threading.get_ident())
        done.release()

    for _ in range(50):
        pool.submit(job)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(50))
    assert 1 <= len(seen) <= 2
    wait_for(lambda: pool._idle == pool._threads)
    before = pool._threads
    pool.submit(job)
    assert done.acquire(timeout=PATIENCE)
    assert pool._threads == before
    pool.close()


def test_jobs_that_wait_can_be_cancelled_and_are_not_begun_after_the_close() -> None:
    pool, go, ran = Pool(1), threading.Event(), list[str]()
    began = threading.Event()

    def blocks() -> None:
        began.set()
        go.wait(PATIENCE)
        ran.append("first")

    def second() -> None:
        ran.append("second")

    def third() -> None:
        ran.append("third")

    for job in (blocks, second, third):
        pool.submit(job)
    assert began.wait(PATIENCE)
    assert pool.waiting == 2
    assert pool.cancel(second)
    assert not pool.cancel(second)
    assert not pool.cancel(blocks)
    pool.close()
    go.set()
    wait_for(lambda: ran)
    assert pool.cancel(third)
    with pytest.raises(RuntimeError):
        pool.submit(second)
    assert ran == ["first"]


def test_an_idle_thread_keeps_no_job() -> None:
    class Job:
        def __call__(self) -> None:
            pass

    pool, job = Pool(1), Job()
    left = weakref.ref(job)
    pool.submit(job)
    del job
    wait_for(lambda: left() is None)
    assert pool._threads == 1
    pool.close()
