"""Usage in every ending: what the provider told, an estimate, or `unknown`; never a silent zero (spec §2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.server.chat import make_tide

from tidelog import Tidelog, Usage
from tidelog.testing import Gate, Server, Viewer, serve

TEXT = "four words of text, "
GUESS = {"input": 0, "output": len(TEXT) * 3 // 4, "source": "estimated"}
UNKNOWN = {"input": 0, "output": 0, "source": "unknown"}
USAGE = {"prompt_tokens": 80, "completion_tokens": 9}
TOLD = {"input": 80, "output": 9, "source": "provider"}


def said(text: str) -> dict[str, Any]:
    """A chunk of a chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}


def told() -> dict[str, Any]:
    """The last chunk, where usage was asked for."""
    return {"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}


async def model(*steps: Any) -> AsyncIterator[Any]:
    """A model that gives chunks, waits at gates and fails with errors."""
    for step in steps:
        if isinstance(step, Exception):
            raise step
        if isinstance(step, Gate):
            await step.wait()
        else:
            yield step


def ended(end: Callable[[Server, Viewer], None] | None, *steps: Any, **options: Any) -> dict[str, Any]:
    """The ending of a run over these chunks, for which `end` did something after the third."""
    tide, app = make_tide(), FastAPI()
    app.include_router(tide.router)

    @app.get("/chat")
    async def chat() -> Response:
        return tide.response(lambda: tide.openai(model(*steps)), **options)

    with serve(app) as server:
        viewer = server.watch("/chat?merge=0")
        if end is not None:
            viewer.read(4)
            end(server, viewer)
        ending: dict[str, Any] = viewer.rest()[-1].json
        assert server.client.get(f"/runs/{viewer.run}").json()["usage"] == ending["usage"]
        assert server.client.get(f"/runs/{viewer.run}/transcript").json()["usage"] == ending["usage"]
    return ending


def stop(server: Server, viewer: Viewer) -> None:
    server.client.post(f"/runs/{viewer.run}/stop")


HALF = [said(TEXT)] * 3


@pytest.mark.parametrize(
    ("end", "steps", "options", "outcome", "usage"),
    [
        (None, [*HALF, told()], {}, "completed", TOLD),
        (None, HALF, {}, "completed", GUESS),
        (stop, [*HALF, Gate()], {}, "stopped", GUESS),
        (stop, [*HALF, told(), Gate()], {}, "stopped", TOLD),
        (None, [*HALF, RuntimeError()], {}, "failed", GUESS),
        (None, [*HALF, Gate()], {"gap_timeout": 0.1}, "timed_out", GUESS),
    ],
    ids=["told", "not told", "stopped", "stopped behind it", "failed", "stalled"],
)
def test_each_ending(end: Any, steps: list[Any], options: dict[str, Any], outcome: str, usage: dict[str, Any]) -> None:
    found = ended(end, *steps, **options)
    assert found["outcome"] == outcome
    assert found["usage"] == usage


def test_of_a_process_that_goes() -> None:
    tide, reached = make_tide(), Gate()

    async def work() -> None:
        run = await tide.start(lambda: tide.openai(model(*HALF, reached)))
        while not reached.arrived:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await tide.aclose()
        assert (run.outcome, run.writer.usage.output, run.writer.usage.source) == (
            "interrupted",
            GUESS["output"],
            "estimated",
        )

    asyncio.run(work())


def test_of_two_calls_of_which_one_is_cut() -> None:
    """What was told of the first stays, and only the second is estimated."""
    found = ended(stop, said("Hi"), told(), *HALF, Gate())
    assert found["usage"] == {"input": 80, "output": 9 + GUESS["output"], "source": "estimated"}


@pytest.mark.parametrize("values", [["plain text"], [{"data": 1}], []])
def test_without_a_model_it_is_unknown(values: list[Any]) -> None:
    tide, app = Tidelog("memory:"), FastAPI()
    app.include_router(tide.router)

    @app.get("/chat")
    async def chat() -> Response:
        return tide.response(values)

    with serve(app) as server:
        assert server.watch("/chat").rest()[-1].json["usage"] == UNKNOWN


def test_what_the_application_tells_itself_is_no_guess() -> None:
    """It may count better than we do, and its word replaces ours."""
    tide, app = Tidelog("memory:"), FastAPI()
    app.include_router(tide.router)

    async def answer() -> AsyncIterator[Any]:
        async for chunk in tide.openai(model(*HALF)):
            yield chunk
        yield Usage(input=5, output=6)

    @app.get("/chat")
    async def chat() -> Response:
        return tide.response(answer)

    with serve(app) as server:
        assert server.watch("/chat").rest()[-1].json["usage"] == {"input": 5, "output": 6, "source": "provider"}
