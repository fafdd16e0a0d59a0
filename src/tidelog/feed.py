"""What an outside producer posts: batches in a run's feed, a log that many may write. Pure.

Which batches count is decided by a fold over the feed, so every process that reads it decides the same: the one that took the
request, and the one whose run pulls the events. A batch counts whole or not at all.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from tidelog import events as e
from tidelog.errors import Ended, InvalidBatch, InvalidEvent, Mismatch, OutOfTurn
from tidelog.grammar import Grammar

EndOutcome = Literal["completed", "failed", "stopped"]
"""How a producer may say that its run ended: all else is for tidelog to find out."""
FORBIDDEN: Final = (e.RunStarted, e.RunState, e.RunEnded, e.TextSnapshot, e.QuestionAsked, e.QuestionAnswered)
"""Events that the run writes itself. `run.ended` is told as the end of a batch."""


class End(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the producer ends the run; `error` for `failed`, whose `message` the producer has chosen to be shown."""

    outcome: EndOutcome
    error: e.Error | None = None


class Batch(NamedTuple):
    """Events numbered from `seq` on within `epoch`, encoded as in a log, and the end of the run if it ends with them.

    Without either it is a heartbeat.
    """

    epoch: int
    seq: int
    events: tuple[bytes, ...] = ()
    end: End | None = None


class Taken(NamedTuple):
    """What a batch adds to the run: the events that were not known yet. `news`: it changes something, if only the end."""

    events: tuple[e.Event, ...]
    news: bool


class Feed:
    """The fold. `expected` is the number that the next event of the current epoch must have."""

    def __init__(self) -> None:
        self.epoch = 0
        self.expected = 1
        self.count = 0
        """Events taken so far, of all epochs: the n-th is the n-th that the run's source gives."""
        self.end: End | None = None
        self._grammar = Grammar()
        self._grammar.accept(e.RunStarted(v=e.PROTOCOL_VERSION, run="", thread="", message="", attempt=1))

    def take(self, batch: Batch) -> Taken:
        """Take the batch, or raise and change nothing: `OutOfTurn` for a gap, `Mismatch` (`fenced`, `already_ended`) for an
        older epoch or behind the end, `InvalidBatch` for events that the grammar forbids.
        """
        taken, grammar = self._judge(batch)
        if taken.news:
            same = batch.epoch == self.epoch
            self.expected = (self.expected if same else 1) + len(taken.events)
            self._grammar, self.epoch, self.end = grammar, batch.epoch, batch.end
            self.count += len(taken.events)
        return taken

    def judge(self, batch: Batch) -> Taken:
        """What `take` would give, or raise."""
        return self._judge(batch)[0]

    def _judge(self, batch: Batch) -> tuple[Taken, Grammar]:
        if batch.epoch < self.epoch:
            raise Mismatch(code="fenced")
        expected = self.expected if batch.epoch == self.epoch else 1
        if batch.seq > expected:
            raise OutOfTurn(expected)
        known = expected - batch.seq
        fresh = batch.events[known:]
        if batch.end is not None and self.end is None and known > len(batch.events):
            raise OutOfTurn(expected)  # it ends before what was taken already
        if self.end is not None:
            if fresh or batch.end not in (None, self.end):
                raise Ended(self.end.outcome)
            return Taken((), False), self._grammar
        events, grammar = self._checked(fresh, known)
        news = bool(events) or batch.end is not None or batch.epoch != self.epoch
        return Taken(events, news), grammar

    def _checked(self, fresh: tuple[bytes, ...], first: int) -> tuple[tuple[e.Event, ...], Grammar]:
        if not fresh:
            return (), self._grammar
        grammar, events = self._grammar.copy(), list[e.Event]()
        for index, data in enumerate(fresh, first):
            event = e.decode(data)
            if event is None or isinstance(event, FORBIDDEN):
                raise InvalidBatch("This is no event that a producer may post.", index=index)
            try:
                grammar.accept(event)
            except InvalidEvent as error:
                raise InvalidBatch(error.message, index=index) from error
            events.append(event)
        return tuple(events), grammar


class _Cover(msgspec.Struct, frozen=True, omit_defaults=True):
    epoch: int
    seq: int
    end: End | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[_Cover] = msgspec.json.Decoder(_Cover)


def encode(batch: Batch) -> bytes:
    """The batch as lines of JSON: its numbers and its end, then each event."""
    return b"\n".join((_encoder.encode(_Cover(batch.epoch, batch.seq, batch.end)), *batch.events))


def decode(data: bytes) -> Batch:
    """The batch that `encode` wrote. Raises `InvalidBatch` for what this version cannot read."""
    cover, *events = data.split(b"\n")
    try:
        found = _decoder.decode(cover)
    except msgspec.DecodeError:
        raise InvalidBatch("This is no batch.") from None
    return Batch(found.epoch, found.seq, tuple(events), found.end)
