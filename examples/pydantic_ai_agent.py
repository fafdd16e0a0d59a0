import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic_ai import Agent

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@cache
def agent() -> Agent[None, str]:
    """Its provider reads its own key: ANTHROPIC_API_KEY, OPENAI_API_KEY …"""
    return Agent(os.environ.get("MODEL", "anthropic:claude-sonnet-5"), tools=[add, now])


class Ask(BaseModel):
    question: str


@app.post("/agent")
@tide.stream
async def answer(ask: Ask) -> AsyncIterator[Any]:
    async with agent().run_stream_events(ask.question) as events:
        async for event in events:
            yield event  # text, reasoning, calls and their results, usage: all become events of the run
