from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from starlette.responses import Response

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


@cache
def joke() -> Runnable[Any, Any]:
    return ChatPromptTemplate.from_template("Tell me a joke about {topic}") | ChatOpenAI(model="gpt-5")


class Given(BaseModel):
    input: dict[str, Any]
    config: dict[str, Any] = {}
    kwargs: dict[str, Any] = {}


# One run, whichever way it is read: `Accept: application/json` is /invoke, `text/event-stream` is /stream.


@app.post("/joke")
@app.post("/joke/stream")
async def stream(given: Given, request: Request) -> Response:
    return tide.response(lambda: joke().astream(given.input, **given.kwargs), request=request)


@app.post("/joke/invoke")
async def invoke(given: Given, request: Request) -> Response:
    return tide.response(lambda: joke().astream(given.input, **given.kwargs), request=request, default="json")


@app.post("/joke/stream_events")
async def stream_events(given: Given, request: Request) -> Response:
    events = joke().astream_events(given.input, version="v2", **given.kwargs)
    return tide.response(tide.langchain(events), request=request)
