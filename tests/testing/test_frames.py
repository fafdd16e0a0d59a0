"""The kit's parser against the rules of the standard, at every chunking."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.testing import Frame, Parser

CASES: dict[str, tuple[bytes, list[Frame]]] = {
    "one": (b"data: a\n\n", [Frame("a")]),
    "no space, one space, two": (b"data:a\ndata: b\ndata:  c\n\n", [Frame("a\nb\n c")]),
    "a field without a colon": (b"data\n\ndata\ndata\n\n", [Frame(""), Frame("\n")]),
    "cr": (b"data: a\r\rdata: b\r\r", [Frame("a"), Frame("b")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Frame("a"), Frame("b")]),
    "mixed": (b"data: a\rdata: b\r\ndata: c\n\r", [Frame("a\nb\nc")]),
    "names": (b"event: add\ndata: a\n\nevent:\ndata: b\n\n", [Frame("a", "add"), Frame("b")]),
    "a name without data": (b"event: add\n\ndata: a\n\n", [Frame("a")]),
    "ids stay": (b"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", [Frame("a", id="1"), Frame("b", id="1"), Frame("c")]),
    "an id alone": (b"id: 1\n\ndata: a\n\n", [Frame("a", id="1")]),
    "an id with NUL": (b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", [Frame("a", id="1"), Frame("b", id="1")]),
    "comments": (b": hb\n\n:\n: x\ndata: a\n: y\n\n", [Frame("a")]),
    "unknown fields": (b"foo: 1\n data: x\ndata: a\n\n", [Frame("a")]),
    "cut": (b"data: a\n\ndata: b\n", [Frame("a")]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [Frame("a"), Frame("c")]),
    "utf-8": ("data: 你\u2028\u0085🙂\n\n".encode(), [Frame("你\u2028\u0085🙂")]),
    "a colon in the data": (b"data: a: b\n\n", [Frame("a: b")]),
}


def parsed(*pieces: bytes) -> list[Frame]:
    parser = Parser()
    return [frame for piece in pieces for frame in parser.feed(piece)]


@pytest.mark.parametrize("case", CASES)
def test_at_every_pair_of_cuts(case: str) -> None:
    text, wanted = CASES[case]
    assert parsed(text) == wanted
    assert parsed(*(text[n : n + 1] for n in range(len(text)))) == wanted
    for first, second in combinations(range(len(text) + 1), 2):
        assert parsed(text[:first], text[first:second], text[second:]) == wanted


@given(
    st.lists(st.sampled_from([b"data: a", b"id: 1", b"\r", b"\n", b"\r\n", b": c", b"event: e", b"\xef\xbb\xbf"])),
    st.randoms(),
)
def test_chunking_changes_nothing(lines: list[bytes], dice: object) -> None:
    text = b"".join(lines)
    whole = Parser()
    frames = list(whole.feed(text))
    single = Parser()
    assert [frame for n in range(len(text)) for frame in single.feed(text[n : n + 1])] == frames
    assert (whole.last_id, whole.retry, whole.comments) == (single.last_id, single.retry, single.comments)


@pytest.mark.parametrize(
    ("line", "retry"), [("retry: 10", 10), ("retry:10", 10), ("retry: 1x", None), ("retry: -1", None), ("retry", None)]
)
def test_retry_is_digits_alone(line: str, retry: int | None) -> None:
    parser = Parser()
    assert list(parser.feed(f"{line}\n\n".encode())) == []
    assert parser.retry == retry


def test_json_of_a_frame() -> None:
    assert Frame('{"a":1}').json == {"a": 1}
    with pytest.raises(ValueError):
        _ = Frame("x").json
