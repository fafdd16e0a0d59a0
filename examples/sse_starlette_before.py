import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

app = FastAPI()


async def answer(question: str, request: Request) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent('{"docs": ["guide.md"]}', event="retrieval_done")
    for word in f"You asked: {question}".split():
        if await request.is_disconnected():
            break
        yield ServerSentEvent(f"{word} ")
        await asyncio.sleep(0.01)
    yield ServerSentEvent('{"type": "done"}', event="done")


@app.get("/chat")
async def chat(question: str, request: Request) -> EventSourceResponse:
    return EventSourceResponse(answer(question, request), ping=15)
