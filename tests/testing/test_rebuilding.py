"""The oracle of resume tests must itself notice what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidelog.testing import Frame, rebuild, transcript

START = {"seq": 1, "type": "run.started"}
END = {"seq": 7, "type": "run.ended"}
WORDS = [{"seq": n, "type": "text.delta", "text": "abcde"[n - 2]} for n in range(2, 7)]
WHOLE = [START, *WORDS, END]


def merged(first: int, last: int) -> dict[str, Any]:
    return {"from": first, "seq": last, "type": "text.delta", "text": "abcde"[first - 2 : last - 1]}


def test_of_one_connection() -> None:
    assert rebuild(WHOLE) == "abcde"
    assert transcript(WHOLE) == WHOLE


def test_it_reads_frames_and_events() -> None:
    assert rebuild(Frame(json.dumps(event)) for event in WHOLE) == "abcde"
    assert rebuild([*WHOLE, {"type": "reconnect", "retry": 1}]) == "abcde"


@pytest.mark.parametrize(
    "frames",
    [
        [*WHOLE, *WHOLE],
        WHOLE[::-1],
        [START, merged(2, 6), END],
        [START, merged(2, 4), merged(5, 6), END],
        [START, merged(2, 3), merged(4, 5), merged(2, 4), merged(5, 6), END],  # only one of the chains reaches the end
        [START, *WORDS[:3], merged(3, 6), WORDS[3], WORDS[4], END],
    ],
)
def test_of_many(frames: list[dict[str, Any]]) -> None:
    assert rebuild(frames) == "abcde"


@pytest.mark.parametrize(
    "frames",
    [
        [START, *WORDS[1:], END],
        [START, merged(2, 4), merged(4, 6), END],  # they overlap, so neither fits behind the other
        WORDS,
    ],
)
def test_what_is_missing_is_an_error(frames: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="missing"):
        rebuild(frames)


def test_what_differs_is_an_error() -> None:
    with pytest.raises(ValueError, match="two ways"):
        rebuild([*WHOLE, {**WORDS[0], "text": "x"}])


def test_nothing_is_nothing() -> None:
    assert (rebuild([]), transcript([])) == ("", [])


def test_a_snapshot_is_text() -> None:
    assert (
        rebuild(
            [START, {"seq": 2, "type": "text.snapshot", "text": "ab"}, {"seq": 3, "type": "text.delta", "text": "c"}]
        )
        == "abc"
    )
