"""Whom a source under lockstep waits for."""

from __future__ import annotations

from tidelog.viewers import Viewers


def test_the_slowest_counts() -> None:
    viewers = Viewers()
    viewers.add("slow", 0)
    viewers.add("quick", 0)
    for seq in (1, 2, 3):
        viewers.wrote(seq, 10 * seq)
    viewers.moved("quick", 3)
    viewers.moved("slow", 1)
    assert (viewers.seen_bytes(), len(viewers), set(viewers)) == (10, 2, {"slow", "quick"})


def test_one_elsewhere_is_not_waited_for() -> None:
    moves = 0

    def moved() -> None:
        nonlocal moves
        moves += 1

    viewers = Viewers()
    viewers.wrote(1, 10)
    assert viewers.seen_bytes() == 0
    viewers.on_move = moved
    viewers.watched_elsewhere(True)
    assert moves == 1, "a source that is held must hear of it"
    for seq in range(2, 100):
        viewers.wrote(seq, 10 * seq)
        assert viewers.seen_bytes() == 10 * seq
    assert not viewers._sizes, "what nobody waits for is not kept"


def test_one_here_is_waited_for_whoever_is_elsewhere() -> None:
    viewers = Viewers()
    viewers.watched_elsewhere(True)
    viewers.wrote(1, 10)
    viewers.add("here", 1)
    viewers.wrote(2, 20)
    viewers.wrote(3, 30)
    assert viewers.seen_bytes() == 10


def test_without_any_the_source_is_held_again() -> None:
    viewers = Viewers()
    viewers.watched_elsewhere(True)
    viewers.wrote(1, 10)
    viewers.watched_elsewhere(False)
    viewers.wrote(2, 20)
    assert viewers.seen_bytes() == 10
