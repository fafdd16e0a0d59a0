"""What every server streams: text that knows when it was meant to come, from one async generator, as an SDK gives it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic_ns
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Shared(NamedTuple):
    """One run that everybody watches: ``burst`` texts at once, ``rate`` texts a second (0: as fast as it can).

    ``start`` is the nanosecond of CLOCK_MONOTONIC of the first, 0 for now; ``pad`` is how many bytes fill up each text.
    """

    start: int
    events: int
    rate: float
    burst: int = 1
    pad: int = 0


def shared_of(query: Mapping[str, str]) -> Shared:
    """What the query of a request says of it."""
    return Shared(
        int(query["start"]), int(query["count"]), float(query["rate"]), int(query["burst"]), int(query["pad"])
    )


async def tokens(seconds: float, rate: float, pad: int = 0) -> AsyncIterator[str]:
    """Text i at i / ``rate`` seconds from now, for ``seconds``: ``<i>:<due, ns>;`` and ``pad`` bytes more."""
    start, step, padding = monotonic_ns(), 1e9 / rate, "x" * pad
    for number in range(round(seconds * rate)):
        due = start + round(number * step)
        await asyncio.sleep(max(0, due - monotonic_ns()) / 1e9)
        yield f"{number}:{due};{padding}"


async def one_token() -> AsyncIterator[str]:
    """One text, then a wait that only the end of the viewer ends."""
    yield f"0:{monotonic_ns()};"
    await asyncio.Event().wait()


async def bursts(run: Shared) -> AsyncIterator[str]:
    """The texts of a shared run, each burst without a pause inside."""
    start, padding = run.start or monotonic_ns(), "x" * run.pad
    step = 1e9 * run.burst / run.rate if run.rate else 0
    for first in range(0, run.events, run.burst):
        due = start + round(first // run.burst * step)
        if run.rate:
            await asyncio.sleep(max(0, due - monotonic_ns()) / 1e9)
        for number in range(first, min(first + run.burst, run.events)):
            yield f"{number}:{due};{padding}"


class Fan(Generic[T]):
    """A run for many viewers, as everybody writes it: a queue for each. ``make`` turns a text into what is queued, once."""

    def __init__(self, make: Callable[[str, int, str], T]) -> None:
        """``make`` gets the run's id, the number of the text, and the text."""
        self._make = make
        self._run = run_id()
        self._queues: set[asyncio.Queue[T | None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, run: Shared) -> None:
        """Produce for those who watch."""
        task = asyncio.create_task(self._produce(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def watch(self) -> AsyncIterator[T]:
        """What is produced from now on."""
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            self._queues.discard(queue)

    async def _produce(self, run: Shared) -> None:
        number = 0
        async for text in bursts(run):
            self._put(self._make(self._run, number, text))
            number += 1
        self._put(None)

    def _put(self, item: T | None) -> None:
        for queue in self._queues:
            queue.put_nowait(item)


def run_id() -> str:
    """As long as an id of tidelog, so that frames are of one size."""
    return secrets.token_hex(13)


def data(number: int, text: str) -> str:
    """The JSON that tidelog sends for a text delta, made the cheapest way there is."""
    return f'{{"seq":{number},"type":"text.delta","part":"p1","text":"{text}"}}'


def frame(run: str, number: int, text: str) -> bytes:
    """An event on the wire."""
    return f"id: {run}.1.{number}\ndata: {data(number, text)}\n\n".encode()
