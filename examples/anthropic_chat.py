import os
from collections.abc import AsyncIterator
from typing import Any

from anthropic import AsyncAnthropic
from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)
claude = AsyncAnthropic()  # reads ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL
MODEL = os.environ.get("ANTHROPIC_MODEL", "claude-sonnet-5")


class Ask(BaseModel):
    question: str


@app.post("/chat")
@tide.stream
async def chat(ask: Ask) -> AsyncIterator[Any]:
    messages: Any = [{"role": "user", "content": ask.question}]
    async with claude.messages.stream(model=MODEL, max_tokens=4096, messages=messages) as stream:
        async for event in stream:
            yield event  # text, reasoning, calls, citations, usage: all become events of the run
