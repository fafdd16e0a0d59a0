"""The five seams: what a source, a dialect, a framing, a store and a carrier must do.

A leaf is one file and one row in `registry`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from tidelog.bell import Bell
from tidelog.events import Event, Usage
from tidelog.frame import Envelope, Frame, Why
from tidelog.log import Due, Lease, Record, Tail
from tidelog.parts import Parts

BATCH_BYTES = 256 * 1024
"""The most that one read hands out, counting RECORD_COST for each record beside its data where it makes that record anew."""
RECORD_COST = 128


class Translator(Protocol):
    """Turns a library's chunks into events. Pure: any chunking gives the same events."""

    def feed(self, chunk: Any) -> Iterable[Event]:
        """The events that this chunk completes."""
        ...

    def end(self) -> Iterable[Event]:
        """The events that the end of the stream completes."""
        ...


class RunTranslator(Translator, Protocol):
    """The translator of a run, which outlives the attempts of its source."""

    def usage(self) -> Usage | None:
        """The usage of the run, if more is known or guessed than the log tells."""
        ...

    def part(self) -> None:
        """Something that is no text comes between: text behind it is another part."""
        ...

    def again(self) -> None:
        """Forget the streams of an attempt that failed."""
        ...


class LibraryTranslator(Translator, Protocol):
    """The translator of one library's chunks: instances are recognised when a run yields them, dicts are wrapped explicitly.

    Its row in the table of sources is named after the package that the chunks' classes come from. It imports nothing of it.
    Text, reasoning and tool input that it emits are counted for estimates; what a provider tells goes through `parts.used`.
    """

    def __init__(self, parts: Parts) -> None:
        """One for a run, whatever number of streams of the library it yields; `parts` is shared by all of the run."""
        ...

    @staticmethod
    def takes(kind: type) -> bool:
        """Whether instances of this class, which comes from the library's package, are chunks; else they are data."""
        ...


class Dialect(Protocol):
    """One vocabulary of the wire: a pure fold over a log, from its first record on.

    To resume at k the fold takes records 1 to k silently; then `prelude` says what makes a stream legal from there.
    """

    in_band: ClassVar[bool]
    """Everything after validation is told in the stream: the status is 200 at once."""
    stateless: ClassVar[bool]
    """`encode` needs no earlier records, so that a viewer may resume without a replay."""
    verbatim: ClassVar[bool]
    """Every record is one frame, with `{"seq":n,` before the rest of its data: a framing may write it without a `Frame`."""
    broken: bool
    """The log ended in a way that this dialect has no words for: the stream must not look complete."""

    def __init__(self, run: str) -> None: ...

    def encode(self, record: Record) -> Iterable[Frame]:
        """The frames of this record; only the last carries its id."""
        ...

    def prelude(self) -> Iterable[Frame]:
        """The frames that come first on a connection that resumes where the fold stands."""
        ...

    def farewell(self, retry: int, why: Why) -> Iterable[Frame]:
        """The frames that ask a viewer to come back in `retry` ms, and with what, if it knows why. They carry no id."""
        ...


class Framing(Protocol):
    """How frames become bytes."""

    media_type: ClassVar[str]
    heartbeat: ClassVar[bytes]
    """Bytes that mean nothing to a reader; empty where the framing has none."""

    def __init__(self, retry: int) -> None:
        """One framing serves one viewer, which should wait `retry` ms before it comes back."""
        ...

    def encode(self, frame: Frame) -> bytes:
        """The frame as bytes, complete in itself; empty where this framing has no words for it."""
        ...

    def begin(self, run: bytes, envelope: Envelope) -> None:
        """From now on `verbatim` writes records of this run, in this envelope."""
        ...

    def verbatim(self, record: Record) -> bytes:
        """What `encode` gives for the frame of a `verbatim` dialect, once a first frame has gone out, in its envelope."""
        ...


class Page(msgspec.Struct, frozen=True, gc=False):
    """What one read gives. `more`: a limit cut it, read again at once. `ended`: the log is ended and this reaches its end."""

    records: Sequence[Record]
    more: bool
    ended: bool


