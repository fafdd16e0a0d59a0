"""Ids, names and positions."""

from __future__ import annotations

import pytest

from tidelog.errors import InvalidRequest
from tidelog.log import RUN_ID, Position, new_id, parse_position, thread_log

POSITIONS: tuple[tuple[str, Position | None], ...] = (
    ("run.1.5", Position("run", 1, 5)),
    (" run.1.5 ", Position("run", 1, 5)),
    ("a_-Z.12.0", Position("a_-Z", 12, 0)),
    ("", None),
    ("5", None),
    ("1754924400000-0", None),
    ("a.b", None),
    ("a.1.2.3", None),
)


@pytest.mark.parametrize(("text", "position"), POSITIONS)
def test_a_position_is_ours_or_foreign(text: str, position: Position | None) -> None:
    assert parse_position(text) == position
    if position is not None:
        assert parse_position(str(position)) == position


@pytest.mark.parametrize(
    "text", ["a.b.c", "run.0.5", "run.00.5", "run.01.5", "run.1.05", "run.1.-1", "run.1.", ".1.1", "run.1.٣", "r n.1.1",
             "x" * 65 + ".1.1",
             "run.1.9999999999999999"],
)  # fmt: skip
def test_a_malformed_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_position(text)
    assert caught.value.code == "invalid_cursor"


def test_ids_are_random_and_fit_a_cursor() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(RUN_ID.fullmatch(one) and len(one) == 26 and one == one.lower() for one in made)


def test_threads_of_two_principals_never_share_a_name() -> None:
    names = [thread_log(thread, who) for thread in ("t", "b/t", "") for who in (None, "a", "a/b", "1:a", "a/b/t")]
    assert len(set(names)) == len(names)
