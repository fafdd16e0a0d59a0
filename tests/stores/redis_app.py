"""The application of tests of the Redis store. In a process of its own everything is set by the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI

from tidelog import Tidelog

HEARTBEAT = 0.2


def make(url: str, source: Callable[[], AsyncIterator[str]] | None = None, *, lease_patience: float = 8.0) -> FastAPI:
    """An application with `/run`, which is this source, `/count`, and `/spend`, which tells in a file how it is treated."""
    made = FastAPI()
    tide = Tidelog(url, heartbeat=HEARTBEAT, drain_timeout=0.0, lease_patience=lease_patience)
    made.include_router(tide.router)
    made.state.tide = tide

    @made.get("/count")
    @tide.stream
    async def count(to: int = 1_000_000, pause: float = 0.005) -> AsyncIterator[str]:
        for number in range(to):
            yield f"{number} "
            await asyncio.sleep(pause)

    @made.get("/spend")
    @tide.stream
    async def spend(file: str) -> AsyncIterator[str]:
        _tell(file, "spending")
        try:
            yield "on"
            await asyncio.sleep(3600)
        finally:
            _tell(file, "closed")

    if source is not None:

        @made.get("/run")
        @tide.stream
        async def run() -> AsyncIterator[str]:
            async for chunk in source():
                yield chunk

    return made


def _tell(file: str, what: str) -> None:
    Path(file).write_text(what)


if "APP_STORE" in os.environ:
    app = make(os.environ["APP_STORE"], lease_patience=float(os.environ.get("APP_LEASE_PATIENCE", "8")))
