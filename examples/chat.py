from collections.abc import AsyncIterator
from typing import Any

from backend import MODEL, Ask, app, client, tide

__all__ = ["app"]


@app.post("/chat")
@tide.stream(message="question")
async def chat(ask: Ask) -> AsyncIterator[Any]:
    messages: Any = await tide.history()  # of the conversation that the header Thread-Id names, this question included
    async with await client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        async for chunk in stream:
            yield chunk  # text, reasoning, calls, usage: all become events of the run
