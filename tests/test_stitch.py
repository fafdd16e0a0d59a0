"""A continued answer joins the text before it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.parts import text_of

from tidelog import events as e
from tidelog.sources.values import Values
from tidelog.stitch import LEAST, OVERLAP, Stitch

BEFORE = "The quick brown fox jumps over the lazy dog"

JOINED: tuple[tuple[str, str, str], ...] = (
    (BEFORE, "over the lazy dog and runs.", " and runs."),
    (BEFORE, "the lazy dog", ""),
    (BEFORE, "And then.", "And then."),
    (BEFORE, "dog and", "dog and"),  # shorter than LEAST: chance
    (BEFORE, "over the lazy cat", "over the lazy cat"),
    (BEFORE, "", ""),
    ("", "text", "text"),
    ("aaaaaaaaaaaaaaaa", "aaaaaaaaaaab", "b"),
    ("x" * 1000 + BEFORE, BEFORE + "!", "!"),
    ("short", "short", "short"),
)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("before", "new", "kept"), JOINED)
def test_what_is_repeated_is_dropped_however_it_is_cut(before: str, new: str, kept: str, size: int) -> None:
    assert text_of(stitched(before, cut(new, size))) == kept


@given(st.text("ab", max_size=250), st.text("ab", max_size=250), st.lists(st.integers(1, 40), max_size=20))
def test_any_chunking_gives_the_same_text(before: str, new: str, sizes: list[int]) -> None:
    whole = text_of(stitched(before, [new]))
    assert new.endswith(whole)
    dropped = new[: len(new) - len(whole)]
    assert before.endswith(dropped)
    assert not dropped or LEAST <= len(dropped) <= OVERLAP
    pieces, at = [], 0
    for size in sizes:
        pieces.append(new[at : at + size])
        at += size
    assert text_of(stitched(before, [*pieces, new[at:]])) == whole


def test_what_comes_before_the_text_does_not_end_the_search() -> None:
    first = (e.Sources([]), e.Progress(task="t"), e.ReasoningDelta(text="hm"))
    found = stitched(BEFORE, [*first, "the lazy", " dog runs"])
    assert found == [*first, e.TextDelta(text=" runs")]


def test_what_comes_between_keeps_its_place() -> None:
    assert stitched(BEFORE, ["the la", e.Usage(), "zy dog"]) == [
        e.TextDelta(text="the la"),
        e.Usage(),
        e.TextDelta(text="zy dog"),
    ]


def test_text_of_two_parts_stays_apart() -> None:
    parts = [e.TextDelta(part="a", text="the "), e.TextDelta(part="b", text="lazy dog")]
    assert stitched(BEFORE, parts) == parts


def stitched(before: str, values: Iterable[object]) -> list[e.Event]:
    stitch = Stitch(Values(), before)
    return [event for value in values for event in stitch.feed(value)] + list(stitch.end())


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