class Store(Protocol):
    """Keeps logs. Every implementation passes the same conformance suite (`tidelog.testing.conformance`).

    `start` binds the store to the running loop; every other method is called on that loop only.
    """

    async def start(self, owner: str) -> None:
        """Open for the process `owner` and begin to beat its lease. Raises `Unavailable`."""
        ...

    async def aclose(self) -> None:
        """Store what is pending, give up the lease and close. Ring every bell."""
        ...

    async def open(
        self, log: str, head: bytes, *, records: Sequence[Record] = (), principal: str = "",
        key: str | None = None, fingerprint: bytes | None = None, entry: tuple[str, bytes] | None = None,
    ) -> str:  # fmt: skip
        """Create the log with its first records at epoch 1, owned by this process; return its name.

        `entry` names a log that many write, and nobody yet, with the first record for it: posted `once` in the same step, unless
        another log has won. Where the log exists it may be left over.

        With an idempotency `key` that was used before: return the name of the log that won, create nothing. Raises `Mismatch` if
        that one's `fingerprint` differs, `Conflict` if the log exists, and then leaves the key as it was. The key lives as long
        as its log. Atomic over processes. A store that is `Patient` waits, and opens the log once, however often it had to try;
        where it gives up (`Unavailable`) it may have opened it even so, and sees to it that it ends.
        """
        ...

    def append(
        self, log: str, after: int, records: Sequence[Record], lease: Lease, head: bytes | None = None, ended: bool = False
    ) -> asyncio.Future[None]:  # fmt: skip
        """Add records numbered from after + 1: the one call that is made for every event.

        The future is done when they are stored: only then does `read` show them. Many appends may share one future, so it must
        not be cancelled. It fails at once with `Conflict` unless `after` is the last record (stored or in flight) and the lease
        holds; then nothing was written. If it fails later, the lease is told as well (`Lease.lost`), and first: a future that
        logs share may then be done without an error. Repeating the last call with the same epoch and `after` is no error and
        writes nothing. `head` replaces the head blob; `ended` ends the log: every later append is a `Conflict`. Appends of one
        log are stored in order.
        """
        ...

    async def post(self, log: str, data: bytes, *, once: bool = False) -> int:
        """Add a record to a log that many write (control logs, threads), created at need; return the number it got.

        With `once`, data that was posted so before is not added again, however much came between: the number that it got comes
        back. So a post of which nobody knows what came may be repeated.
        """
        ...

    async def read(self, log: str, after: int, limit: int = BATCH_BYTES) -> Page:
        """The stored records behind `after`, in order, up to `limit` bytes (at least one record if there is one).

        Never waits for more. Raises `Gone` if the log was dropped (`expired` or `not_found`) or never was.
        """
        ...

    async def tail(self, log: str) -> Tail | None:
        """Where the log ends; None if there is none. Raises `Gone` (`expired`) if retention dropped it."""
        ...

    async def drop(self, log: str) -> None:
        """Delete the log and its idempotency key, every byte. Unknown logs are no error. Readers find it `Gone`."""
        ...

    def changed(self, log: str) -> Bell:
        """The bell that rings at every change of the log: it appears, an append or post in any process, an end, a drop.

        It is the log's only one for as long as anybody holds it, even if the log is not there yet. Hang up before you read.
        Changes by other processes ring it within POLL seconds (0.1). A store that finds records lost sets `lost` of the bell
        and rings it a last time; then the log has another one.
        """
        ...


class Window(Protocol):
    """The end of one live log in memory, as it grows."""

    records: list[Record]
    """From `base` + 1 on; those behind `stored` are not to be shown."""
    base: int
    stored: int
    ended: bool

    def page(self, after: int, limit: int) -> Page:
        """What `read` would give; `after` is not before `base`."""
        ...


@runtime_checkable
class Patient(Protocol):
    """A store that is elsewhere, and may be away for a while: it repeats what appends and what opens logs meanwhile."""

    patience: float
    """Seconds after which it gives up: what is under way fails then."""


@runtime_checkable
class Peeking(Protocol):
    """A store that keeps the ends of live logs in memory, so that cursors at the tail are served without a wait."""

    def window(self, log: str) -> Window | None:
        """The log's window, which stays the same while this process has one; None where only `read` can tell."""
        ...


