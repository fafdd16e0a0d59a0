"""An outside producer: one run, written by this program, stored by a server somewhere."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from tidelog.client.outbox import Ending, Outbox, Sheaf
from tidelog.client.wire import Answer, Later, Wire
from tidelog.client.writing import Stopped, Writing
from tidelog.errors import Ended, InvalidRequest, TidelogError
from tidelog.events import Error, Event
from tidelog.log import RUN_ID, new_id
from tidelog.progress import EVERY

log = logging.getLogger("tidelog")

PATIENCE: Final = 300.0
"""Seconds for which a server that is away is tried again."""
LINGER: Final = 0.02
"""Seconds between two requests at least; what is written meanwhile goes together."""
HEARTBEAT: Final = 5.0
"""Seconds without anything to say after which the server is told that the producer lives, and tells whether the run does."""
BACKOFF: Final = (0.1, 2.0)
"""Seconds before a request is made again; they double, and are jittered."""

OURS: Final = ("invalid_batch", "too_large")
"""Codes of refusals that are the producer's own fault: the server is there, and the run can be ended."""

T = TypeVar("T")


def connect(
    url: str, run: str | None = None, *, thread: str | None = None, key: str | None = None,
    headers: Mapping[str, str] | None = None, producer: str | None = None, epoch: int = 0, patience: float = PATIENCE,
) -> Producer:  # fmt: skip
    """A run to be written in a `with` block, on the server at `url` (a router's prefix belongs to it).

    `run` is its id, of your choice, `[A-Za-z0-9_-]{1,64}`; without it one is made. `thread` puts it into a thread. `key` is sent
    as `Authorization: Bearer`, `headers` with every request. Somebody who goes on with a run that was begun before gives the same
    `producer` and a higher `epoch`: from then on nothing of the earlier one is taken.
    `patience`: seconds for which a server that is away is tried again.

    Raises `InvalidRequest` for an id or URL that is none.
    """
    run, producer = run or new_id(), producer or new_id()
    for name in (run, producer):
        if RUN_ID.fullmatch(name) is None:
            raise InvalidRequest(f"{name!r} is no id: 1 to 64 of A-Z a-z 0-9 _ -.")
    own = {"Authorization": f"Bearer {key}"} if key is not None else {}
    address = f"{url.rstrip('/')}/runs/{run}"
    wire = Wire(address, producer=producer, epoch=epoch, headers={**(headers or {}), **own}, thread=thread)
    return Producer(run, address, wire, patience)


class Producer(Writing):
    """Writes one run of a server: use it with `with`.

    The run ends as `completed` at the end of the block, as `failed` where it raises (a `SourceError` chooses the words that users
    see, all else stays here), as `stopped` at Ctrl-C. Once somebody else has ended the run, the methods raise `Stopped`, which
    the block swallows.
    """

    def __init__(self, run: str, url: str, wire: Wire, patience: float) -> None:
        super().__init__()
        self.run = run
        """The run's id."""
        self.url = url
        """Where the run is found: `/events` behind it is the stream."""
        self.outcome: str | None = None
        """How the run ended, as soon as that is known here."""
        self.known = 0
        """Events of this producer and epoch that the server had before the block began."""
        self._wire = wire
        self._patience = patience
        self._outbox = Outbox(self._check)
        self._failure: TidelogError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tidelog-{run}", daemon=True)

    @property
    def stopped(self) -> bool:
        return self._over.is_set()

    def __enter__(self) -> Self:
        """Reserve the run. Raises `TidelogError` where the server refuses it, or is away for too long."""
        try:
            answer = self._patiently(self._wire.reserve)
        except BaseException:
            self._wire.close()
            raise
        self.known = answer.expected - 1
        self._outbox.begin(answer.expected)
        self._hear(answer)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False] | bool:
        """End the run, and wait until that is stored. Raises `TidelogError` where it cannot be told to the server."""
        try:
            if not self.stopped:
                for event in self._held(None):
                    self._say(event)
                self._outbox.end(_ending(error))
            self._thread.join()
        finally:
            self._wire.close()
        if isinstance(error, Stopped) and self._failure is None:
            return True
        if self._failure is not None:
            if error is None or isinstance(error, Stopped):
                raise self._failure from None
            log.warning("run %s: its end could not be told: %s", self.run, self._failure)
        return False

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was written is stored, `timeout` seconds at most; whether it is."""
        return self._outbox.empty(timeout, lambda: self.stopped)

    def _write(self, event: Event) -> None:
        self._outbox.put(event)

    def _say(self, event: Event) -> None:
        try:
            self._outbox.put(event, wait=False)  # the thread that makes room must not wait for it
        except TidelogError as error:
            log.debug("run %s: not told: %s", self.run, error)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.stopped:
            raise Stopped

    # In the thread of its own.

    def _work(self) -> None:
        try:
            while not self.stopped:
                self._send()
        except Ended as error:
            self.outcome = error.outcome
        except TidelogError as error:
            self._failure = error
            if error.code in OURS:
                self._give_up(error)
        except Exception as error:
            log.exception("run %s: its producer failed", self.run)
            self._failure = TidelogError("The producer failed.", code="internal")
            self._failure.__cause__ = error
        finally:
            self._over.set()
            self._outbox.wake()

    def _give_up(self, error: TidelogError) -> None:
        """What was written cannot be taken: the run must not wait for more."""
        end = Ending("failed", Error(error.code, error.message))
        with contextlib.suppress(TidelogError, Later):
            self._wire.post(Sheaf(self._outbox.sheaf().seq, (), end))

    def _send(self) -> None:
        """One request, and the time until the next."""
        beat_at = time.monotonic() + HEARTBEAT
        while not self._outbox.wait(EVERY) and time.monotonic() < beat_at:
            for event in self._held(time.monotonic()):
                self._say(event)
        for event in self._held(time.monotonic()):
            self._say(event)
        sheaf = self._outbox.sheaf()
        answer = self._patiently(lambda: self._wire.post(sheaf))
        self._outbox.confirm()
        self._hear(answer)
        if sheaf.end is not None:
            self.outcome = self.outcome or sheaf.end.outcome
            self._over.set()
        elif not self.stopped:
            self._outbox.ended(LINGER)

    def _hear(self, answer: Answer) -> None:
        if answer.state == "ended":
            self.outcome = answer.outcome
            self._over.set()

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer: with the same numbers, so that what was stored before a connection broke counts once."""
        first, most = BACKOFF
        since, away = time.monotonic(), False
        while True:
            try:
                return ask()
            except Later as later:
                wait = max(later.wait, first * random.uniform(0.5, 1.5))
                if later.busy:
                    since = time.monotonic()
                elif time.monotonic() + wait > since + self._patience:
                    raise later.error from None
                if not away and not later.busy:
                    log.warning("run %s: %s Trying again for %g s.", self.run, later.error, self._patience)
                away = away or not later.busy
                time.sleep(wait)
                first = min(first * 2, most)


def _ending(error: BaseException | None) -> Ending:
    """How a block that ends like this ends its run."""
    if error is None:
        return Ending("completed")
    if isinstance(error, TidelogError):
        return Ending("failed", Error(error.code, error.message, error.retryable, error.retry_after))
    if isinstance(error, Exception):
        return Ending("failed", Error.of("internal"))
    return Ending("stopped")
