"""A log read from its start: what is open in it, which names it has used, what it has cost. For whoever must go on with it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from tidelog import events as e
from tidelog.errors import InvalidEvent
from tidelog.grammar import Grammar
from tidelog.parts import OpenCall, Parts
from tidelog.seams import Store


class Written(NamedTuple):
    """What a log holds up to record `last`; `bytes` counts its events. `usage` is what was told."""

    grammar: Grammar
    parts: Parts
    last: int
    bytes: int
    usage: e.TokenUsage
    said: int = 0
    """Events that the source gave: all but the run's own."""
    told: int = 0
    """Of these, those that would be there twice if the source began again: all but progress."""

    def spent(self) -> e.TokenUsage:
        """The usage with an estimate of what was heard and not told."""
        guess = self.parts.estimate()
        return self.usage if guess is None else e.TokenUsage(guess.input, guess.output, guess.source)


def begun(first: e.RunStarted) -> Written:
    """A log with its first record alone."""
    grammar = Grammar()
    grammar.accept(first)
    return Written(grammar, Parts(), 1, 0, e.TokenUsage())


async def replay(store: Store, log: str, *, heard: bool) -> Written:
    """Read the log to its end. `heard`: all of its text counts as a model's, for an estimate. Raises `Gone`."""
    grammar, parts, usage = Grammar(), Parts(), e.TokenUsage()
    after = size = said = told = 0
    while True:
        page = await store.read(log, after)
        for record in page.records:
            event = e.decode(record.data)
            if event is not None:
                with contextlib.suppress(InvalidEvent):  # after events of a later version; an ending must be had
                    grammar.accept(event)
                usage = _noted(parts, event, heard) or usage
            after, size = record.seq, size + len(record.data)
            own = isinstance(event, e.RunStarted | e.RunState | e.RunEnded)
            said, told = said + (not own), told + (not own and not isinstance(event, e.Progress))
        if not page.more:
            return Written(grammar, parts, after, size, usage, said, told)
        await asyncio.sleep(0)


def _noted(parts: Parts, event: e.Event, heard: bool) -> e.TokenUsage | None:
    """What the event means for names and for usage; the usage, if it tells one."""
    name = getattr(event, "part", None) or getattr(event, "call", None)
    if name is not None:
        parts.taken(name)
    if isinstance(event, e.ToolStarted):
        parts.open_calls[event.call] = OpenCall(event.name)
    elif isinstance(event, e.ToolInput):
        begun = parts.open_calls.get(event.call, OpenCall(""))
        parts.open_calls[event.call] = begun._replace(given=True, input=event.input)
    elif isinstance(event, e.ToolEnded):
        parts.open_calls.pop(event.call, None)
    if isinstance(event, e.Usage):
        parts.told(event)
        return e.TokenUsage(event.input, event.output, event.source)
    if heard and isinstance(event, e.TextDelta | e.ReasoningDelta | e.ToolInputDelta):
        parts.hear(event.json if isinstance(event, e.ToolInputDelta) else event.text)
    return None
