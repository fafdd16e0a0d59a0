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
@tide.stream(message="question")
async def chat(ask: Ask) -> AsyncIterator[Any]:
    messages: Any = await tide.history()  # of the conversation that the header Thread-Id names, this question included
    if messages[-1]["role"] == "assistant":  # `continue`: it ends with the text so far, and Claude answers only users
        messages.append({"role": "user", "content": "Your answer broke off. Go on exactly where it ends."})
    async with claude.messages.stream(model=MODEL, max_tokens=4096, messages=messages) as stream:
        async for event in stream:
            yield event  # text, reasoning, calls, citations, usage: all become events of the run
