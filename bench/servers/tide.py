"""tidelog, by its public API; the store comes from the roster."""

from __future__ import annotations

import os

from fastapi import FastAPI
from starlette.responses import Response

from bench.servers.source import Shared, bursts, one_token, tokens
from tidelog import Tidelog

tide = Tidelog(os.environ["BENCH_STORE"])
app = FastAPI()
app.include_router(tide.router)


@app.get("/stream")
async def stream(seconds: float, rate: float, pad: int = 0) -> Response:
    return tide.response(tokens(seconds, rate, pad))


@app.get("/idle")
async def idle() -> Response:
    return tide.response(one_token())


@app.post("/fan")
async def fan(start: int, count: int, rate: float, burst: int, pad: int) -> Response:
    return tide.response(bursts(Shared(start, count, rate, burst, pad)), default="async")
