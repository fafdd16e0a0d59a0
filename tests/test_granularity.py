"""How much one frame holds: merged records, and text that is held until it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from tests.parts import ENDED, log_of

from tidelog import events as e
from tidelog import granularity
from tidelog.errors import InvalidRequest
from tidelog.granularity import MERGE_SECONDS, Chunk, Granularity, Holder, merge, parse
from tidelog.log import Record
from tidelog.transcript import Fold

PARSED: tuple[tuple[str | None, str | None, Granularity], ...] = (
    (None, None, Granularity(MERGE_SECONDS, None)), ("20ms", None, Granularity(0.02)), ("0.5s", "", Granularity(0.5)),
    ("0", "sentence", Granularity(0.0, "sentence")), ("40", "whole", Granularity(0.04, "whole")),
    ("1s", "token", Granularity(0.0)),
    (None, "paragraph", Granularity(MERGE_SECONDS, "paragraph")),
)  # fmt: skip


@pytest.mark.parametrize(("window", "chunk", "wanted"), PARSED)
def test_what_a_request_asks_for(window: str | None, chunk: str | None, wanted: Granularity) -> None:
    assert parse(window, chunk) == wanted


@pytest.mark.parametrize(
    ("window", "chunk"),
    [
        ("", None),
        ("2s", None),
        ("-1ms", None),
        ("1e9ms", None),
        ("nan", None),
        ("1 s", None),
        ("١ms", None),
        (None, "word"),
        (None, "Whole"),
    ],
)
def test_what_makes_no_sense(window: str | None, chunk: str | None) -> None:
    with pytest.raises(InvalidRequest):
        parse(window, chunk)


def text(word: str, part: str = "p1") -> e.TextDelta:
    return e.TextDelta(part=part, text=word)


def hm(word: str, part: str = "r1") -> e.ReasoningDelta:
    return e.ReasoningDelta(part=part, text=word)


LOG = log_of(
    text("a"), text("b"), text("c", "p2"), text("d"), hm("e"), hm("f"), hm("g", "p1"), text("h"), e.Progress(task="t"), text("i"),
    e.TextEnded(), text("j", "p2"), text("你"), text("\ud800"), text("\U0001f600"), ENDED,
)  # fmt: skip


def test_neighbours_of_one_part_are_joined() -> None:
    merged = [(record.seq, record.data) for record in merge(LOG)]
    assert [seq for seq, _ in merged] == [1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16, 17]
    assert merged[1][1] == b'{"from":2,"type":"text.delta","part":"p1","text":"ab"}'
    assert merged[4][1].startswith(b'{"from":6,"type":"reasoning.delta"')
    assert merged[2][1] == LOG[3].data


@pytest.mark.parametrize("cut", range(len(LOG) + 1))
def test_merging_changes_no_transcript(cut: int) -> None:
    whole, merged = Fold(), Fold()
    whole.take(LOG)
    merged.take(merge(LOG[:cut]))
    merged.take(merge(LOG[cut:]))
    assert merged.result() == whole.result()


def test_a_frame_of_two_epochs_stands_at_its_last() -> None:
    first, second = log_of(text("a"), text("b"))[1:]
    [joined] = merge([first, Record(second.seq, second.at, second.data, 2)])
    assert (joined.seq, joined.epoch) == (3, 2)


HELD: tuple[tuple[Chunk, list[str], list[str]], ...] = (
    ("sentence", ["It is", " so. And", " more", "."], ["It is so. And", " more."]),
    ("sentence", ["Yes", "!", " No"], ["Yes! No"]),
    ("sentence", ["“Yes.”", " ", "x"], ["“Yes.” x"]),
    ("sentence", ['"Yes."', " ", "x"], ['"Yes." ', "x"]),
    ("sentence", ["好。", "是", "吗？", "x"], ["好。", "是吗？", "x"]),
    ("sentence", ["3.14", " is", " pi"], ["3.14 is pi"]),
    ("sentence", ["line\n", "next"], ["line\n", "next"]),
    ("paragraph", ["a.\n", "\n", "b. ", "c"], ["a.\n\n", "b. c"]),
    ("paragraph", ["a\n", "b"], ["a\nb"]),
    ("whole", ["a. ", "\n\n", "b"], ["a. \n\nb"]),
)


@pytest.mark.parametrize(("chunk", "words", "wanted"), HELD)
def test_text_is_held_until_it_is_complete(chunk: Chunk, words: list[str], wanted: list[str]) -> None:
    log = log_of(*map(text, words), ENDED)
    shown = [event.text for record in held(chunk, log) if isinstance(event := e.decode(record.data), e.TextDelta)]
    assert shown == wanted


@pytest.mark.parametrize("chunk", ["sentence", "paragraph", "whole"])
def test_holding_loses_nothing_and_keeps_the_order(chunk: Chunk) -> None:
    found = held(chunk, LOG)
    assert all(one.seq < two.seq for one, two in pairwise(found))
    whole, shown = Fold(), Fold()
    whole.take(LOG)
    shown.take(found)
    assert shown.result() == whole.result()


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(granularity, "HELD_LIMIT", 10)
    assert [len(record.data) > 0 for record in held("whole", log_of(*[text("xxx")] * 8))] == [True] * 3


def held(chunk: Chunk, log: Sequence[Record]) -> list[Record]:
    holder = Holder(chunk)
    return [one for record in log for one in merge(holder.feed([record]))]
