"""What holds for every log: it can be cut and closed anywhere, and a reader may take anything twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.parts import legal_events
from tests.properties.logs import OUTCOMES, closed, open_logs, whole_logs

from tidelog import events as e
from tidelog.granularity import merge
from tidelog.log import Record
from tidelog.sources.values import Values
from tidelog.transcript import Fold, ToolPart, encode

pytestmark = pytest.mark.soak
SETTINGS = settings(max_examples=count(60, 2000), deadline=None)


@SETTINGS
@given(open_logs(), OUTCOMES)
def test_a_log_cut_anywhere_can_be_closed(log: list[Record], outcome: e.Outcome) -> None:
    for cut in range(1, len(log) + 1):
        assert isinstance(legal_events(closed(log[:cut], outcome))[-1], e.RunEnded)


@settings(max_examples=count(100, 10_000), deadline=None)
@given(whole_logs(), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
def test_connections_that_double_and_replay_rebuild_the_same(log: list[Record], windows: list[tuple[int, int]]) -> None:
    """Each connection begins at or before where the reader stands, and is cut anywhere."""
    whole, fold = Fold(), Fold()
    whole.take(log)
    for start, length in windows:
        begin = min(start, fold.position)
        fold.take(log[begin : begin + length])
    fold.take(log[fold.position :])
    fold.take(log)
    assert encode(fold.result()) == encode(whole.result())


@SETTINGS
@given(whole_logs())
def test_every_event_is_read_as_it_was_written(log: list[Record]) -> None:
    for record in log:
        event = e.decode(record.data)
        assert event is not None
        assert e.decode(e.encode(event)) == event


# Any chunking gives the same


@SETTINGS
@given(st.text(max_size=40), st.lists(st.integers(1, 5), max_size=40))
def test_bytes_cut_anywhere_are_the_same_text(text: str, sizes: list[int]) -> None:
    data, values, found, at = text.encode(), Values(), list[e.Event](), 0
    for size in sizes:
        found += values.feed(data[at : at + size])
        at += size
    found += [*values.feed(data[at:]), *values.end()]
    assert all(isinstance(event, e.TextDelta) and event.part == "p1" and event.text for event in found)
    assert "".join(event.text for event in found if isinstance(event, e.TextDelta)) == text


@settings(max_examples=count(15, 300), deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=20, max_size=20), st.integers(0, 2**32))
def test_interleaved_calls_rebuild_each_argument(arguments: list[str], seed: int) -> None:
    """Twenty calls at once, their pieces in any order between them, text and reasoning in the middle."""
    chance = random.Random(seed)
    waiting: list[list[e.Event]] = []
    for n, argument in enumerate(arguments):
        call, cuts = f"c{n}", sorted(chance.sample(range(len(argument) + 1), k=min(3, len(argument))))
        pieces = [argument[i:j] for i, j in zip([0, *cuts], [*cuts, len(argument)], strict=True)]
        waiting.append(
            [e.ToolStarted(call=call, name="n"), *(e.ToolInputDelta(call=call, json=piece) for piece in pieces),
             e.ToolInput(call=call, input=argument), e.ToolEnded(call=call, output=n)]
        )  # fmt: skip
    values, mixed = Values(), list[e.Event]()
    while waiting:
        calls = chance.choice(waiting)
        mixed += values.feed(calls.pop(0))
        mixed += values.feed(chance.choice(["", "x"]))
        waiting = [one for one in waiting if one]
    log = closed(
        [Record(1, 0.0, START), *(Record(n, 0.0, e.encode(event)) for n, event in enumerate(mixed, 2))], "completed"
    )
    fold = Fold()
    fold.take(merge(log))
    tools = {part.id: part for part in fold.result().message.parts if isinstance(part, ToolPart)}
    assert {call: (part.json, part.input, part.output) for call, part in tools.items()} == {
        f"c{n}": (argument, argument, n) for n, argument in enumerate(arguments)
    }
    assert fold.result().text == "x" * sum(isinstance(event, e.TextDelta) for event in mixed)


START = e.encode(e.RunStarted(v=1, run="r", thread="t", message="m", attempt=1))
