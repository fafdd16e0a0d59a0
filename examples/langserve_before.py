import json
from collections.abc import AsyncIterator
from functools import cache
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from langchain_core.load import dumpd
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from sse_starlette import EventSourceResponse

app = FastAPI()


@cache
def joke() -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_template("Tell me a joke about {topic}") | ChatOpenAI(model="gpt-5")


class Given(BaseModel):
    input: dict[str, Any]
    config: dict[str, Any] = {}
    kwargs: dict[str, Any] = {}


# What `add_routes(app, joke(), path="/joke")` made: one route for each way to read the same answer.


@app.post("/joke/invoke")
async def invoke(given: Given) -> dict[str, Any]:
    output = await joke().ainvoke(given.input, **given.kwargs)
    return {"output": dumpd(output), "metadata": {"run_id": str(uuid4()), "feedback_tokens": []}}


@app.post("/joke/stream")
async def stream(given: Given) -> EventSourceResponse:
    async def frames() -> AsyncIterator[dict[str, str]]:
        yield {"event": "metadata", "data": json.dumps({"run_id": str(uuid4())})}
        try:
            async for chunk in joke().astream(given.input, **given.kwargs):
                yield {"event": "data", "data": json.dumps(dumpd(chunk))}
            yield {"event": "end"}
        except Exception:
            yield {"event": "error", "data": json.dumps({"status_code": 500, "message": "Internal Server Error"})}

    return EventSourceResponse(frames())


@app.post("/joke/stream_events")
async def stream_events(given: Given) -> EventSourceResponse:
    async def frames() -> AsyncIterator[dict[str, str]]:
        try:
            async for event in joke().astream_events(given.input, version="v2", **given.kwargs):
                yield {"event": "data", "data": json.dumps(dumpd(event))}
            yield {"event": "end"}
        except Exception:
            yield {"event": "error", "data": json.dumps({"status_code": 500, "message": "Internal Server Error"})}

    return EventSourceResponse(frames())
