import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.responses import Response

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


async def answer(question: str) -> AsyncIterator[str]:
    for word in f"You asked: {question}".split():
        yield f"{word} "
        await asyncio.sleep(0.01)


@app.get("/chat")
async def chat(question: str) -> Response:
    return tide.response(answer(question))
