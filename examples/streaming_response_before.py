import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI()


async def answer(question: str) -> AsyncIterator[str]:
    for word in f"You asked: {question}".split():
        yield f"data: {json.dumps({'text': word + ' '})}\n\n"
        await asyncio.sleep(0.01)
    yield "data: [DONE]\n\n"


@app.get("/chat")
async def chat(question: str) -> StreamingResponse:
    return StreamingResponse(answer(question), media_type="text/event-stream")
