"""`tidelog.feed`: which batches count. Any repeats, overlaps, losses and reorders give each event once, in order."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import count

from tidelog import events as e
from tidelog.errors import Ended, InvalidBatch, Mismatch, OutOfTurn, TidelogError
from tidelog.feed import Batch, End, Feed, decode, encode

WINDOWS = st.lists(st.tuples(st.integers(1, 25), st.integers(0, 6)), max_size=40)


def event(n: int) -> bytes:
    return e.encode(e.Data(data=n))


def batch(seq: int, size: int, *, epoch: int = 0, end: End | None = None) -> Batch:
    return Batch(epoch, seq, tuple(event(n) for n in range(seq, seq + size)), end)


def values(events: tuple[e.Event, ...]) -> list[int]:
    return [each.data for each in events if isinstance(each, e.Data)]


@settings(max_examples=count(200, 10_000), deadline=None)
@given(WINDOWS)
def test_each_event_once_in_order(windows: list[tuple[int, int]]) -> None:
    """The producer's events are 1, 2, 3 …; whatever pieces of that arrive, in whatever order, a prefix is taken."""
    feed, taken, records = Feed(), list[int](), list[bytes]()
    for seq, size in windows:
        records.append(encode(batch(seq, size)))
        if seq > len(taken) + 1:
            with pytest.raises(OutOfTurn) as gap:
                feed.take(decode(records[-1]))
            assert gap.value.expected == len(taken) + 1
            continue
        fresh = feed.take(decode(records[-1]))
        assert fresh.news == bool(fresh.events)
        taken += values(fresh.events)
        assert seq + size - 1 <= len(taken)
    assert taken == list(range(1, len(taken) + 1))
    assert (feed.expected, feed.count) == (len(taken) + 1, len(taken))
    other = Feed()
    for record in records:
        with contextlib.suppress(TidelogError):
            other.take(decode(record))
    assert (other.expected, other.count) == (feed.expected, feed.count), "every process decides the same"


@settings(max_examples=count(200, 5000), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8), st.integers(0, 4)), max_size=30))
def test_of_each_epoch_a_prefix_and_never_of_an_earlier_one(posts: list[tuple[int, int, int]]) -> None:
    feed, found = Feed(), list[tuple[int, int]]()
    for epoch, seq, size in posts:
        if epoch < feed.epoch:
            with pytest.raises(Mismatch, match="later epoch"):
                feed.take(batch(seq, size, epoch=epoch))
            continue
        with contextlib.suppress(OutOfTurn):
            found += [(epoch, n) for n in values(feed.take(batch(seq, size, epoch=epoch)).events)]
    assert [epoch for epoch, _ in found] == sorted(epoch for epoch, _ in found)
    for epoch in range(4):
        mine = [n for which, n in found if which == epoch]
        assert mine == list(range(1, len(mine) + 1))
    assert feed.count == len(found)


def test_a_batch_that_is_refused_changes_nothing() -> None:
    feed, asked = Feed(), e.QuestionAsked(question="q1", prompt="Who would hear the answer?")
    feed.take(batch(1, 2))
    for bad in (b'{"type":"text.ended","part":"p9"}', b"x", e.encode(e.RunState(state="paused")), e.encode(asked)):
        opened = e.encode(e.TextDelta(text="a"))
        with pytest.raises(InvalidBatch) as caught:
            feed.take(Batch(0, 2, (event(2), opened, bad)))
        assert caught.value.index == 2, "counted from the beginning of the batch"
        assert (feed.expected, feed.count) == (3, 2)
    fine = Batch(0, 3, (e.encode(e.TextDelta(text="a")), e.encode(e.TextEnded())))
    assert len(feed.take(fine).events) == 2


def test_judging_changes_nothing() -> None:
    feed = Feed()
    assert feed.judge(batch(1, 3)).news
    assert (feed.expected, feed.epoch, feed.end) == (1, 0, None)


def test_the_end() -> None:
    feed, end = Feed(), End("completed")
    feed.take(batch(1, 2))
    with pytest.raises(OutOfTurn):
        feed.take(batch(1, 1, end=end))
    assert feed.take(batch(3, 1, end=end)).news
    assert not feed.take(batch(3, 1, end=end)).news
    assert not feed.take(batch(1, 2)).news
    assert not feed.take(batch(1, 0)).news
    for late in (batch(4, 1), batch(4, 0, end=End("failed"))):
        with pytest.raises(Ended):
            feed.take(late)


def test_what_is_no_batch() -> None:
    with pytest.raises(InvalidBatch):
        decode(b"{}")
    error = e.Error.of("no_disk", "Full.")
    whole = Batch(3, 4, (event(1), event(2)), End("failed", error))
    assert decode(encode(whole)) == whole
