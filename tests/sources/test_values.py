"""What users yield becomes events; how it was cut changes nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
import pydantic
import pytest

from tidelog import events as e
from tidelog.errors import InvalidEvent
from tidelog.parts import Chunk
from tidelog.sources.values import Values


class Model(pydantic.BaseModel):
    a: int


@dataclasses.dataclass
class Plain:
    a: int


class Packed(msgspec.Struct):
    a: int


class Name(StrEnum):
    ONE = "one"


class Text(str):
    pass


TOOL = e.ToolStarted(call="c", name="n")


def delta(text: str, part: str = "p1") -> e.TextDelta:
    return e.TextDelta(part=part, text=text)


FED: dict[str, tuple[Sequence[Any], Sequence[e.Event]]] = {
    "text": (["a", "", "b"], [delta("a"), delta("b")]),
    "subclasses of str": ([Text("a"), Name.ONE], [delta("a"), delta("one")]),
    "nothing": ([None, b""], []),
    "bytes, cut in a character": ([b"a\xe4", b"\xbd", b"\xa0"], [delta("a"), delta("你")]),
    "bytes, cut for good": ([b"a\xe4"], [delta("a"), delta("\ufffd")]),
    "bytes that are no text": ([b"a\xff"], [delta("a\ufffd")]),
    "a dict": ([{"type": "text.delta"}], [e.Data(data={"type": "text.delta"})]),
    "models": (
        [Model(a=1), Plain(2), Packed(3)],
        [e.Data(name="Model", data={"a": 1}), e.Data(name="Plain", data={"a": 2}), e.Data(name="Packed", data={"a": 3})],
    ),
    "text after a tool": (["a", TOOL, "b", "c"], [delta("a"), TOOL, e.TextEnded(), delta("b", "p2"), delta("c", "p2")]),
    "text only after a tool": ([TOOL, "b"], [TOOL, delta("b")]),
    "text after its end": (["a", e.TextEnded(), "b"], [delta("a"), e.TextEnded(), delta("b", "p2")]),
    "text into a part that an event opened": (
        [delta("a"), TOOL, "b"], [delta("a"), TOOL, e.TextEnded(), delta("b", "p2")],
    ),
    "text beside another part": ([delta("a", "x"), "b"], [delta("a", "x"), delta("b")]),
    "text where a part of that name was ended": (
        ["a", delta("n", "p2"), e.TextEnded(part="p2"), TOOL, "b"],
        [delta("a"), delta("n", "p2"), e.TextEnded(part="p2"), TOOL, e.TextEnded(), delta("b", "p3")],
    ),
    "text where a part of that name is open": (
        ["a", delta("n", "p2"), TOOL, "b"], [delta("a"), delta("n", "p2"), TOOL, e.TextEnded(), delta("b", "p3")],
    ),
    "text behind a snapshot": (
        [e.TextSnapshot(text="s"), TOOL, "b"], [e.TextSnapshot(text="s"), TOOL, e.TextEnded(), delta("b", "p2")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FED)
def test_values_become_events(name: str) -> None:
    fed, wanted = FED[name]
    values = Values()
    assert [event for value in fed for event in values.feed(value)] + list(values.end()) == list(wanted)


@pytest.mark.parametrize(
    "value",
    [1, 1.5, True, ["a"], ("a",), object(), Model, e.TextDelta(text=1), e.ToolStarted(call=None, name=""), e.Event(),  # type: ignore[arg-type]
     e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1),
     e.RunEnded(outcome="completed", usage=e.TokenUsage(), can=()),
     e.Progress(task="t", done="half"), e.Usage(source="guess")],  # type: ignore[arg-type]
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_event_is_refused(value: Any) -> None:
    values = Values()
    with pytest.raises(InvalidEvent):
        list(values.feed(value))
    assert list(values.feed("x")) == [delta("x")]


def test_a_yielded_sse_frame_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    values = Values()
    for text in ("data: a\n\n", "data: b\n\n"):
        list(values.feed(text))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_names_that_the_application_uses_are_given_to_nobody_else() -> None:
    values = Values()
    for event in (e.ReasoningDelta(part="r1", text="x"), e.ToolStarted(call="c1", name="n"), delta("x", "p2")):
        list(values.feed(event))
    parts = values._parts
    assert (parts.text(), parts.text(), parts.reasoning(), parts.call()) == ("p1", "p3", "r2", "c2")


LIBRARY = {
    "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}],
    "object": "chat.completion.chunk",
}


@pytest.mark.parametrize("before", [Chunk("openai", LIBRARY), "lo"], ids=["a library's", "plain"])
@pytest.mark.parametrize("after", [Chunk("openai", LIBRARY), "lo"], ids=["a library's", "plain"])
def test_another_attempt_goes_on_with_the_part_of_a_snapshot(before: Any, after: Any) -> None:
    """What the first one said was held back, to be joined, and never written."""
    values = Values()
    list(values.feed(e.TextSnapshot(text="Hel")))
    first = list(values.feed(before))
    values.again()
    assert first == list(values.feed(after)) == [delta("lo")]


@pytest.mark.parametrize("after", [Chunk("openai", LIBRARY), "lo"], ids=["a library's", "plain"])
def test_a_part_of_a_snapshot_that_was_ended_is_not_given_again(after: Any) -> None:
    values = Values()
    for event in (e.TextSnapshot(text="Hel"), e.TextEnded()):
        list(values.feed(event))
    values.again()
    assert list(values.feed(after)) == [delta("lo", "p2")]
