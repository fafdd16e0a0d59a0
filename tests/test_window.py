"""The end of a log in memory: what it shows, what viewers at one place share, and what it lets go of."""

from __future__ import annotations

import gc

import pytest

from tidelog.log import Record
from tidelog.window import ENDED_BYTES, LOOK_EVERY, WINDOW_BYTES, WINDOW_RECORDS, LogWindow


def records(count: int, size: int, *, first: int = 1) -> list[Record]:
    return [Record(seq, float(seq), b"x" * size, 1) for seq in range(first, first + count)]


def test_who_stands_at_the_same_place_gets_the_same_page() -> None:
    window = LogWindow(0, records(10, 100))
    page = window.page(2, 4096)
    assert page.records == records(8, 100, first=3)
    assert window.page(2, 4096) is page
    assert window.page(3, 4096) is not page


def test_a_page_is_as_new_as_the_window() -> None:
    window = LogWindow(0, records(10, 100))
    assert not window.page(2, 4096).ended
    window.records += records(2, 100, first=11)
    assert len(window.page(2, 4096).records) == 8, "what is not stored is not shown"
    window.stored = 12
    assert len(window.page(2, 4096).records) == 10
    window.ended = True
    assert window.page(2, 4096).ended
    assert window.page(2, 900).more


@pytest.mark.parametrize("size", [1, 100, 10_000, 100_000])
def test_it_stays_within_its_bounds_whatever_the_size_of_records(size: int) -> None:
    window = LogWindow(0)
    for seq in range(1, 5 * WINDOW_RECORDS):
        window.records += records(1, size, first=seq)
        window.stored = seq
        if window.stored > window.look_at:
            window.look(seq - 1)
        assert len(window.records) <= WINDOW_RECORDS + LOOK_EVERY
        assert sum(len(one.data) for one in window.records) <= WINDOW_BYTES + (LOOK_EVERY + 2) * size
        assert [one.seq for one in window.records] == list(range(window.base + 1, seq + 1))
        assert window.records, "the last one stays"


def test_it_lets_go_of_nothing_that_is_still_needed() -> None:
    window = LogWindow(0, records(1000, 1000))
    size = window.shrink(1_000_000, 100)
    assert window.base == 100 and len(window.records) == 900
    assert size == 900_000


def test_of_a_log_that_has_ended_it_keeps_less() -> None:
    window = LogWindow(0, records(100, 500))
    window.look(100)
    assert window.base == 0
    window.ended = True
    window.look(100)
    assert 0 < sum(len(one.data) for one in window.records) <= ENDED_BYTES
    assert window.page(window.base, 1 << 20).ended


def test_a_page_that_was_read_keeps_nothing_that_it_lets_go_of() -> None:
    window = LogWindow(0, records(WINDOW_RECORDS + 1, 100))
    page = window.page(0, 4096)
    window.look(WINDOW_RECORDS + 1)
    assert window.base > 0
    assert page not in gc.get_referents(window)
