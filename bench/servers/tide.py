"""tidelog, by its public API; the store comes from the roster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from fastapi import FastAPI

from bench.servers.source import one_token, tokens
from tidelog import Tidelog

tide = Tidelog(os.environ["BENCH_STORE"])
app = FastAPI()
app.include_router(tide.router)


@app.get("/stream")
@tide.stream
async def stream(seconds: float, rate: float) -> AsyncIterator[str]:
    async for _, text in tokens(seconds, rate):
        yield text


@app.get("/idle")
@tide.stream
async def idle() -> AsyncIterator[str]:
    async for _, text in one_token():
        yield text
