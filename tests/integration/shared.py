"""The application that several processes run on one file. Beside its runs it notes, on its own, what their sources produced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tidelog import Tidelog, current_run

FOLDER = Path(os.environ.get("APP_FOLDER", "."))
"""Where the notes go."""

app = FastAPI()
tide = Tidelog(
    os.environ.get("APP_STORE"),
    drain_timeout=float(os.environ.get("APP_DRAIN_TIMEOUT", "1.0")),
    lease_patience=float(os.environ.get("APP_LEASE_PATIENCE", "8.0")),
)
app.include_router(tide.router)


@app.get("/where")
def where() -> int:
    """The process that answers."""
    return os.getpid()


@app.get("/numbers")
@tide.stream
async def numbers(to: int = 1_000_000, pause: float = 0.02) -> AsyncIterator[str]:
    """Numbers, one after the other; each is noted before it is yielded."""
    with (FOLDER / current_run().id).open("a", encoding="utf-8", buffering=1) as noted:
        noted.write(f"{os.getpid()}\n")
        for number in range(to):
            noted.write(f"{number}\n")
            yield f"{number} "
            await asyncio.sleep(pause)


@app.post("/paid")
@tide.stream
async def paid(body: dict[str, Any]) -> AsyncIterator[str]:
    """Asks a provider that notes each call, and takes its time."""
    with (FOLDER / "calls").open("a", encoding="utf-8") as calls:
        calls.write(f"{body['question']}\n")
    for word in ("It ", "costs ", "money."):
        yield word
        await asyncio.sleep(0.1)


@app.get("/asks")
@tide.stream
async def asks() -> AsyncIterator[str]:
    """Goes on with what a person says."""
    yield "Shall I? "
    yield f"You said {await tide.ask('Shall I?', options=['yes', 'no'])}."
