"""A short text comes back as one JSON document; a long one turns into a stream by itself.

curl 127.0.0.1:8000/translate -H 'Content-Type: application/json' -d '{"text": "good morning"}'
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)

WORDS = {"good": "guten", "morning": "Morgen", "thanks": "danke"}


class Text(BaseModel):
    text: str


async def stand_in(text: str) -> AsyncIterator[str]:
    """Takes the place of a model. Put your client's stream here: what it gives can be yielded as it is."""
    for word in text.split():
        await asyncio.sleep(0.01)
        yield f"{WORDS.get(word, word)} "


@app.post("/translate")
@tide.stream(default="auto")  # ended within 1 s (auto_hold): JSON; else SSE, unless the request names a form
async def translate(text: Text) -> AsyncIterator[str]:
    async for chunk in stand_in(text.text):
        yield chunk
