"""A LangGraph graph that asks people: its interrupts are questions of the run, and their answers go on with the graph.

The graph's own checkpointer keeps where it stands, the run's log which question is open. So between the two nothing is held:
the run is parked as soon as the graph has stopped at an interrupt, and any process that has the graph goes on.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec

from tidelog.errors import InvalidRequest
from tidelog.parts import Chunk
from tidelog.questions import Answer, Put, put
from tidelog.run import Run, current
from tidelog.sources.langchain_values import get, plain
from tidelog.sources.wrapped import wrapped_async

MODES: Final = ("messages", "updates")
"""What is streamed unless the application says otherwise: tokens, and what no model has said."""
INTERRUPT: Final = "__interrupt__"
PROMPTS: Final = ("question", "prompt", "message", "description")
"""Where the words of a question are looked for in an interrupt that is a dict."""

Question = Callable[[Any], Mapping[str, Any]]
"""What is asked for an interrupt's value: `prompt`, and `options` or `schema`, `data`, `expires`, `default`."""


class Graph:
    """One graph, or a function that gives it. `run` is a source; `resume` goes on with a parked one."""

    def __init__(self, graph: Any, *, name: str, question: Question | None, **streamed: Any) -> None:
        self.name = name
        self._graph = graph
        self._question = question or question_of
        self._streamed = {"stream_mode": list(MODES), **streamed}

    async def run(self, given: Any, config: Mapping[str, Any] | None = None) -> AsyncGenerator[Chunk]:
        """The graph's stream from this input on, to its end. Without a `thread_id` in `config` the run's thread counts.

        Raises `InvalidRequest` outside a run, and for a graph without a checkpointer once it asks.
        """
        run = _current()
        inner = {"thread_id": run.thread, **((config or {}).get("configurable") or {})}
        async with aclosing(self._turns(run, given, {**(config or {}), "configurable": inner}, {})) as chunks:
            async for chunk in chunks:
                yield chunk

    async def resume(self, state: Any, answer: Answer) -> AsyncGenerator[Chunk]:
        """Go on with a run that was parked at an interrupt."""
        told = {**state["told"], state["interrupt"]: answer.value}
        async with aclosing(self._turns(_current(), None, state["config"], told)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _turns(self, run: Run, given: Any, config: dict[str, Any], told: dict[str, Any]) -> AsyncGenerator[Chunk]:
        """From interrupt to interrupt. `given` None: some are open, and `told` is what was answered so far."""
        graph = self._graph() if callable(self._graph) and not hasattr(self._graph, "astream") else self._graph
        graph = await graph if inspect.isawaitable(graph) else graph
        while True:
            if given is not None:
                async with aclosing(
                    wrapped_async("langgraph", graph.astream(given, config, **self._streamed))
                ) as chunks:
                    async for chunk in chunks:
                        if not _is_interrupt(chunk.value):
                            yield chunk
            if getattr(graph, "checkpointer", None) is None:
                return  # who keeps nothing cannot be asked anything
            waiting = (await graph.aget_state(config)).interrupts
            if not waiting:
                return
            for one in waiting:
                if one.id not in told:
                    told[one.id] = (await run.questions.ask(self._put(one, config, told))).value
            given, told = _command(told), {}

    def _put(self, interrupt: Any, config: dict[str, Any], told: dict[str, Any]) -> Put:
        schema = getattr(interrupt, "response_schema", None)
        asked = dict(self._question(interrupt.value))
        if isinstance(schema, dict) and not asked.get("options") and not asked.get("schema"):
            asked["schema"] = schema
        state = {"config": _kept(config), "told": told, "interrupt": interrupt.id}
        return put("", asked.pop("prompt"), now=time.time(), state=state, park_after=0.0, **asked)


def question_of(value: Any) -> Mapping[str, Any]:
    """What is asked for an interrupt: its text, or the words and `options` in its dict; any JSON is an answer otherwise."""
    told = plain(value)
    if isinstance(told, str):
        return {"prompt": told, "schema": {}}
    fields = told if isinstance(told, dict) else {}
    words = next(
        (fields[name] for name in PROMPTS if isinstance(fields.get(name), str)), "The agent waits for an answer."
    )
    options = fields.get("options")
    if isinstance(options, list) and options and all(isinstance(one, str) for one in options):
        return {"prompt": words, "options": options, "schema": None, "data": told}
    return {"prompt": words, "schema": {}, "data": told}


def _current() -> Run:
    run = current.get(None)
    if run is None:
        raise InvalidRequest("a graph that asks runs inside a run: yield from it, or return it from @tide.stream.")
    return run


def _command(told: dict[str, Any]) -> Any:
    from langgraph.types import Command

    return Command(resume=told)


def _is_interrupt(chunk: Any) -> bool:
    """An update that tells of an interrupt alone: the question tells it better."""
    data = chunk[-1] if isinstance(chunk, tuple) else get(chunk, "data") if get(chunk, "type") == "updates" else chunk
    return isinstance(data, dict) and set(data) == {INTERRUPT}


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a config, what another process can be given: `configurable` and the rest, as far as it is JSON."""
    inner = {
        name: each for name, each in config["configurable"].items() if not name.startswith("__") and _is_json(each)
    }
    return {**{name: each for name, each in config.items() if _is_json(each)}, "configurable": inner}


def _is_json(value: Any) -> bool:
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(value)) == value)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return False
