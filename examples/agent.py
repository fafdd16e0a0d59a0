import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import FastAPI
from openai import AsyncOpenAI, pydantic_function_tool
from pydantic import BaseModel

from tidelog import Tidelog, ToolEnded

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)
client = AsyncOpenAI(
    api_key=os.environ.get("OPENAI_API_KEY", "none")
)  # OPENAI_BASE_URL may name a server that needs none
MODEL = os.environ.get("OPENAI_MODEL", "gpt-5.4-mini")


class Ask(BaseModel):
    question: str


class Add(BaseModel):
    """Add two numbers."""

    a: float
    b: float

    def run(self) -> float:
        return self.a + self.b


class Clock(BaseModel):
    """Tell the time in a zone such as Asia/Tokyo."""

    zone: str

    def run(self) -> str:
        return datetime.now(ZoneInfo(self.zone)).isoformat(timespec="minutes")


TOOLS: dict[str, type[Add] | type[Clock]] = {"Add": Add, "Clock": Clock}


@app.post("/agent")
@tide.stream(message="question")
async def agent(ask: Ask) -> AsyncIterator[Any]:
    messages: list[Any] = [*await tide.history()]
    tools = [pydantic_function_tool(kind) for kind in TOOLS.values()]
    for _ in range(8):
        async with client.chat.completions.stream(model=MODEL, messages=messages, tools=tools) as stream:
            async for event in stream:
                yield event  # calls and their arguments become events of the run as they come
        answer = (await stream.get_final_completion()).choices[0].message
        messages.append(answer)
        for call in answer.tool_calls or ():
            output = TOOLS[call.function.name].model_validate_json(call.function.arguments).run()
            yield ToolEnded(call=call.id, output=output)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(output)})
        if not answer.tool_calls:
            break
