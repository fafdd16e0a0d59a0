from collections.abc import AsyncIterator
from typing import Any

from backend import MODEL, Ask, app, client, tide
from tools import TOOLS, run_tool

from tidelog import ToolEnded

__all__ = ["app"]


@app.post("/agent")
@tide.stream(message="question")
async def agent(ask: Ask) -> AsyncIterator[Any]:
    messages: list[Any] = [*await tide.history()]
    while len(messages) < 20:
        async with client.chat.completions.stream(model=MODEL, messages=messages, tools=TOOLS) as stream:
            async for event in stream:
                yield event  # calls and their arguments become events of the run as they come
        messages.append(answer := (await stream.get_final_completion()).choices[0].message)
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            output = run_tool(call.function.name, call.function.arguments)
            yield ToolEnded(call=call.id, output=output)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(output)})
