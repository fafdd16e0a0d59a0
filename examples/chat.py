import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from openai import AsyncOpenAI
from pydantic import BaseModel

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)
client = AsyncOpenAI(
    api_key=os.environ.get("OPENAI_API_KEY", "none")
)  # OPENAI_BASE_URL may name a server that needs none
MODEL = os.environ.get("OPENAI_MODEL", "gpt-6-luna")


class Ask(BaseModel):
    question: str


@app.post("/chat")
@tide.stream(message="question", attempts=2)
async def chat(ask: Ask) -> AsyncIterator[Any]:
    messages: Any = await tide.history()  # of the conversation that the header Thread-Id names, this question included
    async with await client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        async for chunk in stream:
            yield chunk  # text, reasoning, calls, usage: all become events of the run
