"""Admission: how much a process takes on, and who waits for it. It only counts: nothing here waits, and no log is known.

A claim is for one slot under each of several limits: it gets all of them at once, or none. What gets none waits in a queue, first
come first served; whom only a limit of its own holds back, as a principal that has its full share, is passed by those behind it.
A run that is queued is one whose claim is not in yet. Viewers are claims without a queue.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final, Literal, NamedTuple

from tidelog.errors import Overloaded

MAX_RUNS: Final = 2000
"""Live runs of a process: about 45 MB where each has an idle viewer under `tidelog serve` and 90 under other servers, and more
tokens than one core delivers."""
MAX_RUNS_PER_PRINCIPAL: Final = 200
MAX_VIEWERS: Final = 10_000
"""Viewers of a process: about 70 MB where they are idle, 300 under other servers than `tidelog serve`."""
MAX_VIEWERS_PER_PRINCIPAL: Final = 1000
QUEUE: Final = 1000
"""Runs that may wait for a slot."""
QUEUE_SHARE: Final = 0.5
"""The most of the queue that one principal may fill."""
QUEUE_TIMEOUT: Final = 60.0
"""Seconds that a run may wait for a slot."""
PER_PRINCIPAL: Final = "max_runs_per_principal"
PACE: Final = 32
"""Slots whose freeing tells how soon the next one will be free."""
RETRY_AFTER: Final = (1.0, 60.0)
"""The least and the most seconds that the refused are told to wait."""
RETRY_BLINDLY: Final = 5.0
"""What they are told before a slot was ever freed."""


class Bounds(NamedTuple):
    """What one process takes on; None: no limit. Processes that share a store count each for itself."""

    max_runs: int | None = MAX_RUNS
    max_runs_per_principal: int | None = MAX_RUNS_PER_PRINCIPAL
    max_viewers: int | None = MAX_VIEWERS
    max_viewers_per_principal: int | None = MAX_VIEWERS_PER_PRINCIPAL
    queue: int = QUEUE
    queue_timeout: float = QUEUE_TIMEOUT

    def check(self) -> Bounds:
        """These bounds. Raises `ValueError` for those under which nothing could ever run."""
        for name, value in self._asdict().items():
            least = 0 if name == "queue" else 1
            if value is not None and name != "queue_timeout" and value < least:
                raise ValueError(f"{name}={value!r} is less than {least}.")
        if self.queue_timeout <= 0:
            raise ValueError(f"queue_timeout={self.queue_timeout!r} is no time.")
        return self


class Limit(NamedTuple):
    """At most so many claims of the same `name` and `of`; None: they are counted, for others that have a limit there."""

    name: str
    of: Hashable
    most: int | None


Under = tuple[str, Hashable]
"""What a limit counts: its `name` and `of`."""


class Claim:
    """A wish for one slot under each of `limits`. `release` counts once, however often it is called; a `with` block ends so."""

    __slots__ = ("granted", "kept_by", "limits", "refused", "slots", "state")

    def __init__(self, slots: Slots, limits: tuple[Limit, ...]) -> None:
        self.slots = slots
        self.limits = limits
        self.state: Literal["waiting", "in", "gone"] = "gone"
        self.refused: Overloaded | None = None
        """Why it has no slot and waits for none: for a start that may find a run which has one."""
        self.kept_by: str | None = None
        """The run that will release it."""
        self.granted: Callable[[], None] = _nothing
        """Called when a claim that waited has its slots. Must not raise."""

    def release(self) -> None:
        """Give the slots, or the place in the queue, to others."""
        self.slots.release(self)

    def __enter__(self) -> None:
        """It is held until the block ends."""

    def __exit__(self, *_: object) -> None:
        self.release()


class Slots:
    """Who is in, under all limits, and who waits."""

    def __init__(self, code: str, *, queue: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """`code` is that of the refusal."""
        self._code = code
        self._queue = queue
        self._share = max(1, int(queue * QUEUE_SHARE))
        self._clock = clock
        self._in = 0
        self._held: Counter[Under] = Counter()
        self._waiting: dict[Claim, None] = {}
        self._waiting_under: Counter[Under] = Counter()
        self._freed: deque[float] = deque(maxlen=PACE)
        self._shut = False

    def __len__(self) -> int:
        """How many are in."""
        return self._in

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def claim(self, limits: tuple[Limit, ...]) -> Claim:
        """A claim that is in, or waits. Raises `Overloaded` where it may not even wait."""
        claim = Claim(self, limits)
        full = self._full(limits)
        if full is None:
            self.let_in(claim)
        elif len(self._waiting) < self._queue and not self._fills_queue(limits):
            claim.state = "waiting"
            self._waiting[claim] = None
            self._waiting_under.update(limit[:2] for limit in limits)
        else:
            raise Overloaded(code=self._code, reason=full.name, retry_after=self.retry_after())
        return claim

    def release(self, claim: Claim) -> None:
        """See `Claim.release`."""
        state, claim.state = claim.state, "gone"
        if state == "waiting":
            self._leave_queue(claim)
        elif state == "in":
            self._in -= 1
            _less(self._held, claim.limits)
            self._freed.append(self._clock())
            if self._waiting and not self._shut:
                self._serve()

    def shut(self, shut: bool) -> None:
        """Whether nobody who waits is let in for now, however many slots are free; but one at a time, so that it goes on."""
        self._shut = shut
        if not shut:
            self._serve()
        elif not self._in:
            self._serve(1)

    def place_of(self, claim: Claim) -> int:
        """The place of one that waits, from 1 on. Quick for those that came last."""
        behind = next(number for number, one in enumerate(reversed(self._waiting)) if one is claim)
        return len(self._waiting) - behind

    def places(self) -> list[tuple[int, Claim]]:
        """Those that wait, with their places from 1 on."""
        return list(enumerate(self._waiting, 1))

    def retry_after(self) -> float:
        """Seconds after which one more may have its turn: what waits now, at the pace at which slots were freed lately."""
        if not self._freed:
            return RETRY_BLINDLY
        each = (self._clock() - self._freed[0]) / len(self._freed)
        return min(max(each * (len(self._waiting) + 1), RETRY_AFTER[0]), RETRY_AFTER[1])

    def _full(self, limits: tuple[Limit, ...]) -> Limit | None:
        for limit in limits:
            if limit.most is not None and self._held.get(limit[:2], 0) >= limit.most:
                return limit
        return None

    def _fills_queue(self, limits: tuple[Limit, ...]) -> bool:
        """Whether a principal has its share of the queue: nobody can fill it for all."""
        return any(limit.name == PER_PRINCIPAL and self._waiting_under[limit[:2]] >= self._share for limit in limits)

    def let_in(self, claim: Claim) -> None:
        """Whatever is full."""
        claim.state = "in"
        self._in += 1
        for limit in claim.limits:
            self._held[limit[:2]] += 1

    def _serve(self, most: int | None = None) -> None:
        """Let in who can be, in order, at most so many. The first limit of all claims is the process's: nobody passes that."""
        before = self._in
        for claim in tuple(self._waiting):
            if most is not None and self._in - before >= most:
                break
            full = self._full(claim.limits)
            if full is not None:
                if full is claim.limits[0]:
                    break
                continue
            self._leave_queue(claim)
            self.let_in(claim)
            claim.granted()

    def _leave_queue(self, claim: Claim) -> None:
        del self._waiting[claim]
        _less(self._waiting_under, claim.limits)


