"""Events are encoded once and read back as they were; the schema tells the truth about them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tidelog import events as e
from tidelog.blame import error_of
from tidelog.errors import InvalidEvent, SourceError, TooLarge

ROOT = Path(__file__).parent.parent

EXAMPLES: tuple[e.Event, ...] = (
    e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1, of="o", mode="continue"),
    e.TextDelta(text="你好 \u2028 \x00 \ud83d \"quoted\"\n"), e.TextSnapshot(text=""), e.TextEnded(),
    e.ReasoningDelta(text="\U0001f600"), e.ReasoningEnded(), e.ToolStarted(call="c", name="n", parent="p"),
    e.ToolInputDelta(call="c", json='{"q"'), e.ToolInput(call="c", input={"a": [1, 2.5, None, True]}),
    e.ToolEnded(call="c", outcome="failed", error="no"), e.Sources([e.Source("s1", "Guide", heading=("A", "B"), score=0.5)]),
    e.Progress(task="t", done=1, total=3, note="n"), e.Data(data={"k": [1]}, name="Kind"), e.Usage(input=1, output=2),
    e.Finish(reason="stop", raw="end_turn"),
    e.RunState(state="queued", position=3),
    e.RunState(state="paused"),
    e.QuestionAsked(question="q1", prompt="?", options=("a", "b"), default="a", expires=5.0, data={"k": 1}),
    e.QuestionAsked(question="q2", prompt="?", schema={"type": "integer"}),
    e.QuestionAnswered(question="q1", value="b", by="ann"),
    e.RunEnded(outcome="failed", error=e.Error.of("rate_limited", retry_after=3.5), usage=e.TokenUsage(), can=("retry",)),
)  # fmt: skip


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event: e.Event) -> None:
    data = e.encode(event)
    assert e.decode(data) == event
    assert b"\n" not in data
    assert json.loads(data)["type"] == type(event).__struct_config__.tag


def test_there_is_an_example_of_each() -> None:
    assert {type(event) for event in EXAMPLES} == set(get_args(e.AnyEvent))


@pytest.mark.parametrize("text", ["", "a", "你", "\n\r\0\u2028", "\ud800", "\ud83d\ude00", '"\\'])
@pytest.mark.parametrize("part", ["p1", 'od"d', "\udfff"])
def test_the_short_way_for_text_writes_the_same(text: str, part: str) -> None:
    for delta in (e.TextDelta(part=part, text=text), e.ReasoningDelta(part=part, text=text)):
        assert e.delta_prefix(delta) + e.encode_json(text) + b"}" == e.encode(delta)


DEEP: Any = []
for _ in range(2000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value", [object(), {(1, 2): 3}, DEEP, {"\ud800": float("nan")}], ids=lambda value: type(value).__name__
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(InvalidEvent):
        e.encode(e.Data(data=value))


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"of.a.later.version","x":1}',
        b'{"type":"text.delta","text":5}',
        b"{}",
        b"[" * 5000 + b"]" * 5000,
        b"{",
        b'{"type":"data","data":}',
    ],
)
def test_what_nobody_knows_is_none(data: bytes) -> None:
    assert e.decode(data) is None


def test_raw_json_is_written_on_one_line_or_refused() -> None:
    data = e.encode(e.Data(data={"upstream": msgspec.Raw(b'{\r\n"pretty": [\n1]\n}')}))
    assert data == b'{"type":"data","data":{"upstream":{"pretty":[1]}}}'
    with pytest.raises(InvalidEvent):
        e.encode(e.Data(data=msgspec.Raw(b"}\n\nevent: forged")))


def test_unknown_fields_are_ignored() -> None:
    assert e.decode(b'{"from":3,"type":"text.delta","part":"p1","text":"x","new":{}}') == e.TextDelta(text="x")


def test_sources_take_dicts() -> None:
    assert e.Sources([{"id": "a", "title": "A"}]) == e.Sources([e.Source("a", "A")])  # type: ignore[list-item]


class HTTPError(Exception):
    def __init__(self, status_code: int, detail: object) -> None:
        self.status_code, self.detail = status_code, detail


ERRORS: tuple[tuple[Exception, e.Error], ...] = (
    (ValueError("secret"), e.Error.of("internal")),
    (SourceError("Mine.", retry_after=2), e.Error("provider_error", "Mine.", True, 2)),
    (SourceError("secret", code="internal"), e.Error.of("internal")),
    (InvalidEvent("secret"), e.Error.of("invalid_event")),
    (TooLarge(), e.Error.of("too_large")),
    (HTTPError(429, "Slow down."), e.Error("rate_limited", "Slow down.", True)),
    (HTTPError(418, "Tea."), e.Error("invalid_request", "Tea.")),
    (HTTPError(500, {"secret": 1}), e.Error.of("internal")),
)


@pytest.mark.parametrize(("error", "told"), ERRORS)
def test_only_chosen_words_reach_the_wire(error: Exception, told: e.Error) -> None:
    assert error_of(error) == told


def test_the_schema_is_fresh() -> None:
    """`python scripts/schema.py` writes it again."""
    command = [sys.executable, "scripts/schema.py", "--print"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True).stdout.decode()
    assert (ROOT / "spec" / "events.schema.json").read_text() == made
    assert {tag["const"] for tag in _tags(json.loads(made))} == {
        type(event).__struct_config__.tag for event in EXAMPLES
    }


def _tags(schema: dict[str, Any]) -> list[dict[str, Any]]:
    names = [one["$ref"].rpartition("/")[2] for one in schema["anyOf"]]
    found = [schema["$defs"][name]["properties"]["type"] for name in names]
    return [tag if "const" in tag else {"const": tag["enum"][0]} for tag in found]
