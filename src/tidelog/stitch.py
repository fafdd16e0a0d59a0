"""Joins a continued answer to the text before it: what a model repeats of the end is dropped (spec §8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tidelog import events as e
from tidelog.seams import Translator

OVERLAP: Final = 200
"""Characters of the earlier end that may be repeated."""
LEAST: Final = 8
"""A repetition shorter than this is chance, and stays."""


class Stitch:
    """A translator around another: holds the first text back until it is clear how much of it repeats the end of `before`."""

    def __init__(self, inner: Translator, before: str) -> None:
        self._inner = inner
        self._end: str | None = before[-OVERLAP:]
        self._held = ""
        self._part = "p1"

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The inner translator's events, without the repetition."""
        for event in self._inner.feed(chunk):
            yield from self._join(event)

    def end(self) -> Iterable[e.Event]:
        """The inner translator's last events, and what was held."""
        for event in self._inner.end():
            yield from self._join(event)
        yield from self._release()

    def _join(self, event: e.Event) -> Iterable[e.Event]:
        if self._end is None or (not self._held and not isinstance(event, e.TextDelta)):
            yield event  # sources, reasoning or a tool call may come first: the text is still to be joined
        elif isinstance(event, e.TextDelta) and (not self._held or event.part == self._part):
            self._held += event.text
            self._part = event.part
            if not self._may_grow():
                yield from self._release()
        else:
            yield from self._release()
            yield event

    def _may_grow(self) -> bool:
        """Whether more text could still lengthen the repetition."""
        end = self._end or ""
        return any(end[start:].startswith(self._held) for start in range(max(0, len(end) - len(self._held))))

    def _release(self) -> Iterable[e.TextDelta]:
        end, self._end = self._end, None
        if end is None or not self._held:
            return
        sizes = range(min(len(end), len(self._held)), LEAST - 1, -1)
        repeated = next((size for size in sizes if self._held.startswith(end[-size:])), 0)
        if self._held[repeated:] or self._part != "p1":  # the snapshot opened p1; any other part must be opened
            yield e.TextDelta(part=self._part, text=self._held[repeated:])
