import json
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

app = FastAPI()
prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("human", "{question}")])


@cache
def model() -> BaseChatModel:
    return ChatOpenAI(model="gpt-5")


@tool
def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


class Ask(BaseModel):
    question: str


def frame(kind: str, data: Any) -> str:
    return f"data: {json.dumps({'type': kind, 'data': data})}\n\n"


async def answer(question: str) -> AsyncIterator[str]:
    chain = prompt | model() | StrOutputParser()
    try:
        async for token in chain.astream({"question": question}):
            yield frame("content", token)
    except Exception as error:
        yield frame("error", str(error))
    yield "data: [DONE]\n\n"


async def steps(question: str) -> AsyncIterator[str]:
    messages: Any = {"messages": [("user", question)]}
    try:
        async for event in create_agent(model(), [add]).astream_events(messages, version="v2"):
            if event["event"] == "on_chat_model_stream" and event["data"]["chunk"].content:
                yield frame("content", event["data"]["chunk"].content)
            elif event["event"] == "on_tool_start":
                yield frame("tool_start", {"name": event["name"], "input": event["data"].get("input")})
            elif event["event"] == "on_tool_end":
                yield frame("tool_end", {"name": event["name"], "output": event["data"]["output"].content})
    except Exception as error:
        yield frame("error", str(error))
    yield "data: [DONE]\n\n"


@app.post("/chat")
async def chat(ask: Ask) -> StreamingResponse:
    return StreamingResponse(answer(ask.question), media_type="text/event-stream")


@app.post("/agent")
async def agent(ask: Ask) -> StreamingResponse:
    return StreamingResponse(steps(ask.question), media_type="text/event-stream")
