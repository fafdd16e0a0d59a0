import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI

from tidelog import Source, Sources, Tidelog, cancel_after

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


@app.get("/chat")
@tide.stream(dialect="sse-text", on_leave=cancel_after(10))
async def chat(question: str) -> AsyncIterator[Sources | str]:
    yield Sources([Source(id="s1", title="guide.md")])
    for word in f"You asked: {question}".split():
        yield f"{word} "
        await asyncio.sleep(0.01)
