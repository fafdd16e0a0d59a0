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

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, to_behind = await backend()
            pumps = [asyncio.create_task(_pump(*each)) for each in ((reader, to_behind), (behind, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_behind.close()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE):
            sink.write(piece)
            await sink.drain()
