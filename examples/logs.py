"""Live logs: a file as `tail -F` shows it, and what this process logs itself.

curl -N 127.0.0.1:8000/log -H 'Accept: text/plain'      curl -X POST 127.0.0.1:8000/orders
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from logging.handlers import WatchedFileHandler

from fastapi import FastAPI
from starlette.responses import Response

from tidelog import Tidelog, cancel_after

LOG = "shop.log"
DAY = 86_400.0
shop = logging.getLogger("shop")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    file = WatchedFileHandler(LOG)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    shop.addHandler(file)
    shop.setLevel(logging.INFO)
    yield
    shop.removeHandler(file)
    file.close()


app = FastAPI(lifespan=lifespan)
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


@app.get("/log")
async def log() -> Response:
    """The path is never the caller's to choose. Who may read logs is yours to check, here."""
    lines = tide.logs(LOG, last=20, format="text")
    # A log may be silent for long; a run that nobody watches need not go on.
    return tide.response(lines, gap_timeout=DAY, first_event_timeout=DAY, total_timeout=DAY, on_leave=cancel_after(5))


@app.get("/logging")
async def live() -> Response:
    records = tide.logging(logger=shop, level="INFO")
    return tide.response(records, gap_timeout=DAY, first_event_timeout=DAY, total_timeout=DAY, on_leave=cancel_after(5))


@app.post("/orders")
async def order() -> dict[str, str]:
    shop.info("an order has come in")
    return {"state": "taken"}
