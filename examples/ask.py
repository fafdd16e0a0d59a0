from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from tidelog import Answer, Tidelog, ToolEnded, ToolInput, ToolStarted

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


async def send(letter: dict[str, str]) -> str:
    """What must not happen before somebody has agreed."""
    return f"sent to {letter['to']}"


async def decided(letter: dict[str, str], answer: Answer) -> AsyncIterator[Any]:
    """Goes on once there is an answer: in any process, after any restart."""
    if answer.value == "yes":
        yield ToolEnded(call="c1", output=await send(letter))
        yield "Done: the letter is on its way."
    else:
        yield ToolEnded(call="c1", outcome="stopped")
        yield "Nobody agreed in time." if answer.outcome == "expired" else "I have not sent it."


@app.post("/letter")
@tide.stream(resume=decided, park_after=30)
async def letter(to: str) -> AsyncIterator[Any]:
    """Writes, asks, and is parked until somebody says yes or no."""
    draft = {"to": to, "text": f"Dear {to}, the tide is in."}
    yield "I have written a letter. "
    yield ToolStarted(call="c1", name="send")
    yield ToolInput(call="c1", input=draft)
    answer = await tide.ask(
        "Send it?", options=["yes", "no"], data=draft, state=draft, expires=24 * 3600, default="no"
    )  # parked: the generator is closed here, and `decided` goes on
    async for each in decided(draft, Answer("", "answered", answer)):  # answered within 30 s: it goes on itself
        yield each


@app.post("/trip")
@tide.stream
async def trip() -> AsyncIterator[str]:
    """Waits where it stands: short questions need no more."""
    days: int = await tide.ask("How many days?", type=int, expires=300, default=3)
    yield f"{days} days by the sea, then."
