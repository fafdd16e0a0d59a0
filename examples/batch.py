"""All or nothing: every text is judged, or none is, and whoever waits for JSON gets a status that says which.

curl 127.0.0.1:8000/judge -H 'Content-Type: application/json' -d '{"texts": ["I like it", "It broke"]}'
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from tidelog import Data, SourceError, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)

AT_ONCE = 4


class Batch(BaseModel):
    texts: list[str] = Field(max_length=100)


async def stand_in(text: str) -> str:
    """Takes the place of a model that says what somebody thinks."""
    await asyncio.sleep(0.01)
    if not text.strip():
        raise SourceError("One of the texts is empty.", code="invalid_request")
    return "good" if "like" in text else "bad"


async def judge_all(texts: list[str]) -> list[dict[str, Any]]:
    room = asyncio.Semaphore(AT_ONCE)

    async def judge(text: str) -> dict[str, Any]:
        async with room:
            return {"text": text, "opinion": await stand_in(text)}

    async with asyncio.TaskGroup() as group:  # the first that fails cancels the others
        tasks = [group.create_task(judge(text)) for text in texts]
    return [task.result() for task in tasks]


@app.post("/judge")
@tide.stream(default="json")
async def judge(batch: Batch) -> AsyncIterator[Data]:
    yield Data(name="opinions", data=await judge_all(batch.texts))
