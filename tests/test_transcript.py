"""The fold of a log into one document."""

from __future__ import annotations

import json

import pytest
from tests.parts import ENDED, log_of

from tidelog import events as e
from tidelog import transcript as transcript_module
from tidelog.errors import TooLarge
from tidelog.log import Record
from tidelog.transcript import Fold, ReasoningPart, TextPart, ToolPart, encode

EVENTS: tuple[e.Event, ...] = (
    e.Progress(task="t", done=0), e.Sources([e.Source("s1", "A")]), e.ReasoningDelta(text="h"), e.TextSnapshot(text="Hel"),
    e.ReasoningDelta(text="m"), e.TextDelta(text="lo"), e.ToolStarted(call="c", name="n", parent="p"),
    e.ToolInputDelta(call="c", json='{"a"'),
    e.ReasoningEnded(), e.ToolInputDelta(call="c", json=":1}"), e.ToolInput(call="c", input={"a": 1}),
    e.Progress(task="t", done=1),
    e.ToolEnded(call="c", outcome="failed", error="no"), e.TextEnded(), e.TextDelta(part="p2", text="!"),
    e.Data(data=1, name="x"),
    e.Sources([e.Source("s2", "B")]), e.Usage(input=1, output=2), e.TextEnded(part="p2"),
    e.RunEnded(outcome="failed", error=e.Error.of("internal"), usage=e.TokenUsage(1, 2, "provider"), can=("retry",)),
)  # fmt: skip
LOG = log_of(*EVENTS)


def test_the_whole_document() -> None:
    fold = Fold()
    fold.take(LOG)
    out = fold.result()
    assert (out.run, out.thread, out.message.id, out.state, out.text, out.last_seq) == (
        "r",
        "t",
        "m",
        "ended",
        "Hello!",
        len(LOG),
    )
    assert out.message.parts == [
        ReasoningPart("r1", done=True, text="hm"), TextPart("p1", done=True, text="Hello"),
        ToolPart("c", done=True, name="n", parent="p", json='{"a":1}', input={"a": 1}, outcome="failed", error="no"),
        TextPart("p2", done=True, text="!"),
    ]  # fmt: skip
    assert [source.id for source in out.sources] == ["s1", "s2"]
    assert out.progress == {"t": e.Progress(task="t", done=1)}
    assert out.data == [e.Data(data=1, name="x")]
    assert (out.outcome, out.error, out.usage, out.can) == (
        "failed",
        e.Error.of("internal"),
        e.TokenUsage(1, 2, "provider"),
        ("retry",),
    )
    assert json.loads(encode(out))["message"]["parts"][2]["type"] == "tool"


@pytest.mark.parametrize("cut", range(len(LOG) + 1))
def test_taking_a_record_twice_changes_nothing(cut: int) -> None:
    whole, fold = Fold(), Fold()
    whole.take(LOG)
    fold.take(LOG[:cut])
    fold.result()
    for again in range(cut):
        fold.take(LOG[again:cut])
    assert fold.position == cut
    fold.take(LOG)
    assert fold.result() == whole.result() == fold.result()


def test_what_nobody_knows_is_passed_over() -> None:
    fold = Fold()
    fold.take(
        [
            *log_of(e.TextDelta(text="a")),
            Record(3, 0.0, b'{"type":"later"}'),
            Record(4, 0.0, e.encode(e.TextDelta(text="b"))),
        ]
    )
    assert (fold.result().text, fold.position) == ("ab", 4)


def test_data_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript_module, "LIMIT_ITEMS", 3)
    fold = Fold()
    fold.take(log_of(*(e.Data(data=n) for n in range(10)), ENDED))
    assert [one.data for one in fold.result().data] == [7, 8, 9]


def test_two_folds_share_nothing() -> None:
    one, two = Fold(), Fold()
    one.take(LOG)
    assert two.result().message.parts == []
    assert encode(two.result())


def test_lone_surrogates_survive() -> None:
    fold = Fold()
    fold.take(log_of(e.TextDelta(text="\ud800"), e.TextDelta(text="\U0001f600")))
    assert json.loads(encode(fold.result()))["text"] == "\ud800\U0001f600"


def test_a_run_that_is_too_large_for_one_document_is_refused() -> None:
    size = sum(len(record.data) for record in LOG)
    Fold(size).take([*LOG, *LOG])
    with pytest.raises(TooLarge, match=r"max_document_bytes .*read /runs/r/events"):
        Fold(size - 1, events="/runs/r/events").take(LOG)
