"""Words at a pace: joined they are the text, and they come by the clock."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.apps.pace import paced, pieces

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The deposit is 40 euros. [1]", ["The ", "deposit ", "is ", "40 ", "euros. ", "[1]"]),
        ("\n\n2. Wait for it.\n", ["\n\n2. ", "Wait ", "for ", "it.\n"]),
        ("押金为三百元。 [1]", ["押金", "为三", "百元。 ", "[1]"]),
        ("用 tidelog 提问,好。", ["用 ", "tidelog ", "提问,", "好。"]),
        ("", []),
        (" \n ", [" \n "]),
    ],
)
def test_words_and_pairs_of_characters(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


@given(st.text() | st.text("ab 押金。\n[1]`"))
def test_nothing_is_lost(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(pieces(text))


async def test_without_a_pace_sentences_come_whole() -> None:
    assert [one async for one in paced(["One two. ", "Three."], 0)] == ["One two. ", "Three."]


async def test_the_clock_sets_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naps that end late are made up for: the n-th word is due n steps after the first, whatever happened before."""
    now, asked = 100.0, list[float]()

    async def late_nap(seconds: float) -> None:
        nonlocal now
        asked.append(seconds)
        now += seconds * 1.5

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", late_nap)
    words = [one async for one in paced(["a b ", "c d e"], 10)]
    assert words == ["a ", "b ", "c ", "d ", "e"]
    assert asked == pytest.approx([0, 0.1, 0.05, 0.075, 0.0625])
