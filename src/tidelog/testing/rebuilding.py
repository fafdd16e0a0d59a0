"""What a reader knows from the frames it got, over however many connections: the oracle of resume tests.

It follows spec/PROTOCOL.md §3 and §7 and shares no code with the server's own fold.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidelog.testing.frames import Frame

Event = dict[str, Any]


def rebuild(frames: Iterable[Frame | Event]) -> str:
    """The text of a run from its native frames: cut, doubled, replayed and merged ones, in any order.

    Raises `ValueError` if a record is missing, or if two frames tell different things of the same records.
    """
    return "".join(
        event["text"] for event in transcript(frames) if event["type"] in ("text.delta", "text.snapshot")
    )  # fmt: skip


def transcript(frames: Iterable[Frame | Event]) -> list[Event]:
    """Events that tell every record up to the last one exactly once, in order. Raises `ValueError` as `rebuild`."""
    pieces: dict[tuple[int, int], Event] = {}
    for frame in frames:
        event = frame.json if isinstance(frame, Frame) else frame
        if "seq" not in event:
            continue
        span = (event.get("from", event["seq"]), event["seq"])
        if pieces.setdefault(span, event) != event:
            raise ValueError(f"records {span[0]} to {span[1]} were told in two ways: {pieces[span]} and {event}")
    return _chain(pieces)


def _chain(pieces: dict[tuple[int, int], Event]) -> list[Event]:
    """Viewers merge at different places, so frames may overlap: the chain without overlap that reaches the end."""
    last = max((end for _, end in pieces), default=0)
    before: dict[int, tuple[int, Event]] = {}
    reached = {0}
    for (first, end), event in sorted(pieces.items(), key=lambda one: one[0]):
        if first - 1 in reached and end not in reached:
            reached.add(end)
            before[end] = (first - 1, event)
    if last not in reached:
        raise ValueError(f"records are missing: {last} is the last one, the chain breaks after {max(reached)}")
    chain: list[Event] = []
    while last:
        last, event = before[last]
        chain.append(event)
    return chain[::-1]
