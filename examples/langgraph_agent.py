from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from starlette.responses import Response

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


@tool
def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


@tool
def order(item: str) -> str:
    """Order something, once a person has agreed."""
    agreed = interrupt({"question": f"Order {item}?"})
    return f"{item} is ordered." if agreed else f"{item} is not ordered."


def model() -> BaseChatModel:
    return ChatOpenAI(model="gpt-5")


@cache
def agent() -> Any:
    return create_agent(model(), [add, order], checkpointer=InMemorySaver())


class Ask(BaseModel):
    question: str


class Agree(BaseModel):
    agreed: bool


def run(given: Any, thread: str, request: Request, message: str | None = None) -> Response:
    """Tokens by `messages`, interrupts and what no model has said by `updates`: nothing comes twice."""
    config = {"configurable": {"thread_id": thread}}
    chunks = agent().astream(given, config, stream_mode=["messages", "updates"])
    return tide.response(tide.langgraph(chunks), request=request, thread=thread, message=message)


@app.post("/agent/{thread}")
async def ask(thread: str, ask: Ask, request: Request) -> Response:
    return run({"messages": [("user", ask.question)]}, thread, request, ask.question)


@app.post("/agent/{thread}/agree")
async def agree(thread: str, agree: Agree, request: Request) -> Response:
    return run(Command(resume=agree.agreed), thread, request)
