"""What is kept for others stays within its limit, the latest longest."""

from __future__ import annotations

from tidelog.kept import ENTRY_COST, Kept


def test_a_thing_is_found_at_its_place_alone() -> None:
    kept = Kept[bytes]()
    assert kept.get(("a", 1)) is None
    data = kept.keep(("a", 1), b"one", 3)
    assert kept.get(("a", 1)) is data
    assert kept.get(("a", 2)) is None


def test_what_nobody_has_asked_for_longest_goes_first() -> None:
    kept = Kept[str](3 * (100 + ENTRY_COST))
    for place in "abc":
        kept.keep(place, place, 100)
    kept.get("a")
    kept.keep("d", "d", 100)
    assert [kept.get(place) for place in "abcd"] == ["a", None, "c", "d"]


def test_what_is_kept_twice_counts_once() -> None:
    kept = Kept[str](2 * (100 + ENTRY_COST))
    for _ in range(5):
        kept.keep("a", "a", 100)
    kept.keep("b", "b", 100)
    assert kept.get("a") == "a" and kept.get("b") == "b"


def test_what_is_larger_than_all_of_it_is_not_kept() -> None:
    kept = Kept[str](1000)
    kept.keep("a", "a", 1)
    assert kept.keep("b", "b", 2000) == "b"
    assert kept.get("a") is None and kept.get("b") is None
    kept.keep("c", "c", 1)
    assert kept.get("c") == "c"
