"""The writer of one log: checks events against the grammar and the limits, numbers them, and hands them to the store.

Each event is handed over at once, and the store gathers. Only text may wait here, while the server has much to do: what follows
text of the same part within a moment becomes one record with it. Everything happens on the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from time import monotonic, time
from typing import Final

import msgspec

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Conflict, StoreError, TooLarge
from tidelog.events import encode_plain
from tidelog.head import Head
from tidelog.limits import Limits
from tidelog.log import Lease, Record, run_log
from tidelog.replay import Written
from tidelog.seams import Store
from tidelog.turn import Turn

log = logging.getLogger("tidelog")

PENDING_BYTES: Final = 128 * 1024
"""What may wait to be stored before the source is held. A store that gathers holds it up to three times over."""
GATHERED: Final = 16
SHORT: Final = 128
"""So many texts at most become one record, none of them longer than so many characters."""
ROOM: Final = 6 * GATHERED * SHORT + 128
"""Bytes that such a record may have, of characters that JSON escapes: nearer to a limit nothing gathers."""


class HandedOver(Conflict):
    """The log was let go."""


class Writer:
    """Writes the log of `head` behind what is `written` in it. `moved` is called when the store has caught up, or lost the log.

    `done` is resolved when the ending is stored, or cannot be: then `lost` tells why, and the ending is still owed. `turn` tells
    whether text gathers. While the loop is calm each delta is a record of its own, and always under `lockstep` and of a producer,
    whose events are counted.
    """

    __slots__ = (
        "_ack", "_append", "_began", "_catching_up", "_check_at", "_delta", "_earlier", "_epoch", "_gathered", "_grammar",
        "_most_bytes", "_most_event", "_most_records", "_moved", "_name", "_prefix", "_room", "_zero", "at", "bytes", "done",
        "finished", "follows", "head", "last", "lease", "lost", "silent_until", "stored", "turn", "usage",
    )  # fmt: skip

    def __init__(
        self, store: Store, head: Head, lease: Lease, *,
        written: Written, limits: Limits, moved: Callable[[], None], turn: Turn | None = None,
    ) -> None:  # fmt: skip
        self.last = written.last
        """The last record that was accepted, stored or not."""
        self.silent_until = written.last
        """The last record before the source's own first: its start, the text that it continues, states, announced attempts."""
        self._zero = time() - monotonic()  # a clock that is set must not turn records around, or time a run out
        self.at = 0.0
        """When that was accepted, 0 before the first: Unix time that never goes back within a log."""
        self.bytes = written.bytes
        self.stored = written.bytes
        """How many of the bytes are known to be stored; it may be more."""
        self.usage = written.usage
        self.finished = False
        self.lost: BaseException | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.turn = turn or Turn()
        self._delta: tuple[type[e.Event], str] | None = None
        """The kind and the part of the last record, if that is a delta; then `_prefix` is how it begins, up to its text."""
        self._prefix = b""
        self._gathered: list[str] = []
        """Text of that part that is no record yet."""
        self.follows = False
        """Whether the next text of a source that yields text would follow text of the same part."""
        self._append = store.append
        self.head = head
        """What the store was last given, or will be with the next change."""
        self._name = run_log(head.run)
        self.lease = Lease(lease.owner, lease.epoch, self._lose)
        self._epoch = lease.epoch
        self._moved = moved
        self._grammar = written.grammar
        self._ack: asyncio.Future[None] | None = None
        """Of the last append. A store that gathers appends, or is always done, gives the same one again and again."""
        self._earlier: asyncio.Future[None] | None = None
        self._began = 0
        """Of the appends before, and how many bytes these were."""
        self._catching_up = False
        self._check_at = 0
        """While there are fewer bytes than this, text cannot have broken a limit."""
        self._most_event = limits.max_event_bytes
        self._most_bytes = limits.max_run_bytes
        self._most_records = limits.max_run_records
        self._room = ROOM if limits.lockstep is None and head.producer is None else inf

    @property
    def pending_bytes(self) -> int:
        """What the store was given and has not stored yet."""
        if self._ack is None or self._ack.done():
            self.stored = self.bytes
        elif self._earlier is None or self._earlier.done():
            self.stored = self._began
        return self.bytes - self.stored

    @property
    def asked(self) -> int:
        """How many questions the log holds."""
        return self._grammar.asked

    @property
    def behind(self) -> bool:
        """Whether the source should wait for the store; then `moved` is called when it has caught up."""
        if self.pending_bytes <= PENDING_BYTES or self._ack is None:
            return False
        if not self._catching_up:
            self._catching_up = True
            self._ack.add_done_callback(self._caught_up)
        return True

    def let_go(self) -> None:
        """Write no more, not even an ending: another process goes on. What was accepted is still stored."""
        self._store_text()
        self._lose(HandedOver())

    def age(self) -> float:
        """Seconds since the last record was accepted."""
        return self._zero + monotonic() - self.at

    def accept(self, event: e.Event) -> None:
        """Add the event. Raises `InvalidEvent` or `TooLarge`, and adds nothing. After the end, events are passed over."""
        if isinstance(event, (e.TextDelta, e.ReasoningDelta)):
            delta = (type(event), event.part)
            if delta == self._delta and type(event.text) is str:
                self.more_text(event.text)
            elif self._accept(event):
                self._delta, self._prefix = delta, e.delta_prefix(event)
        else:
            self._accept(event)

    def more_text(self, text: str) -> None:
        """Text after text of the same part, the hot path: there is nothing to decide. Raises `TooLarge`.

        Text that comes sooner than it may go is expected to go on so: it waits for what comes within that time.
        """
        gathered, turn = self._gathered, self.turn
        turn.texts += 1
        if gathered:
            if len(gathered) < GATHERED and len(text) <= SHORT:
                gathered.append(text)
                return
            self._store_text()
        gather = turn.gather
        if (
            gather
            and self._zero + monotonic() - self.at < gather
            and self.bytes + self._room < self._check_at
            and len(text) <= SHORT
        ):
            gathered.append(text)
            turn.later(gather, self._store_text)
        else:
            self._add_text(text)

    def enter(self, state: e.RunningState, position: int | None = None, *, asked: int = 0) -> None:
        """The run is in another state from here on: told, and kept in its head, in one step. After the end, nothing happens.

        `asked`: the record of the control log that wished it. Raises `TooLarge`, and adds nothing.
        """
        self._close_text()
        if self.finished:
            return
        event = e.RunState(state=state, position=position)
        data = e.encode(event)
        self._check(len(data))
        self.head = msgspec.structs.replace(
            self.head, state=state, position=position, asked=max(self.head.asked, asked)
        )
        self._grammar.accept(event)
        if self.last == self.silent_until:
            self.silent_until += 1  # set before it is heard
        self._push(data, heads.encode(self.head))

    def tell(self, *events: e.Event, head: Head, must: bool = False) -> None:
        """Add these events, and give the log this head, in one step. After the end, nothing happens.

        Raises `InvalidEvent` for what the grammar forbids and `TooLarge`, and adds nothing; `must`: no limit holds.
        """
        self._close_text()
        if self.finished:
            return
        encoded = [e.encode(event) for event in events]
        if not must:
            self._check(sum(map(len, encoded)))
        for event in events:
            self._grammar.accept(event)
        self.head = head
        before, after = self.bytes, self.last
        records = [self._number(data) for data in encoded]
        ack = self._append(self._name, after, records, self.lease, heads.encode(head))
        if ack is not self._ack:
            self._begin(ack, before)

    def leave(self, used: e.Usage | None) -> None:
        """Write nothing more, and leave the log as it is: `done` is resolved once all of it is stored.

        `used`: what whoever goes on must know of the usage.
        """
        self._store_text()
        if self.finished or self._ack is None:
            return
        if used is not None:
            self.tell(used, head=self.head, must=True)
        self.finished = True
        if self._ack.done():
            self._end(self._ack)
        else:
            self._ack.add_done_callback(self._end)

    def finish(self, outcome: e.Outcome, error: e.Error | None, used: e.Usage | None = None) -> None:
        """Store the ending in one batch: close what is open, then `run.ended`, with this usage if it is known. Happens once."""
        self._store_text()
        if self.finished:
            return
        self.finished = True
        if used is not None:
            self.usage = e.TokenUsage(used.input, used.output, used.source)
        ending = heads.ending(self.head, outcome, error, self.usage)
        head = heads.encode(heads.ended_head(self.head, ending))
        after, records = self.last, list[Record]()
        for event in (*self._grammar.closing(outcome), ending):
            self._grammar.accept(event)
            records.append(self._number(e.encode(event)))
        ack = self._append(self._name, after, records, self.lease, head, True)
        if ack.done():
            self._end(ack)
        else:
            ack.add_done_callback(self._end)

    def _accept(self, event: e.Event) -> bool:
        self._close_text()
        if self.finished:
            return False
        data = e.encode(event)
        self._check(len(data) if type(event) is not e.TextSnapshot else 0)
        self._grammar.accept(event)
        if type(event) is e.Usage:
            self.usage = e.TokenUsage(event.input, event.output, event.source)
        self._push(data)
        return True

    def _close_text(self) -> None:
        """Something else follows the text."""
        self._store_text()
        self._delta, self.follows = None, False

    def _store_text(self) -> None:
        """What has gathered becomes a record."""
        gathered = self._gathered
        if gathered:
            text = "".join(gathered)
            gathered.clear()
            self._add_text(text)

    def _add_text(self, text: str) -> None:
        append = self._append  # a name of its own: to call what a slot holds takes a slow way
        try:
            data = b"".join((self._prefix, encode_plain(text), b"}"))
        except UnicodeEncodeError:
            data = b"".join((self._prefix, e.encode_json(text), b"}"))
        total = self.bytes + len(data)
        if total > self._check_at:
            self._check(len(data))
        if self.finished:
            return
        seq = self.last = self.last + 1
        self.bytes = total
        self.at = at = self._zero + monotonic()
        ack = append(self._name, seq - 1, (Record(seq, at, data, self._epoch),), self.lease)
        if ack is not self._ack:
            self._begin(ack, total - len(data))

    def _check(self, size: int) -> None:
        if size > self._most_event:
            raise TooLarge(f"An event of {size} bytes is over max_event_bytes ({self._most_event}).")
        if self.bytes + size > self._most_bytes or self.last >= self._most_records:
            raise TooLarge("The run is over its limit of bytes or records.")
        least = min(self._most_event, self._most_records - self.last)  # no record is shorter than a byte
        self._check_at = min(self._most_bytes, self.bytes + least)

    def _push(self, data: bytes, head: bytes | None = None) -> None:
        """Number the event and hand it to the store."""
        before = self.bytes
        record = self._number(data)
        ack = self._append(self._name, record.seq - 1, (record,), self.lease, head)
        if ack is not self._ack:
            self._begin(ack, before)

    def _number(self, data: bytes) -> Record:
        self.last += 1
        self.bytes += len(data)
        self.at = self._zero + monotonic()
        return Record(self.last, self.at, data, self._epoch)

    def _begin(self, ack: asyncio.Future[None], before: int) -> None:
        """The store has begun to gather anew behind so many bytes. What it refuses at once, `Lease.lost` does not tell."""
        if ack.done() and (error := _error_of(ack)) is not None:
            self._lose(error)
            return
        self._earlier, self._ack, self._began = self._ack, ack, before

    def _caught_up(self, ack: asyncio.Future[None]) -> None:
        self._catching_up = False
        self._moved()

    def _end(self, ack: asyncio.Future[None]) -> None:
        if (error := _error_of(ack)) is not None:
            self._lose(error)
        elif not self.done.done():
            self.lease.lost = None  # stores keep leases
            self.done.set_result(None)
        moved, self._moved = self._moved, _nothing
        moved()

    def _lose(self, error: BaseException) -> None:
        """The store refused: nothing can be added any more. What was not stored was shown to nobody."""
        if self.lost is not None or self.done.done():
            return
        if not isinstance(error, HandedOver):
            level = logging.WARNING if isinstance(error, Conflict) else logging.ERROR
            log.log(level, "run %s: the log is lost to this process: %s", self.head.run, error)
        self.lost = error
        self.finished = True
        self._gathered.clear()
        self.lease.lost = None
        moved, self._moved = self._moved, _nothing
        moved()
        self.done.set_result(None)


def _error_of(ack: asyncio.Future[None]) -> BaseException | None:
    return StoreError() if ack.cancelled() else ack.exception()


def _nothing() -> None:
    pass
