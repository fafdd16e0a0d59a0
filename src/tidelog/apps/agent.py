"""`/agent`: tools, then an answer. The attached model chooses the tools; without one, a script does, and says so.

The tricky rule first. A model may call several tools at once: all are run at once, and their results go into the log and back to
the model in the order of the calls. A tool that fails is told to the model, which may mend its call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter

from tidelog import Data, SourceError, Tidelog, ToolInput, ToolStarted, current_run
from tidelog.apps import prompts
from tidelog.apps.documents import language
from tidelog.apps.library import Library
from tidelog.apps.model_choice import ATTEMPTS
from tidelog.apps.model_wire import Asked
from tidelog.apps.pace import paced
from tidelog.apps.rag import Ask, echo, without
from tidelog.apps.tools import Tool, mail
from tidelog.apps.tools.running import ended, worked
from tidelog.apps.tools.script import planned, sentences
from tidelog.apps.tools.toolbox import toolbox

if TYPE_CHECKING:
    from tidelog.apps.model import Model

ROUNDS: Final = 8
"""How often a model is asked in one run; in the last round it has to answer without tools."""


def agent_router(tide: Tidelog, library: Library, model: Model | None) -> APIRouter:
    """`POST /agent`. `pace` is the script's alone."""
    router, tools = APIRouter(), toolbox(library)

    @router.post("/agent")
    @tide.stream(default="auto", message="question", attempts=1 if model is None else ATTEMPTS, resume=mail.decided)
    def agent(ask: Ask) -> AsyncIterator[Any]:
        """Ask an agent: it computes, searches the documents, reads their tables and knows the time."""
        return scripted(tide, library, tools, ask) if model is None else reasoned(tide, model, tools, ask)

    return router


async def reasoned(tide: Tidelog, model: Model, tools: dict[str, Tool], ask: Ask) -> AsyncIterator[Any]:
    """The run of one question to the model: rounds of calls, until it calls none."""
    messages = prompts.conversation(await tide.history())
    used, cited = set[str](), 0
    for number in range(1, ROUNDS + 1):
        asked = Asked(prompts.AGENT, messages, tuple(tools.values()), may_call=number < ROUNDS)
        async with model.ask(asked, used=used) as answer:
            if number == 1:
                yield Data(name="question", data=ask.question)
            async with aclosing(answer.told(tide)) as chunks:
                async for chunk in chunks:
                    yield chunk
        if not answer.calls:
            return
        done = await worked(tools, answer.calls, cited)
        for event in ended(done):
            yield event
        cited += sum(len(one.sources) for one in done)
        messages += answer.heard.after([one.said for one in done])
    raise SourceError(f"The model still calls tools after {ROUNDS} rounds: ask for less at once.", retryable=False)


async def scripted(tide: Tidelog, library: Library, tools: dict[str, Tool], ask: Ask) -> AsyncIterator[Any]:
    """The run of one question without a model. Of all tools the script alone has `send_mail`, which asks before it acts."""
    index = await library.index()
    calls = await asyncio.to_thread(planned, index, ask.question)
    yield Data(name="question", data=ask.question)
    yield Data(name="answerer", data="scripted")
    if calls[0].name == mail.NAME:
        async for each in mail.asked(tide, calls[0], ask.lang or language(ask.question)):
            yield each
        return
    for call in calls:
        yield ToolStarted(call=call.id, name=call.name)
        yield ToolInput(call=call.id, input=call.input)
    done = await worked(tools, calls, 0)
    for event in ended(done):
        yield event
    said = await asyncio.to_thread(sentences, index, done, lang=ask.lang or language(ask.question))
    before = current_run().partial if current_run().mode == "continue" else ""
    yield echo(said, before)
    async for piece in paced(without(before, said), ask.pace):
        yield piece
