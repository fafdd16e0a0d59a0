"""The application of the browser tests, for `tidelog serve stage:app`: the built-in one, a long answer of a known text
below `/long` with the same page, and the pages that tutorials write, below `/tutorial`. `STAGE` is the folder of its stores.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.responses import FileResponse

from tidelog import Data, SourceError, Sources, Tidelog, ToolEnded, ToolInput, ToolStarted
from tidelog.apps.main import make_app
from tidelog.apps.page import page_router

HERE = Path(__file__).parent
STORES = f"sqlite:///{os.environ.get('STAGE', '.')}"
CORPUS = HERE.parent / "apps" / "documents" / "corpus"
TOKENS = 500
RATE = 250.0
"""Tokens a second of the long answer."""
TOKEN = "s3cret"


class Ask(BaseModel):
    question: str
    pace: float = RATE


def long_text(question: str) -> list[str]:
    """The tokens of the answer to this question: English, Chinese, four-byte characters, what looks like HTML or SSE."""
    chance = random.Random(question)
    words = ("tide", "the", "log", "ebb,", "潮汐", "日志。", "🌊", "𝒙", "<b>", "&amp;", "data:", "id:", "é", "a_b")
    return [f"{chance.choice(words)}{number} " for number in range(TOKENS)]


def long_app(started: Counter[str]) -> APIRouter:
    tide = Tidelog(f"{STORES}/long.db")
    router = APIRouter()
    router.include_router(tide.router)

    @router.post("/rag")
    @tide.stream(default="auto")
    async def long(ask: Ask) -> AsyncIterator[Any]:
        started[ask.question] += 1
        if ask.question == "fail":
            raise SourceError("The tide is out.", code="rate_limited", retry_after=7)
        yield Data(name="question", data=ask.question)
        yield Sources([{"id": "s1", "title": "<i>Tides</i>", "quote": "<img src=x onerror=alert(1)>"}])
        loop = asyncio.get_running_loop()
        due = loop.time()
        for token in long_text(ask.question):
            await asyncio.sleep(max(0.0, due - loop.time()))
            yield token
            due += 1 / ask.pace

    @router.get("/started")
    def count(question: str) -> int:
        return started[question]

    return router


def tutorial() -> APIRouter:
    """Endpoints as tutorials have them, and their pages."""
    tide = Tidelog("memory:")
    router = APIRouter()
    router.include_router(tide.router)
    bearer = HTTPBearer()

    def check(given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> None:
        if given.credentials != TOKEN:
            raise HTTPException(401, "Unknown token.")

    async def story(question: str) -> AsyncIterator[Any]:
        yield Sources([{"id": "s1", "title": "Tide tables", "quote": "High water at noon."}])
        yield ToolStarted(call="c1", name="moon")
        yield ToolInput(call="c1", input={"day": 3})
        yield ToolEnded(call="c1", output="full")
        for word in f"The sea\nsays: {question} 潮汐 🌊".split(" "):
            await asyncio.sleep(0.01)
            yield f"{word} "
        if question == "fail":
            raise SourceError("The model is busy.", code="rate_limited")

    @router.get("/stream")
    @tide.stream
    async def stream(question: str) -> AsyncIterator[Any]:
        async for one in story(question):
            yield one

    @router.post("/chat", dependencies=[Depends(check)])
    @tide.stream
    async def chat(ask: Ask) -> AsyncIterator[Any]:
        async for one in story(ask.question):
            yield one

    @router.get("/{name}.html")
    def page(name: str) -> FileResponse:
        return FileResponse(HERE / "pages" / f"{name}.html")

    return router


app: FastAPI = make_app(f"{STORES}/main.db", str(CORPUS))
started: Counter[str] = Counter()
app.include_router(long_app(started), prefix="/long")
app.include_router(page_router(), prefix="/long")
app.include_router(tutorial(), prefix="/tutorial")
