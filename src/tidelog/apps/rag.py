"""`/rag`: answers a question in sentences of the documents, sources first. No model, nothing invented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Query
from pydantic import BaseModel, StringConstraints

from tidelog import Data, Progress, Source, Sources, Tidelog, TidelogError, current_run
from tidelog.apps.documents import Index, answer, language, nothing_found, sources, written
from tidelog.apps.library import Library
from tidelog.apps.pace import Pace, paced

MAX_QUESTION_CHARS: Final = 2_000
ECHO: Final = 200
"""Characters of the earlier text that a continued answer repeats: as many as tidelog drops again."""
LEAST_ECHO: Final = 8

Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARS)]
Lang = Literal["en", "zh"]

_SEARCHING: Final[dict[Lang, str]] = {"en": "Searching", "zh": "正在查找"}
_ANY_QUESTION: Final[dict[Lang, str]] = {"en": "", "zh": "问"}


class Ask(BaseModel):
    """The body of a question. `lang` is the language of tidelog's own words; without it, that of the question."""

    question: Question
    pace: Pace = 0
    lang: Lang | None = None


class Found(NamedTuple):
    """What the documents say: the sources, and the answer one string a sentence."""

    sources: list[Source]
    sentences: list[str]


def rag_router(tide: Tidelog, library: Library) -> APIRouter:
    """`GET /rag?question=` and `POST /rag` over these documents."""
    router = APIRouter()

    @router.get("/rag")
    @tide.stream(default="auto")
    async def rag(
        question: Annotated[Question, Query()], pace: Annotated[Pace, Query()] = 0, lang: Lang | None = None
    ) -> AsyncIterator[Any]:
        """Answer a question from the documents."""
        async for event in told(library, Ask(question=question, pace=pace, lang=lang)):
            yield event

    @router.post("/rag")
    @tide.stream(default="auto")
    async def rag_post(ask: Ask) -> AsyncIterator[Any]:
        """Answer a question from the documents."""
        async for event in told(library, ask):
            yield event

    return router


async def told(library: Library, ask: Ask) -> AsyncIterator[Any]:
    """The run of one question. The question itself is the first event, so that the log tells what was asked.

    Raises `SourceError` if the documents cannot be read: before the first event, so that it is a status.
    """
    index = await library.index()
    lang = ask.lang or language(ask.question)
    yield Data(name="question", data=ask.question)
    yield Progress(task="retrieve", note=_SEARCHING[lang])
    found = await asyncio.to_thread(find, index, ask.question, lang)
    yield Sources(found.sources)
    before = current_run().partial if current_run().mode == "continue" else ""
    yield _echo(found, before)
    async for piece in paced(without(before, found.sentences), ask.pace):
        yield piece


def find(index: Index, question: str, lang: Lang) -> Found:
    """Search and answer; takes some milliseconds."""
    hits = index.search(question)
    said = answer(question, hits, index=index)
    if all(sentence.source is None for sentence in said):
        return Found([], [nothing_found(_ANY_QUESTION[lang], index.documents)])
    shown = [
        Source(id=one.id, title=one.title, heading=one.heading, quote=one.quote, score=one.score)
        for one in sources(question, hits, index=index)
    ]
    return Found(shown, list(written(said)))


def without(before: str, sentences: list[str]) -> Iterator[str]:
    """The sentences behind the text `before`, the first of them cut where that ends."""
    skip = len(before)
    for sentence in sentences:
        if rest := sentence[skip:]:
            yield rest
        skip = max(0, skip - len(sentence))


def _echo(found: Found, before: str) -> str:
    """The end of the earlier text once more: tidelog drops it, and then takes no chance likeness for a repetition.

    Raises `TidelogError` if the documents have come to say something else.
    """
    if not "".join(found.sentences).startswith(before):
        raise TidelogError("The documents have changed since this answer began: retry it.", code="not_repeatable")
    return before[-ECHO:] if len(before) >= LEAST_ECHO else ""
