"""A run's log, read from its beginning by whoever takes it over from a process that is gone."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from tidelog import events as e
from tidelog.errors import InvalidEvent
from tidelog.grammar import Grammar
from tidelog.parts import Parts
from tidelog.seams import Store


class Replayed(NamedTuple):
    """What the log tells: what is open at its end, the usage that was told, and with an estimate of what was said since."""

    grammar: Grammar
    told: e.TokenUsage
    usage: e.TokenUsage
    size: int
    """Bytes of all events."""
    said: int
    """Events that the source gave: all but the run's own."""


async def replay(store: Store, name: str) -> Replayed:
    """Read the whole log. Raises `Gone`."""
    grammar, parts, told = Grammar(), Parts(), e.TokenUsage()
    after = size = said = 0
    while True:
        page = await store.read(name, after)
        for record in page.records:
            event = e.decode(record.data)
            if event is not None:
                with contextlib.suppress(InvalidEvent):  # after events of a later version; an ending must be had
                    grammar.accept(event)
            if isinstance(event, e.Usage):
                parts.told(event)
                told = e.TokenUsage(event.input, event.output, event.source)
            elif isinstance(event, e.TextDelta | e.ReasoningDelta | e.ToolInputDelta):
                parts.hear(event.json if isinstance(event, e.ToolInputDelta) else event.text)
            after, size = record.seq, size + len(record.data)
            said += not isinstance(event, e.RunStarted | e.RunState | e.RunEnded)
        if not page.more:
            guess = parts.estimate()
            usage = told if guess is None else e.TokenUsage(guess.input, guess.output, guess.source)
            return Replayed(grammar, told, usage, size, said)
        await asyncio.sleep(0)