@runtime_checkable
class Listing(Protocol):
    """A store that can name a principal's logs."""

    async def list(self, prefix: str, principal: str | None, limit: int) -> Sequence[tuple[str, Tail]]:
        """Logs made by `open` whose names begin with `prefix`, newest first; None means every principal's."""
        ...


@runtime_checkable
class Expiring(Protocol):
    """A store that can drop what is old."""

    async def expire(self, before: float) -> Sequence[str]:
        """Drop logs that ended before this Unix time; name them. Their names stay known, so that readers hear `expired`."""
        ...


@runtime_checkable
class Parking(Protocol):
    """A store whose live logs may be nobody's for a while: no lease holds them, nobody reaps them, and any process may take them.

    The tail of such a log names no owner.
    """

    async def park(self, log: str, after: int, *, lease: Lease, due: float) -> None:
        """Give up a log of ours that ends at `after`; appends under way are stored first. `parked` names it from `due` on.

        `due` is Unix time, `inf` for never. Raises `Conflict` unless the lease holds and `after` is the last record.
        """
        ...

    async def parked(self, due: float) -> Sequence[Due]:
        """The parked logs that are due at this Unix time, the earliest first; with `inf` all of them."""
        ...

    async def defer(self, log: str, seen: float, due: float) -> None:
        """Have a parked log that is due at `seen` be due at this time instead; nothing else of it changes.

        So what is to be done when it is due is done once: whoever has moved the time does it. Raises `Conflict` for a log that is
        not parked, or is due at another time.
        """
        ...

    async def take(
        self, log: str, after: int, records: Sequence[Record], *,
        head: bytes | None = None, ended: bool = True, due: float | None = None, orphan: bool = False,
    ) -> Lease:  # fmt: skip
        """Take a log that is parked, or whose owner is dead: raise the epoch, become its owner and append, in one transaction.

        The records carry the new epoch. With `due` the log is parked again in the same step. Raises `Conflict` if someone else
        was first or `after` is not the last record, and with `orphan` for a log that is parked by now. From then on a dead owner,
        should it live after all, cannot append to any log that it had; it may open new ones.
        """
        ...


@runtime_checkable
class Leasing(Parking, Protocol):
    """A store that several processes open. The lease is the process's: one row, beaten every BEAT seconds (2) off the loop."""

    async def orphans(self, patience: float) -> Sequence[str]:
        """Logs that are not ended and whose owner is dead: its beat stood still for `patience` seconds of our own clock.

        Call it again and again: it compares with what it saw before. Owners that closed properly are dead at once.
        """
        ...

    async def age(self, owner: str) -> float | None:
        """Seconds for which this process has seen the owner's beat stand still, 0 for our own; None for one that is gone.

        As exact as `orphans` is called often.
        """
        ...


class Carrier(Protocol):
    """Somebody's job queue, which carries the ids of runs to workers. A job may be delivered twice, late or never."""

    @property
    def here(self) -> bool:
        """Whether this process takes jobs: it is a worker of the queue."""
        ...

    def __init__(self, queue: Any, jobs: Jobs) -> None:
        """Declares the job at the queue, which is an object of the library's."""
        ...

    async def start(self) -> None:
        """Connect. In processes that are no workers."""
        ...

    async def aclose(self) -> None:
        """Undo `start`."""
        ...

    async def send(self, run: str) -> None:
        """Have some worker call `Jobs.work` with this run. Raises whatever the library raises."""
        ...


class Jobs(Protocol):
    """What a job does, and what its worker begins and ends with."""

    @property
    def apart(self) -> bool:
        """Whether this process, which has no loop of its own, has begun with `call`."""
        ...

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, and wait for it in this thread: on the application's loop, else on one in a thread of its own.

        Whatever is raised in this thread meanwhile cancels it.
        """
        ...

    async def ready(self) -> None:
        """Begin, before the first job; once more is no error."""
        ...

    async def work(self, run: str) -> None:
        """Take the run, and return once it has ended or was parked: at once where it is at work already, or has ended."""
        ...

    async def shut(self) -> None:
        """The worker goes: what is at work ends, or is handed on."""
        ...
