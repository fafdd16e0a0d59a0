"""`/chat`: a conversation in a thread. The attached model hears all of it; the built-in answerer the question alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from tidelog import Data, Tidelog
from tidelog.apps import prompts
from tidelog.apps.library import Library
from tidelog.apps.model_choice import ATTEMPTS
from tidelog.apps.model_wire import Asked
from tidelog.apps.rag import Ask, told

if TYPE_CHECKING:
    from tidelog.apps.model import Model


def chat_router(tide: Tidelog, library: Library, model: Model | None) -> APIRouter:
    """`POST /chat`. `pace` is the built-in answerer's alone."""
    router = APIRouter()

    @router.post("/chat")
    @tide.stream(default="auto", message="question", attempts=1 if model is None else ATTEMPTS)
    def chat(ask: Ask) -> AsyncIterator[Any]:
        """Say something in a conversation: the header `Thread-Id` names it."""
        return quoted(library, ask) if model is None else conversed(tide, model, ask)

    return router


async def conversed(tide: Tidelog, model: Model, ask: Ask) -> AsyncIterator[Any]:
    """The run of one answer by the model."""
    asked = Asked(prompts.CHAT, prompts.conversation(await tide.history()))
    async with model.ask(asked) as answer:
        yield Data(name="question", data=ask.question)
        async with aclosing(answer.told(tide)) as chunks:
            async for chunk in chunks:
                yield chunk


async def quoted(library: Library, ask: Ask) -> AsyncIterator[Any]:
    """The run of one answer by the built-in answerer, which says that it is one."""
    async with aclosing(told(library, ask)) as events:
        yield await anext(events)  # the question
        yield Data(name="answerer", data="extractive")
        async for event in events:
            yield event
