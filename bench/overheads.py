"""What an answer costs that nobody would stream: a plain JSON endpoint against the forms of tidelog, over loopback.

    python -m bench.overheads [--seconds 2] [--connections 8]

CPU is the server's own time for a request, user and system together, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from fastapi import FastAPI

from tidelog import Tidelog
from tidelog.testing import Process, serve_process

TEXT = "What is short is here at once and needs no stream, so this is how much one costs."
WORDS = TEXT.split()
STORES = ("memory:", "sqlite:///bench.db")
SECONDS = 2.0
CONNECTIONS = 8
WARM = 0.5
LIMIT = 60.0


class Case(NamedTuple):
    """A path, and what the request accepts."""

    name: str
    path: str
    accept: str


class Cost(NamedTuple):
    """Milliseconds alone on one connection, requests a second on many, CPU microseconds of the server."""

    alone: float
    rate: float
    cpu: float


CASES = (
    Case("tide, JSON", "/json", "application/json"),
    Case("tide, auto", "/auto", "*/*"),
    Case("tide, text", "/sse", "text/plain"),
    Case("tide, SSE", "/sse", "text/event-stream"),
)
PLAIN = Case("plain JSON", "/plain", "application/json")


def make_app() -> FastAPI:
    """The same text as a plain endpoint and as runs."""
    app, tide = FastAPI(), Tidelog(os.environ.get("BENCH_STORE", "memory:"))
    app.include_router(tide.router)

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"text": "".join([word async for word in _words()])}

    @app.get("/json")
    @tide.stream(default="json")
    async def document() -> AsyncIterator[str]:
        async for word in _words():
            yield word

    @app.get("/auto")
    @tide.stream(default="auto")
    async def auto() -> AsyncIterator[str]:
        async for word in _words():
            yield word

    @app.get("/sse")
    @tide.stream
    async def sse() -> AsyncIterator[str]:
        async for word in _words():
            yield word

    return app


async def _words() -> AsyncIterator[str]:
    for word in WORDS:
        yield f"{word} "


async def measure(server: Process, case: Case, *, seconds: float, connections: int) -> Cost:
    """The cost of one case, after a warm-up."""
    await _load(server, case, WARM, connections)
    alone = await _load(server, case, seconds / 2, 1)
    process = psutil.Process(server.pid)
    before = sum(process.cpu_times()[:2])
    began = time.perf_counter()
    times = await _load(server, case, seconds, connections)
    took, cpu = time.perf_counter() - began, sum(process.cpu_times()[:2]) - before
    return Cost(statistics.median(alone) * 1e3, len(times) / took, cpu / len(times) * 1e6)


async def _load(server: Process, case: Case, seconds: float, connections: int) -> list[float]:
    """Seconds of each request; every connection sends the next when the last is answered."""
    until = time.perf_counter() + seconds
    async with asyncio.timeout(seconds + LIMIT):
        each = await asyncio.gather(*(_one(server, case, until) for _ in range(connections)))
    return [seconds for times in each for seconds in times]


async def _one(server: Process, case: Case, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    request = f"GET {case.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {case.accept}\r\n\r\n".encode()
    times = []
    while (began := time.perf_counter()) < until:
        writer.write(request)
        await _answer(reader)
        times.append(time.perf_counter() - began)
    writer.close()
    return times


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(head.decode())
    if b"\ncontent-length:" in head:
        await reader.readexactly(int(head.partition(b"\ncontent-length:")[2].partition(b"\r")[0]))
        return
    while (size := int(await reader.readuntil(b"\r\n"), 16)) or await reader.readexactly(2) != b"\r\n":
        await reader.readexactly(size + 2)


async def table(seconds: float, connections: int) -> str:
    """The table in Markdown; ratios are to the plain endpoint of the same server."""
    lines = [
        f"| {len(WORDS)} words | store | ms alone | requests/s ({connections} connections) | CPU µs | CPU, plain is 1 |",
        "|---|---|---|---|---|---|",
    ]
    for store in STORES:
        with tempfile.TemporaryDirectory() as folder, _server(store, folder) as server:
            plain = await measure(server, PLAIN, seconds=seconds, connections=connections)
            lines.append(_row(PLAIN.name, "none", plain, plain))
            for case in CASES:
                cost = await measure(server, case, seconds=seconds, connections=connections)
                lines.append(_row(case.name, store.partition(":")[0], cost, plain))
    return "\n".join(lines)


def report(quick: bool) -> None:
    """For `python -m bench`."""
    print(asyncio.run(table(0.5 if quick else SECONDS, CONNECTIONS)), flush=True)


def _server(store: str, folder: str) -> Process:
    root = Path(__file__).parent.parent
    environment = {"BENCH_STORE": store, "PYTHONPATH": str(root)}
    return serve_process("bench.overheads:app", cwd=folder, env=environment)


def _row(name: str, store: str, cost: Cost, plain: Cost) -> str:
    ratio = cost.cpu / plain.cpu
    return f"| {name} | {store} | {cost.alone:.2f} | {cost.rate:.0f} | {cost.cpu:.0f} | {ratio:.1f} |"


def __getattr__(name: str) -> Any:
    """`app` is made when a server asks for it."""
    if name == "app":
        return make_app()
    raise AttributeError(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    given = parser.parse_args()
    print(asyncio.run(table(given.seconds, given.connections)), file=sys.stdout)
