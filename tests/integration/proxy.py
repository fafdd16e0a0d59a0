"""A proxy that gives each connection to the next process that takes it. No stickiness, nothing kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from typing import Final

PIECE: Final = 16 * 1024
PAUSE: Final = 0.05
"""Seconds between two looks when no process takes connections."""


@contextlib.asynccontextmanager
async def round_robin(ports: Sequence[int]) -> AsyncIterator[int]:
    """Forward what comes to the port that this gives to processes at these ports, in turn."""
    turns = cycle(ports)

    async def backend() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            for _ in ports:
                with contextlib.suppress(OSError):
                    return await asyncio.open_connection("127.0.0.1", next(turns))
            await asyncio.sleep(PAUSE)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await backend()
        try:
            async with asyncio.TaskGroup() as group:
                pumps = [group.create_task(_pump(*each)) for each in ((reader, to_behind), (behind, writer))]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
        finally:
            await closed(to_behind)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(task := asyncio.current_task())
        try:
            await forward(reader, writer)
        finally:
            await closed(writer)
            connections.discard(task)

    connections: set[asyncio.Task[None] | None] = set()
    server = await asyncio.start_server(take, "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*filter(None, connections))


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close it, and wait until it is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()
