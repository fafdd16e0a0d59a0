"""The application that tests run in processes of their own. Everything is set by the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from tidelog import Tidelog, cancel_after

app = FastAPI()
tide = Tidelog(
    os.environ.get("APP_STORE", "memory:"),
    drain_timeout=float(os.environ.get("APP_DRAIN_TIMEOUT", "1.0")),
    lease_patience=float(os.environ.get("APP_LEASE_PATIENCE", "8.0")),
    send_timeout=float(os.environ.get("APP_SEND_TIMEOUT", "30.0")),
)
app.include_router(tide.router)
closed: list[str] = []


@app.get("/count")
@tide.stream
async def count(to: int = 1_000_000, pause: float = 0.005) -> AsyncIterator[str]:
    """Numbers, one after the other."""
    for number in range(to):
        yield f"{number} "
        await asyncio.sleep(pause)


@app.get("/flood")
@tide.stream
async def flood(kilobytes: int = 10_000) -> AsyncIterator[str]:
    """More than a viewer that never reads can take; then it waits."""
    for _ in range(kilobytes):
        yield "x" * 1024
    await asyncio.sleep(3600)


@app.get("/fragile")
@tide.stream(on_leave=cancel_after(0))
async def fragile() -> AsyncIterator[str]:
    """Ends with its last viewer."""
    try:
        yield "on"
        await asyncio.sleep(3600)
    finally:
        closed.append("fragile")
