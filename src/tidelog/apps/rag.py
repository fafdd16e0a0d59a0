"""`/rag`: answers a question in sentences of the documents, sources first. No model, nothing invented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import partial
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import APIRouter, Query
from pydantic import BaseModel, StringConstraints

from tidelog import Data, Progress, Source, Sources, Tidelog, TidelogError, current_run
from tidelog.apps.documents import Hit, Index, Scored, answer, language, nothing_found, score, sources, written
from tidelog.apps.library import Library
from tidelog.apps.pace import Pace, paced

MAX_QUESTION_CHARS: Final = 2_000
ECHO: Final = 200
"""Characters of the earlier text that a continued answer repeats: as many as tidelog drops again."""
LEAST_ECHO: Final = 8

Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARS)]
Lang = Literal["en", "zh"]

SEARCHING: Final[dict[Lang, str]] = {"en": "Searching", "zh": "正在查找"}
_ANY_QUESTION: Final[dict[Lang, str]] = {"en": "", "zh": "问"}


class Ask(BaseModel):
    """The body of a question. `lang` is the language of tidelog's own words; without it, that of the question."""

    question: Question
    pace: Pace = 0
    lang: Lang | None = None


class Found(NamedTuple):
    """What was retrieved for a question: `hits` and `sources` stand for each other, in order; `scored` are their pieces.

    All are empty where nothing bears on the question.
    """

    hits: list[Hit]
    sources: list[Source]
    scored: list[Scored]


def rag_router(
    tide: Tidelog, library: Library, tell: Callable[[Ask], AsyncIterator[Any]] | None = None, *, attempts: int = 1
) -> APIRouter:
    """`GET /rag?question=` and `POST /rag` over these documents. `tell` makes the run of a question; None: `told`."""
    router = APIRouter()
    tell = tell or partial(told, library)

    @router.get("/rag")
    @tide.stream(default="auto", message="question", attempts=attempts)
    def rag(
        question: Annotated[Question, Query()], pace: Annotated[Pace, Query()] = 0, lang: Lang | None = None
    ) -> AsyncIterator[Any]:
        """Answer a question from the documents."""
        return tell(Ask(question=question, pace=pace, lang=lang))

    @router.post("/rag")
    @tide.stream(default="auto", message="question", attempts=attempts)
    def rag_post(ask: Ask) -> AsyncIterator[Any]:
        """Answer a question from the documents."""
        return tell(ask)

    return router


async def told(library: Library, ask: Ask) -> AsyncGenerator[Any, None]:
    """The run of one question. The question itself is the first event, so that the log tells what was asked.

    Raises `SourceError` if the documents cannot be read: before the first event, so that it is a status.
    """
    index = await library.index()
    lang = ask.lang or language(ask.question)
    yield Data(name="question", data=ask.question)
    yield Progress(task="retrieve", note=SEARCHING[lang])
    found = await asyncio.to_thread(find, index, ask.question)
    yield Sources(found.sources)
    said = await asyncio.to_thread(extracted, index, found, ask.question, lang=lang)
    before = current_run().partial if current_run().mode == "continue" else ""
    yield echo(said, before)
    async for piece in paced(without(before, said), ask.pace):
        yield piece


def find(index: Index, question: str) -> Found:
    """Retrieval: what the documents hold on a question, whoever answers it. Takes some milliseconds."""
    hits = index.search(question)
    scored = score(question, hits, index=index)
    if not any(one.score for one in scored):
        return Found([], [], [])
    shown = [
        Source(id=one.id, title=one.title, heading=one.heading, quote=one.quote, score=one.score)
        for one in sources(question, hits, index=index, scored=scored)
    ]
    return Found(hits, shown, scored)


def extracted(index: Index, found: Found, question: str, *, lang: Lang) -> list[str]:
    """The built-in answerer: sentences of what was found, one string each, with citations. No model."""
    if not found.hits:
        return [nothing_found(_ANY_QUESTION[lang], index.documents)]
    return list(written(answer(question, found.hits, index=index, scored=found.scored)))


def without(before: str, sentences: list[str]) -> Iterator[str]:
    """The sentences behind the text `before`, the first of them cut where that ends."""
    skip = len(before)
    for sentence in sentences:
        if rest := sentence[skip:]:
            yield rest
        skip = max(0, skip - len(sentence))


def echo(said: list[str], before: str) -> str:
    """The end of the earlier text once more: tidelog drops it, and then takes no chance likeness for a repetition.

    Raises `TidelogError` if the documents have come to say something else.
    """
    if not "".join(said).startswith(before):
        raise TidelogError("The documents have changed since this answer began: retry it.", code="not_repeatable")
    return before[-ECHO:] if len(before) >= LEAST_ECHO else ""
