"""The recorded chunks of spec/cases/sources: what each library's translator makes of them, under any chunking."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tidelog import events as e
from tidelog import registry
from tidelog.grammar import Grammar
from tidelog.parts import Chunk
from tidelog.sources.values import Values

FILES = sorted((Path(__file__).parent.parent.parent / "spec" / "cases" / "sources").glob("*.json"))
NAMED = [(f"{file.stem}: {case['name']}", case) for file in FILES for case in json.loads(file.read_text())]
ALL = [case for _, case in NAMED]
CASES = [pytest.param(case, id=name) for name, case in NAMED]

PLACES: dict[str, list[tuple[str | int, ...]]] = {
    "openai": [
        ("delta",),
        *[("choices", 0, "delta", name) for name in ("content", "refusal", "reasoning", "reasoning_content")],
        ("choices", 0, "delta", "tool_calls", 0, "function", "arguments"),
        ("choices", 0, "delta", "function_call", "arguments"),
    ],
    "anthropic": [("delta", "text"), ("delta", "thinking"), ("delta", "partial_json")],
    "pydantic_ai": [("delta", "content_delta"), ("delta", "args_delta")],
}
"""Where a chunk that is one delta keeps its text, for libraries whose deltas a provider may cut anywhere."""
TEXTS = {"text.delta": "text", "reasoning.delta": "text", "tool.input.delta": "json"}


@pytest.mark.parametrize("case", CASES)
def test_chunks_become_events(case: dict[str, Any]) -> None:
    assert told(case, case["chunks"]) == case["events"]


@pytest.mark.parametrize("library", sorted(PLACES))
def test_any_chunking_gives_the_same_events(library: str) -> None:
    cut = 0
    for case in (case for case in ALL if case["library"] == library):
        finer = [piece for chunk in case["chunks"] for piece in split(library, chunk)]
        cut += len(finer) > len(case["chunks"])
        assert merged(told(case, finer)) == merged(case["events"]), case["name"]
    assert cut >= 3, "nothing was cut"


def test_cases_are_of_libraries_of_the_table() -> None:
    assert {case["library"] for case in ALL} <= set(registry.SOURCES)


def told(case: dict[str, Any], chunks: Iterable[Any]) -> list[dict[str, Any]]:
    """The events of these chunks as JSON. The grammar must accept them all."""
    values, grammar = Values(), Grammar()
    grammar.accept(e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1))
    found: list[dict[str, Any]] = []
    for event in _events(values, case["library"], chunks):
        grammar.accept(event)
        found.append(json.loads(e.encode(event)))
    return found


def split(library: str, chunk: Any) -> list[Any]:
    """The chunk as two, where it is a delta of text and nothing else."""
    for place in PLACES.get(library, ()):
        text = _look(chunk, place)
        if isinstance(text, str) and len(text) > 1 and _is_bare(chunk):
            return [_put(chunk, place, text[:1]), _put(chunk, place, text[1:])]
    return [chunk]


def merged(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """With deltas that follow each other in one part or call joined."""
    out: list[dict[str, Any]] = []
    for event in events:
        field = TEXTS.get(event["type"])
        rest = {name: value for name, value in event.items() if name != field}
        if field and out and {name: value for name, value in out[-1].items() if name != field} == rest:
            out[-1] = {**event, field: out[-1][field] + event[field]}
        else:
            out.append(event)
    return out


def _events(values: Values, library: str, chunks: Iterable[Any]) -> Iterator[e.Event]:
    for chunk in chunks:
        yield from values.feed(Chunk(library, chunk))
    yield from values.end()


def _is_bare(chunk: dict[str, Any]) -> bool:
    """A delta alone: no snapshot, no end of a choice, no usage, no calls that are told whole, no other deltas."""
    if "snapshot" in chunk or chunk.get("usage"):
        return False
    if "choices" not in chunk:
        return True
    [choice, *others] = chunk["choices"]
    said = [value for name, value in choice["delta"].items() if name != "role" and value]
    calls = choice["delta"].get("tool_calls") or []
    return not (others or choice["finish_reason"] or len(said) > 1 or any("name" in call["function"] for call in calls))


def _look(value: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _put(chunk: Any, place: tuple[str | int, ...], text: str) -> Any:
    copy = deepcopy(chunk)
    _look(copy, place[:-1])[place[-1]] = text
    return copy
