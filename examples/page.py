"""An application with a page: `tidelog serve page:app`, then open http://127.0.0.1:8000."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from pydantic import BaseModel

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


class Ask(BaseModel):
    question: str


@app.get("/", include_in_schema=False)
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/chat")
@tide.stream
async def chat(ask: Ask) -> AsyncIterator[str]:
    for word in f"You asked: {ask.question} This is a long answer, word by word.".split():
        yield f"{word} "
        await asyncio.sleep(0.1)
