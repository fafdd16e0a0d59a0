"""How much one frame holds: the viewer's choice (spec §7). Pure: records in, records out.

A merged record is a record like any other: its data begins with `from`, its seq is that of its last delta, so every frame is a
place to resume and no dialect needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

from tidelog import events as e
from tidelog.errors import InvalidRequest
from tidelog.log import Record

Chunk = Literal["sentence", "paragraph", "whole"]

MERGE_SECONDS: Final = 0.017
"""The default window: below 60 frames a second, and never in the way of 50 events a second."""
MERGE_LIMIT: Final = 1.0
HELD_LIMIT: Final = 64 * 1024
"""Characters that `chunk=` holds back at most."""

_ENDS: Final[dict[Chunk, re.Pattern[str]]] = {
    "sentence": re.compile(r"[.!?…]['\")\]]*\s|[。！？；]|\n"),
    "paragraph": re.compile(r"\n\s*\n"),
    "whole": re.compile(r"(?!)"),
}


class Granularity(NamedTuple):
    """`merge` is a window in seconds, 0 for none; `chunk` holds deltas until it is complete."""

    merge: float = MERGE_SECONDS
    chunk: Chunk | None = None


_DEFAULT: Final = Granularity()


def parse(merge: str | None, chunk: str | None) -> Granularity:
    """The granularity that a request asks for: `merge` is like `20ms`, `0.1s` or `0`. Raises `InvalidRequest`."""
    if merge is None and chunk is None:
        return _DEFAULT
    if chunk not in (None, "", "token", *_ENDS):
        raise InvalidRequest(f"chunk must be one of token, {', '.join(_ENDS)}.")
    window = MERGE_SECONDS if merge is None else _seconds(merge)
    if chunk == "token":
        return Granularity(0.0)
    return Granularity(window, chunk or None)  # type: ignore[arg-type]


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,5}(?:\.[0-9]{1,6})?)(ms|s)?", text)
    if found is None or (value := float(found[1]) / (1 if found[2] == "s" else 1000)) > MERGE_LIMIT:
        raise InvalidRequest("merge must be a time up to 1s, like 20ms.")
    return value


_TEXT: Final = b'{"type":"text.delta"'
_REASONING: Final = b'{"type":"reasoning.delta"'
_WORDS: Final = b',"text":"'
DELTAS: Final = (_TEXT, _REASONING)
"""How the data of records begins that may be joined with others of their part."""


def is_delta(record: Record) -> bool:
    """Whether this record may be joined with others of its part."""
    return record.data.startswith(DELTAS)


def beginning(delta: Record) -> bytes:
    """How this delta, and all of its part, begin: up to the text, which ends with a quote and a brace."""
    return delta.data[: delta.data.index(_WORDS) + len(_WORDS)]


def is_one_part(records: Sequence[Record]) -> bool:
    """Whether all of these are deltas of one part."""
    begin = beginning(records[0]) if is_delta(records[0]) else b"-"
    return all(record.data.startswith(begin) for record in records)


def join(deltas: Sequence[Record], begin: int) -> Record:
    """One record of deltas that are the same in their first `begin` bytes, their `beginning`."""
    first, last = deltas[0], deltas[-1]
    if first is last:
        return first
    texts = b"".join([delta.data[begin:-2] for delta in deltas])
    return Record(last.seq, last.at, b'{"from":%d,%b%b"}' % (first.seq, first.data[1:begin], texts), last.epoch)


def merge(records: Sequence[Record]) -> Sequence[Record]:
    """The records, with neighbouring deltas of one part joined."""
    if len(records) < 2:
        return records
    merged: list[Record] = []
    start, begin = 0, b"-"
    for index, record in enumerate(records):
        if index and not record.data.startswith(begin):
            merged.append(join(records[start:index], len(begin)))
            start = index
        if start == index:
            begin = beginning(record) if is_delta(record) else b"-"
    return [*merged, join(records[start:], len(begin))]


class Holder:
    """Holds deltas back until a record completes a sentence, a paragraph or the part. The cursor has gone on meanwhile;
    what is held was not shown, and a viewer that resumes gets it again.
    """

    def __init__(self, chunk: Chunk) -> None:
        self._end = _ENDS[chunk]
        self._held: list[Record] = []
        self._size = 0
        self._tail = ""

    def feed(self, records: Iterable[Record]) -> Sequence[Record]:
        """The records that may go now, not yet merged."""
        ready: list[Record] = []
        for record in records:
            self._held.append(record)
            if not is_delta(record) or self._completes(record):
                ready.extend(self._held)
                self._held = []
                self._size, self._tail = 0, ""
        return ready

    def _completes(self, record: Record) -> bool:
        event = e.decode(record.data)
        text = event.text if isinstance(event, e.TextDelta | e.ReasoningDelta) else ""
        self._size += len(text)
        window = self._tail + text
        self._tail = window[-8:]
        return self._size > HELD_LIMIT or self._end.search(window) is not None
