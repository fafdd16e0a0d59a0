"""Questions as values: how they may be put, what fits, and which of several answers counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidelog import control
from tidelog import events as e
from tidelog.errors import InvalidRequest, TooLarge
from tidelog.questions import QUESTION_BYTES, STATE_BYTES, Answer, check, decided, event_of, put, unanswered

ASKED = e.QuestionAsked(question="q1", prompt="?", options=("yes", "no"), default="no", expires=5.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"options": []},
        {"options": "yes"},
        {"options": ["a", "a"]},
        {"options": ["a", ""]},
        {"options": ["a", 1]},
        {"options": ["a"], "schema": {}},
        {"expires": 0},
        {"expires": -1},
        {"expires": float("nan")},
        {"expires": float("inf")},
        {"default": "a"},
        {"options": ["a"], "default": "b", "expires": 1},
        {"schema": {"type": "integer"}, "default": "b", "expires": 1},
        {"state": object()},
    ],
)
def test_what_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        put("q1", "?", now=0.0, **wrong)


def test_what_is_too_large() -> None:
    for large in ({"data": "x" * QUESTION_BYTES}, {"state": "x" * STATE_BYTES}):
        with pytest.raises(TooLarge):
            put("q1", "?", now=0.0, **large)


def test_a_question_is_made() -> None:
    made = put("q1", "?", now=100.0, options=["a", "b"], expires=5, default="a", state=(1, 2), park_after=3)
    assert made.asked == e.QuestionAsked(question="q1", prompt="?", options=("a", "b"), expires=105.0, default="a")
    assert made.state == [1, 2] and made.park_after == 3, "as it will come back from the store"
    assert e.decode(e.encode(made.asked)) == made.asked


@pytest.mark.parametrize("value", ["", "  ", None, 1, True, ["a"], {"a": 1}])
def test_text_is_text(value: Any) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        check(e.QuestionAsked(question="q", prompt="?"), value)
    assert wrong.value.code == "invalid_answer"


def test_an_option_is_one_of_the_options() -> None:
    check(ASKED, "yes")
    for value in ("", "Yes", None, ["yes"], 1):
        with pytest.raises(InvalidRequest):
            check(ASKED, value)


CONTROLS = st.lists(
    st.one_of(
        st.builds(control.Answer, question=st.sampled_from(["q1", "q2"]), value=st.sampled_from(["yes", "no"])),
        st.builds(control.Expired, question=st.sampled_from(["q1", "q2"])),
        st.sampled_from([control.Stop(), control.Pause(), None, control.Watched(by="x", viewers=1)]),
    )
)


@settings(deadline=None)
@given(CONTROLS)
def test_the_first_counts(said: list[Any]) -> None:
    """Whatever comes behind the first record that decides changes nothing."""
    found = decided(ASKED, said)
    first = next(
        (n for n, one in enumerate(said) if isinstance(one, control.Stop) or getattr(one, "question", "") == "q1"), None
    )
    if first is None:
        assert found is None
        return
    one = said[first]
    assert found == decided(ASKED, said[: first + 1])
    if isinstance(one, control.Answer):
        assert found == Answer("q1", "answered", one.value)
    elif isinstance(one, control.Expired):
        assert found == Answer("q1", "expired", "no") and not unanswered(found)
    else:
        assert found == Answer("q1", "withdrawn")


def test_without_a_default_nobody_answered() -> None:
    found = decided(e.QuestionAsked(question="q1", prompt="?", expires=1.0), [control.Expired(question="q1")])
    assert found is not None and unanswered(found)
    assert event_of(found) == e.QuestionAnswered(question="q1", outcome="expired")
