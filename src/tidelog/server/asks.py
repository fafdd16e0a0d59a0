"""`tide.ask`: a question to a person, as the application puts it: with a type of its own, from the loop or from a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Sequence
from typing import Any, TypedDict

import msgspec

from tidelog.errors import InvalidRequest
from tidelog.questions import Put, put
from tidelog.run import Run
from tidelog.sources.iterators import emit_from_thread


class AskArgs(TypedDict, total=False):
    """The keywords of `tide.ask`."""

    options: Sequence[str] | None
    type: Any
    default: Any
    expires: float | None
    data: Any
    state: Any
    park_after: float | None


async def ask(run: Run, prompt: str, args: AskArgs) -> Any:
    """Put the question in this run; the answer, in the type that was asked for."""
    if asyncio.get_running_loop() is not run.loop:
        raise InvalidRequest("this is another loop than the run's: ask there, or use tide.ask_blocking().")
    kind = args.get("type")
    question = _put(prompt, args, kind)
    answer = await run.questions.ask(question)
    if kind is None or answer.value is None:
        return answer.value
    return _adapter(kind).validate_json(msgspec.json.encode(answer.value))


def ask_blocking(run: Run, prompt: str, args: AskArgs) -> Any:
    """The same from a thread, behind what its sync generator has yielded.

    A run that ends or is parked meanwhile raises `CancelledError` in the thread, so that its generator closes.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise InvalidRequest("this is a loop, which must not be blocked: await tide.ask().")
    emit_from_thread(run, None)  # what was yielded before comes before
    try:
        return asyncio.run_coroutine_threadsafe(ask(run, prompt, args), run.loop).result()
    except concurrent.futures.CancelledError:
        raise asyncio.CancelledError("the run ends, or is parked") from None


def _put(prompt: str, args: AskArgs, kind: Any) -> Put:
    default, schema = args.get("default"), None
    if kind is not None:
        adapter = _adapter(kind)
        schema = adapter.json_schema()
        default = adapter.dump_python(default, mode="json") if default is not None else None
    return put(
        "", prompt, now=time.time(), options=args.get("options"), schema=schema, default=default,
        expires=args.get("expires"), data=args.get("data"), state=args.get("state"), park_after=args.get("park_after"),
    )  # fmt: skip


def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
