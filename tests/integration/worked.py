"""The application whose work is done by workers of a real job queue. Everything is set by the environment.

Beside its runs it notes, on its own, who did what: one line for each beginning, with the process, and one for each closing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.responses import FileResponse
from taskiq_redis import RedisStreamBroker

from tidelog import Answer, Tidelog, TidelogError, cancel_after, current_run, elsewhere

FOLDER = Path(os.environ.get("WORK_FOLDER", "."))
"""Where the notes go."""
REDIS = os.environ.get("WORK_REDIS", "redis://127.0.0.1:1/0")

broker = RedisStreamBroker(REDIS, xread_block=100, consumer_id="0")
celery = Celery("worked", broker=REDIS)
celery.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


class Holding(Tidelog):
    """Its workers have jobs in hand, and wait, while they are told to."""

    async def work(self, run: str) -> None:
        """See `seams.Jobs`."""
        if (FOLDER / "hold").exists():
            (FOLDER / run).write_text(f"fetched {os.getpid()}\n", encoding="utf-8")
            await asyncio.Event().wait()
        await super().work(run)


vars(elsewhere)["SEND_AGAIN"] = float(os.environ.get("WORK_SEND_AGAIN", elsewhere.SEND_AGAIN))
tide = Holding(
    os.environ.get("WORK_STORE", "memory:"),
    worker=celery if os.environ.get("WORK_QUEUE") == "celery" else broker,
    drain_timeout=1.0,
    lease_patience=float(os.environ.get("WORK_PATIENCE", "1.0")),
)
app = FastAPI()
app.include_router(tide.router)


def note(what: str) -> None:
    """A line in the file of this run."""
    with (FOLDER / current_run().id).open("a", encoding="utf-8") as file:
        file.write(f"{what} {os.getpid()}\n")


def open_gate(name: str) -> Path:
    """A file for which work waits."""
    return FOLDER / f"gate-{name}"


@app.get("/")
def page() -> FileResponse:
    """Two runs, watched in a browser."""
    return FileResponse(Path(__file__).parents[1] / "browser" / "pages" / "work.html")


@app.get("/count")
@tide.stream(on="worker")
async def count(to: int = 1_000_000, pause: float = 0.005) -> AsyncIterator[str]:
    """Numbers, one after the other."""
    note("began")
    try:
        for number in range(to):
            yield f"{number} "
            await asyncio.sleep(pause)
    finally:
        note("closed")


class Order(BaseModel):
    """What comes in a body."""

    title: str
    rows: int = 3


@app.post("/report")
@tide.stream(on="worker", message="title")
def report(order: Order) -> Iterator[Any]:
    """Sync, in a thread of the worker."""
    note("began")
    yield f"# {order.title}\n"
    for number in range(order.rows):
        tide.progress(number + 1, order.rows, task="rows")
        yield f"- {number}\n"


@app.post("/slow")
@tide.stream(on="worker", on_interrupt="restart")
def slow(words: str = "") -> Iterator[Any]:
    """Tells progress, and says a word where it is asked to; then it waits for its gate."""
    note("began")
    tide.progress(1, 2)
    if words:
        yield f"{words} "
    while not open_gate("slow").exists():
        time.sleep(0.02)
    yield "done"


async def answered(state: Any, answer: Answer) -> AsyncIterator[str]:
    """What follows the question of `asks`."""
    note("answered")
    yield f"{state} {answer.value}"


@app.post("/asks")
@tide.stream(on="worker", resume=answered)
async def asks(park_after: float = 60.0, state: str = "") -> AsyncIterator[str]:
    """Asks, and may be parked while it waits."""
    note("began")
    said = await tide.ask("Go on?", options=["yes", "no"], state=state or None, park_after=park_after)
    yield f"live {said}"


@app.get("/watched")
@tide.stream(on="worker", on_leave=cancel_after(0))
async def watched() -> AsyncIterator[str]:
    """Ends with its last viewer."""
    yield "on"
    await asyncio.sleep(3600)


@app.post("/hurried")
@tide.stream(on="worker", worker_timeout=0.5)
async def hurried() -> AsyncIterator[str]:
    """Waits for a worker for half a second."""
    yield "taken"


@tide.on_worker()
async def add(a: int, b: int = 0) -> AsyncIterator[str]:
    """For `tide.start`."""
    note("began")
    yield str(a + b)


@app.post("/sum")
async def total(a: int, b: int) -> dict[str, str]:
    """An answer of its own; the work is started beside it, and waited for."""
    run = await tide.start(partial(add, a, b=b), on="worker")
    return {"run": run.id, "outcome": await run.wait()}


@tide.on_worker()
async def tell(what: Any) -> AsyncIterator[str]:
    """For what does not travel."""
    yield str(what)


@app.post("/untold")
async def untold() -> dict[str, str]:
    """How the start is refused of work with something that is no JSON."""
    try:
        run = await tide.start(partial(tell, object()), on="worker")
    except TidelogError as error:
        return {"code": error.code}
    return {"run": run.id}


def write(run: str, title: str) -> None:
    """The body of a task that was there before."""
    try:
        with tide.writer(run=run) as out:
            out.text(f"{title}: ")
            for number in range(3):
                out.text(f"{number} ")
                out.progress(number + 1, 3)
    except TidelogError as error:
        if error.code != "run_taken":
            raise
        with (FOLDER / run).open("a", encoding="utf-8") as file:
            file.write(f"refused {os.getpid()}\n")


celery_write = celery.task(write, name="write", lazy=False)
taskiq_write = broker.register_task(write, task_name="write")  # sync: in a thread of the worker


@app.post("/reserve")
async def reserve(title: str, run: str | None = None) -> dict[str, str]:
    """A job of the application's own, for a new run or, once more, for this one."""
    reserved = run or (await tide.reserve(message=title)).id
    if tide.carrier is not None and "celery" in type(tide.carrier).__module__:
        await asyncio.to_thread(celery_write.delay, reserved, title)
    else:
        await taskiq_write.kiq(reserved, title)
    return {"run": reserved, "events": f"/runs/{reserved}/events"}


@app.post("/again/{run}")
async def again(run: str) -> None:
    """The queue delivers the job of this run once more."""
    assert tide.carrier is not None
    await tide.carrier.send(run)
