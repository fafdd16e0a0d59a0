"""The application of the browser tests, for `tidelog serve tests.browser.stage:app`.

It is the built-in one; below `/long`, with the same page, an application of known words (`scripted.py`); below `/tutorial`
the pages that tutorials write. `STAGE` is the folder of its stores.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.responses import FileResponse
from tests.browser.scripted import scripted

from tidelog import Source, SourceError, Sources, Tidelog, ToolEnded, ToolInput, ToolStarted
from tidelog.apps.main import make_app
from tidelog.apps.page import page_router

HERE = Path(__file__).parent
STORES = f"sqlite:///{os.environ.get('STAGE', '.')}"
CORPUS = HERE.parent / "apps" / "documents" / "corpus"
TOKEN = "s3cret"


class Ask(BaseModel):
    question: str


def check(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
    if given.credentials != TOKEN:
        raise HTTPException(401, "Unknown token.")


def tutorial() -> APIRouter:
    """Endpoints as tutorials have them, and their pages."""
    tide = Tidelog("memory:")
    router = APIRouter()
    router.include_router(tide.router)

    async def story(question: str) -> AsyncIterator[Any]:
        yield Sources([Source(id="s1", title="Tide tables", quote="High water at noon.")])
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
app.include_router(scripted(f"{STORES}/long.db"), prefix="/long")
app.include_router(page_router(), prefix="/long")
app.include_router(tutorial(), prefix="/tutorial")
