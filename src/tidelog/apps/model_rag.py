"""`/rag` with a model: it answers from the passages that were found, and cites them by number."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from tidelog import Data, Progress, Sources, Tidelog
from tidelog.apps import prompts
from tidelog.apps.documents import language
from tidelog.apps.library import Library
from tidelog.apps.model_wire import Asked
from tidelog.apps.rag import SEARCHING, Ask, find
from tidelog.apps.tools.toolbox import passages

if TYPE_CHECKING:
    from tidelog.apps.model import Model


async def cited(tide: Tidelog, model: Model, library: Library, ask: Ask) -> AsyncIterator[Any]:
    """The run of one question: the sources first, then the model's answer. [1] is the first source."""
    index = await library.index()
    found = await asyncio.to_thread(find, index, ask.question)
    asked = Asked(prompts.with_passages(passages(found.hits)), prompts.conversation(await tide.history()))
    async with model.ask(asked) as answer:
        yield Data(name="question", data=ask.question)
        yield Progress(task="retrieve", note=SEARCHING[ask.lang or language(ask.question)])
        yield Sources(found.sources)
        async with aclosing(answer.told(tide)) as chunks:
            async for chunk in chunks:
                yield chunk
