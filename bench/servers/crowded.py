"""tidelog with so many slots for runs, and room for everybody else in the queue."""

from __future__ import annotations

import os

from fastapi import FastAPI
from starlette.responses import Response

from bench.servers.source import tokens
from tidelog import Tidelog

tide = Tidelog(os.environ["BENCH_STORE"], max_runs=int(os.environ["BENCH_RUNS"]), queue=20_000)
app = FastAPI()
app.include_router(tide.router)


@app.get("/stream")
async def stream(seconds: float, rate: float) -> Response:
    return tide.response(tokens(seconds, rate))
