"""Strategies: legal logs of any shape."""

from __future__ import annotations

from hypothesis import strategies as st
from tests.parts import log_of

from tidelog import events as e
from tidelog.errors import InvalidEvent
from tidelog.grammar import Grammar
from tidelog.head import Head, StoredRequest, ending
from tidelog.log import Record

HEAD = Head(run="r", thread="t", message="m", created=0.0, request=StoredRequest("GET", "/chat"))

TEXT = st.text(max_size=8)
PARTS = st.sampled_from(["p1", "p2", "p3"])
CALLS = st.sampled_from(["c1", "c2"])
QUESTIONS = st.sampled_from(["q1", "q2"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda inner: st.lists(inner, max_size=2), max_leaves=3
)

EVENTS: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(e.TextDelta, part=PARTS, text=TEXT),
    st.builds(e.TextDelta, part=st.just("p1"), text=st.sampled_from(["a", "b. ", "c\n\n", "你。", ""])),
    st.builds(e.TextSnapshot, part=PARTS, text=TEXT),
    st.builds(e.TextEnded, part=PARTS),
    st.builds(e.ReasoningDelta, part=PARTS, text=TEXT),
    st.builds(e.ReasoningEnded, part=PARTS),
    st.builds(e.ToolStarted, call=CALLS, name=TEXT),
    st.builds(e.ToolInputDelta, call=CALLS, json=TEXT),
    st.builds(e.ToolInput, call=CALLS, input=JSON),
    st.builds(
        e.ToolEnded, call=CALLS, outcome=st.sampled_from(["completed", "failed"]), output=JSON, error=st.none() | TEXT
    ),
    st.builds(lambda title: e.Sources([e.Source("s", title)]), TEXT),
    st.builds(e.Progress, task=TEXT, done=st.integers(0, 9)),
    st.builds(e.Data, data=JSON, name=st.none() | TEXT),
    st.builds(e.Usage, input=st.integers(0, 9)),
    st.builds(e.QuestionAsked, question=QUESTIONS, prompt=TEXT, options=st.none() | st.tuples(TEXT), data=JSON),
    st.builds(e.QuestionAnswered, question=QUESTIONS, outcome=st.sampled_from(["answered", "expired"]), value=JSON),
    st.builds(e.RunState, state=st.sampled_from(["queued", "running", "paused", "waiting"])),
)
OUTCOMES: st.SearchStrategy[e.Outcome] = st.sampled_from(["completed", "failed", "stopped", "timed_out", "interrupted"])


def legal(events: list[e.Event], first: Record) -> list[e.Event]:
    """Those of the events that the grammar allows, one after the other."""
    grammar, found = Grammar(), list[e.Event]()
    started = e.decode(first.data)
    assert started is not None
    grammar.accept(started)
    for event in events:
        try:
            grammar.accept(event)
        except InvalidEvent:
            continue
        found.append(event)
    return found


@st.composite
def open_logs(draw: st.DrawFn, size: int = 40) -> list[Record]:
    """A log that somebody still writes."""
    return log_of(*legal(draw(st.lists(EVENTS, max_size=size)), log_of()[0]))


@st.composite
def whole_logs(draw: st.DrawFn, size: int = 40) -> list[Record]:
    """A log that has ended."""
    return closed(draw(open_logs(size)), draw(OUTCOMES))


def closed(log: list[Record], outcome: e.Outcome) -> list[Record]:
    """The log as whoever finds it cut ends it: proven to be legal."""
    grammar = Grammar()
    for record in log:
        event = e.decode(record.data)
        assert event is not None
        grammar.accept(event)
    error = None if outcome in ("completed", "stopped") else e.Error.of("internal")
    last = (*grammar.closing(outcome), ending(HEAD, outcome, error, e.TokenUsage()))
    for event in last:
        grammar.accept(event)
    assert grammar.ended
    return [*log, *(Record(len(log) + n, 1.0, e.encode(event)) for n, event in enumerate(last, 1))]