class Admission:
    """The runs and the viewers that one process has, and whom it refuses."""

    def __init__(self, bounds: Bounds = Bounds(), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bounds: Final = bounds
        self._of_all_runs: tuple[Limit, ...] = (Limit("max_runs", None, bounds.max_runs),)
        self._of_all_viewers: tuple[Limit, ...] = (Limit("max_viewers", None, bounds.max_viewers),)
        self.runs = Slots("too_many_runs", queue=bounds.queue, clock=clock)
        self.handed_on = Slots("too_many_runs", clock=clock)
        """Runs that this process handed on, and that no worker has taken yet."""
        self.viewers = Slots("too_many_viewers", clock=clock)
        self._short = False
        self.refused: Counter[str] = Counter()
        """How many were refused, by reason: the name of the limit, `memory`, `draining`."""

    @property
    def short_of_memory(self) -> bool:
        """Whether no more runs are taken, whatever the limits say. Where none is at work one is: no ending would better it."""
        return self._short and (len(self.runs) > 0 or self.runs.waiting > 0)

    @short_of_memory.setter
    def short_of_memory(self, short: bool) -> None:
        self._short = short
        self.runs.shut(short)

    def run(
        self, principal: str | None, *, endpoint: Hashable = None, most: int | None = None, keyed: bool = False
    ) -> Claim:  # fmt: skip
        """The claim of a new run; `most` is the limit of its endpoint. Raises `Overloaded`.

        With `keyed`, for a start that may turn out to be none, a claim comes back that tells in `refused` why it is refused.
        """
        limits = self._limits(principal)
        if most is not None:
            limits = (*limits, Limit("endpoint", endpoint, most))
        return self._claimed(self.runs, limits, keyed)

    def hand_on(self, principal: str | None, *, keyed: bool = False) -> Claim:
        """The claim of a run that is to wait for a worker: `queue` of them may, half of these one principal's. As `run`."""
        queue = self.bounds.queue
        limits = [Limit("queue", None, queue)]
        if principal is not None:
            limits.append(Limit("queue_per_principal", principal, max(1, int(queue * QUEUE_SHARE))))
        return self._claimed(self.handed_on, tuple(limits), keyed)

    def _claimed(self, slots: Slots, limits: tuple[Limit, ...], keyed: bool) -> Claim:
        try:
            if self.short_of_memory:
                raise Overloaded(reason="memory", retry_after=self.runs.retry_after())
            return slots.claim(limits)
        except Overloaded as refused:
            if not keyed:
                raise
            claim = Claim(slots, limits)
            claim.refused = refused
            return claim

    def again(self, principal: str | None, endpoint: Hashable = None) -> Claim:
        """The claim of a run that was parked and goes on: it was let in long ago, and counts without asking anew."""
        limits = self._limits(principal)
        if endpoint is not None:
            limits = *limits, Limit("endpoint", endpoint, None)
        claim = Claim(self.runs, limits)
        self.runs.let_in(claim)
        return claim

    def _limits(self, principal: str | None) -> tuple[Limit, ...]:
        most = self.bounds.max_runs_per_principal
        if principal is None or most is None:
            return self._of_all_runs
        return *self._of_all_runs, Limit(PER_PRINCIPAL, principal, most)

    def viewer(self, principal: str | None) -> Claim:
        """One viewer more, for as long as a `with` block of this lasts. Raises `Overloaded`."""
        limits, most = self._of_all_viewers, self.bounds.max_viewers_per_principal
        if principal is not None and most is not None:
            limits = *limits, Limit("max_viewers_per_principal", principal, most)
        try:
            return self.viewers.claim(limits)
        except Overloaded as refused:
            self.refused[refused.reason] += 1
            raise


def _less(counted: Counter[Under], limits: tuple[Limit, ...]) -> None:
    for limit in limits:
        under = limit[:2]
        counted[under] -= 1
        if not counted[under]:
            del counted[under]


def _nothing() -> None:
    pass
