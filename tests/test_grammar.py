"""What may follow what: the table, and that any log can be closed."""

from __future__ import annotations

import pytest

from tidelog import events as e
from tidelog import grammar as grammar_module
from tidelog.errors import InvalidEvent
from tidelog.grammar import RULES, Grammar

STARTED = e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1)


def ended(outcome: e.Outcome = "completed") -> e.RunEnded:
    return e.RunEnded(outcome=outcome, usage=e.TokenUsage(), can=())


T, X, S = e.TextDelta(text="x"), e.TextEnded(), e.TextSnapshot(text="x")
R, Q = e.ReasoningDelta(text="x"), e.ReasoningEnded()
C, J, G, Z = (
    e.ToolStarted(call="c", name="n"),
    e.ToolInputDelta(call="c", json="{"),
    e.ToolInput(call="c"),
    e.ToolEnded(call="c"),
)
FREE = (e.Sources([]), e.Progress(task="t"), e.Data(data=1), e.Usage())

LEGAL: tuple[tuple[e.Event, ...], ...] = (
    (T, T, X), (S, T, X), (S, X), (R, R, Q), (R, T, Q, X), (C, Z), (C, J, J, G, Z), (C, G, Z), (C, J, Z), (T, C, T, Z, X), FREE,
    (e.TextDelta(part="r1", text=""), e.ReasoningDelta(part="r1", text=""), e.ToolStarted(call="r1", name="n")),
)  # fmt: skip
ILLEGAL: tuple[tuple[e.Event, ...], ...] = (
    (X,), (T, X, T), (T, X, X), (T, S), (T, X, S), (Q,), (R, Q, R), (J,), (G,), (Z,), (C, C), (C, G, J), (C, G, G), (C, Z, Z),
    (C, Z, J), (C, Z, C), (STARTED,), (T, ended()), (C, G, ended()), (e.Event(),),
)  # fmt: skip


@pytest.mark.parametrize("events", LEGAL)
def test_legal(events: tuple[e.Event, ...]) -> None:
    begun(*events)


@pytest.mark.parametrize("events", ILLEGAL)
def test_illegal_changes_nothing(events: tuple[e.Event, ...]) -> None:
    *before, last = events
    grammar, same = begun(*before), begun(*before)
    with pytest.raises(InvalidEvent):
        grammar.accept(last)
    assert grammar._states == same._states
    close(grammar)


@pytest.mark.parametrize("event", [*FREE, T, C, STARTED, ended()])
def test_nothing_follows_the_end_and_all_follows_the_start(event: e.Event) -> None:
    grammar = begun()
    close(grammar)
    with pytest.raises(InvalidEvent, match=r"after run\.ended|not allowed here"):
        grammar.accept(event)
    if event is not STARTED:
        with pytest.raises(InvalidEvent, match=r"before run\.started|not allowed here"):
            Grammar().accept(event)


@pytest.mark.parametrize("outcome", ["completed", "failed", "stopped", "timed_out", "interrupted"])
@pytest.mark.parametrize("events", LEGAL)
def test_whatever_ends_a_log_it_can_be_closed(events: tuple[e.Event, ...], outcome: e.Outcome) -> None:
    for cut in range(len(events) + 1):
        grammar = begun(*events[:cut])
        closing = list(grammar.closing(outcome))
        assert all(event.outcome != "completed" for event in closing if isinstance(event, e.ToolEnded))
        close(grammar, outcome)


def test_parts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_module, "LIMIT_PARTS", 3)
    grammar = begun(T, R, C)
    with pytest.raises(InvalidEvent, match="more than 3"):
        grammar.accept(e.TextDelta(part="p2", text=""))
    grammar.accept(T)
    close(grammar)


def test_every_event_has_its_rule() -> None:
    from typing import get_args

    assert {*RULES, e.RunStarted, e.RunEnded} == set(get_args(e.AnyEvent))


def begun(*events: e.Event) -> Grammar:
    grammar = Grammar()
    for event in (STARTED, *events):
        grammar.accept(event)
    return grammar


def close(grammar: Grammar, outcome: e.Outcome = "failed") -> None:
    for event in (*grammar.closing(outcome), ended(outcome)):
        grammar.accept(event)
    assert grammar.ended
