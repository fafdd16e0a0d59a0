"""What deploy/ serves until you put your own application there."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog()  # TIDELOG_STORE says where the logs are
app.include_router(tide.router)


@app.get("/report")
@tide.stream
async def report(chapters: int = 10) -> AsyncIterator[str]:
    """Work that takes a while; whoever asks with the same `?key=` again is shown the same run."""
    for chapter in range(1, chapters + 1):
        await asyncio.sleep(1)
        yield f"Chapter {chapter} is written. "
