from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from backend import MODEL, Ask, app, client, tide

from tidelog import Source, Sources

__all__ = ["app"]


def search(question: str) -> list[str]:
    """The three paragraphs of documents/ that hold most words of the question: put your own retrieval here."""
    words = set(question.lower().split())
    found = [part for file in Path("documents").glob("*.md") for part in file.read_text().split("\n\n")]
    return sorted(found, key=lambda part: -len(words & set(part.lower().split())))[:3]


@app.post("/rag")
@tide.stream(message="question")
async def rag(ask: Ask) -> AsyncIterator[Any]:
    found = search(ask.question)
    yield Sources([Source(id=f"s{n}", title=text[:40], quote=text) for n, text in enumerate(found, 1)])
    passages = "\n\n".join(f"[{n}] {text}" for n, text in enumerate(found, 1))
    system: Any = {"role": "system", "content": f"Answer from these passages and cite them by number.\n\n{passages}"}
    messages: Any = [system, *await tide.history()]
    async with await client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        async for chunk in stream:
            yield chunk
