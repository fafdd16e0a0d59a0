import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Source, Sources, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


class Ask(BaseModel):
    question: str


@app.post("/chat")
@tide.stream
async def chat(ask: Ask) -> AsyncIterator[Sources | str]:
    yield Sources([Source(id="s1", title="The guide")])
    for word in f"You asked: {ask.question} This is the answer.".split():
        yield f"{word} "  # a str is text, a dict or a pydantic model is data, an event is itself
        await asyncio.sleep(0.1)
