from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from starlette.responses import Response

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)
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


@app.post("/chat")
@tide.stream
async def chat(ask: Ask) -> AsyncIterator[Any]:
    async for chunk in (prompt | model()).astream({"question": ask.question}):
        yield chunk  # text, reasoning, calls, usage, why it ended


@app.post("/agent")
async def agent(ask: Ask, request: Request) -> Response:
    messages: Any = {"messages": [("user", ask.question)]}
    events = create_agent(model(), [add]).astream_events(messages, version="v2")
    return tide.response(tide.langchain(events), request=request)
