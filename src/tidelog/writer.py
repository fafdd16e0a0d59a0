"""The writer of one log: checks events against the grammar and the limits, numbers them, and hands them to the store.

The store takes one append at a time; what comes meanwhile gathers and goes as the next. Everything happens on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic, time
from typing import Final

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Conflict, StoreError, TooLarge
from tidelog.events import encode_plain
from tidelog.grammar import Grammar
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease, Record, run_log
from tidelog.seams import Store

log = logging.getLogger("tidelog")

PENDING_BYTES: Final = 256 * 1024
"""What may wait for the append in flight before the source is held."""


class Writer:
    """Writes the log of `head`, whose first event is stored. `moved` is called when something was stored, or the log was lost.

    `done` is resolved when the ending is stored, or cannot be: then `lost` tells why, and the ending is still owed.
    """

    __slots__ = (
        "_append", "_epoch", "_grammar", "_head", "_inflight", "_last_head", "_lease", "_most_bytes", "_most_event",
        "_most_records", "_moved", "_name", "_pending", "_settled", "_zero", "at", "bytes", "done", "finished", "last", "lost", "pending_bytes",
        "same_part", "usage",
    )  # fmt: skip

    def __init__(
        self, store: Store, head: Head, lease: Lease, *, first: e.RunStarted, limits: Limits, moved: Callable[[], None]
    ) -> None:
        self.last = 1
        """The last record that was accepted, stored or not."""
        self._zero = time() - monotonic()  # a clock that is set must not turn records around, or time a run out
        self.at = 0.0
        """When that was accepted, 0 before the first: Unix time that never goes back within a log."""
        self.bytes = 0
        self.pending_bytes = 0
        self.usage = e.TokenUsage()
        self.finished = False
        self.lost: BaseException | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.same_part = b""
        """How a delta of the open text part begins, while one follows the other; else empty."""
        self._append = store.append
        self._head = head
        self._name = run_log(head.run)
        self._lease = lease
        self._epoch = lease.epoch
        self._moved = moved
        self._grammar = Grammar()
        self._grammar.accept(first)
        self._pending: list[Record] = []
        self._inflight: asyncio.Future[None] | None = None
        self._settled: asyncio.Future[None] | None = None
        self._most_event = limits.max_event_bytes
        self._most_bytes = limits.max_run_bytes
        self._most_records = limits.max_run_records
        self._last_head: bytes | None = None

    @property
    def behind(self) -> bool:
        """Whether the source should wait for the store."""
        return self.pending_bytes > PENDING_BYTES

    def age(self) -> float:
        """Seconds since the last record was accepted."""
        return self._zero + monotonic() - self.at

    def accept(self, event: e.Event) -> None:
        """Add the event. Raises `InvalidEvent` or `TooLarge`, and adds nothing. After the end, events are passed over."""
        if self.finished:
            return
        self.same_part = b""
        data = e.encode(event)
        self._check(len(data) if type(event) is not e.TextSnapshot else 0)
        self._grammar.accept(event)
        if type(event) is e.Usage:
            self.usage = e.TokenUsage(event.input, event.output, event.source)
        self._push(data)

    def more_text(self, text: str) -> None:
        """Text after text of the same part, the hot path: there is nothing to decide, only to encode. Raises `TooLarge`."""
        append = self._append  # a name of its own: to call what a slot holds takes a slow way
        try:
            data = b"".join((self.same_part, encode_plain(text), b"}"))
        except UnicodeEncodeError:
            data = b"".join((self.same_part, e.encode_json(text), b"}"))
        size = len(data)
        seq, total = self.last + 1, self.bytes + size
        if size > self._most_event or total > self._most_bytes or seq > self._most_records:
            self._check(size)
        if self._inflight is not None or self.finished:
            self._push(data)
            return
        self.last = seq
        self.bytes = total
        self.at = at = self._zero + monotonic()
        ack = append(self._name, seq - 1, (Record(seq, at, data, self._epoch),), self._lease)
        if ack is not self._settled:
            self._await(ack)

    def finish(self, outcome: e.Outcome, error: e.Error | None) -> None:
        """Store the ending: close what is open, then `run.ended`. Happens once."""
        if self.finished:
            return
        self.finished = True
        ending = heads.ending(outcome, error, self.usage)
        self._last_head = heads.encode(heads.ended_head(self._head, ending))
        for event in (*self._grammar.closing(outcome), ending):
            self._grammar.accept(event)
            self._push(e.encode(event))
        if self._inflight is None:
            self._flush()

    def _check(self, size: int) -> None:
        if size > self._most_event:
            raise TooLarge(f"An event of {size} bytes is over max_event_bytes ({self._most_event}).")
        if self.bytes + size > self._most_bytes or self.last >= self._most_records:
            raise TooLarge("The run is over its limit of bytes or records.")

    def _push(self, data: bytes) -> None:
        """Number the event; append it at once if nothing is in flight. The ending goes as one batch."""
        seq = self.last = self.last + 1
        self.bytes += len(data)
        self.at = self._zero + monotonic()
        record = Record(seq, self.at, data, self._epoch)
        if self._inflight is None and not self.finished:
            ack = self._append(self._name, seq - 1, (record,), lease=self._lease)
            if ack is not self._settled:
                self._await(ack)
        else:
            self.pending_bytes += len(data)
            self._pending.append(record)

    def _flush(self) -> None:
        batch, self._pending, self.pending_bytes = self._pending, [], 0
        head, after = self._last_head, batch[0].seq - 1
        self._await(self._append(self._name, after, batch, lease=self._lease, head=head, ended=head is not None))

    def _await(self, ack: asyncio.Future[None]) -> None:
        """A store in memory answers with one future for all, which is settled for good."""
        if not ack.done():
            self._inflight = ack
            ack.add_done_callback(self._stored)
        elif self.finished or ack.cancelled() or ack.exception() is not None:
            self._stored(ack)
        else:
            self._settled = ack

    def _stored(self, ack: asyncio.Future[None]) -> None:
        self._inflight = None
        error = ack.exception() if not ack.cancelled() else StoreError()
        if error is not None:
            self._lose(error)
        elif self._pending:
            self._flush()
        elif self.finished and not self.done.done():
            self.done.set_result(None)
        self._moved()

    def _lose(self, error: BaseException) -> None:
        """The store refused: nothing can be added any more. What was not stored was shown to nobody."""
        level = logging.WARNING if isinstance(error, Conflict) else logging.ERROR
        log.log(level, "run %s: the log is lost to this process: %s", self._head.run, error)
        self.lost = error
        self.finished = True
        self._pending, self.pending_bytes = [], 0
        self._moved()
        if not self.done.done():
            self.done.set_result(None)
