"""Text is held, checked, then released: nothing unchecked reaches a viewer, or the log.

curl -N 127.0.0.1:8000/chat -H 'Content-Type: application/json' -d '{"question": "Why?"}'
"""

import asyncio
import re
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Finish, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)

END = re.compile(r"[.!?](?=\s)|[。！？]")
MOST_HELD = 2000
"""Characters. A sentence that does not end is checked in pieces."""


class Ask(BaseModel):
    question: str


async def stand_in(question: str) -> AsyncIterator[str]:
    """Takes the place of a model."""
    for word in f"You asked: {question} This is the answer. The secret is 42. You never see this.".split():
        await asyncio.sleep(0.01)
        yield f"{word} "


async def stand_in_check(text: str) -> bool:
    """Takes the place of a moderation model: whether this may be said."""
    await asyncio.sleep(0.01)
    return "secret" not in text


async def sentences(chunks: AsyncIterator[str]) -> AsyncIterator[str]:
    held = ""
    async for chunk in chunks:
        held += chunk
        while (end := END.search(held)) or len(held) >= MOST_HELD:
            cut = min(end.end() if end else MOST_HELD, MOST_HELD)
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


@app.post("/chat")
@tide.stream
async def chat(ask: Ask) -> AsyncIterator[str | Finish]:
    async for sentence in sentences(stand_in(ask.question)):
        if not await stand_in_check(sentence):
            yield Finish(reason="content_filter")
            return
        yield sentence
