"""OpenAI's background responses: they go on at the provider when this process dies, and `continue` finds them again.

    @tide.stream
    async def chat(question: str):
        async for event in background(client, tide.runner.store, model="gpt-5", input=question):
            yield event

The first event is `Data(name="openai.response", data={"id": …, "at": …, "text": …})`: the response, the sequence number behind
which to attach to it again, and how many characters of its text earlier runs hold. A run that continues an interrupted one
reads this in the log of that one, attaches to the response instead of asking the model again, and leaves out the text that is
stored already. Everything else (reasoning, calls, sources) is told again, since the log of a continued run stands alone.

A connection that is cut while the process lives is opened again where it was. A run that is stopped cancels its response;
one that is interrupted does not. One response a run: a second one would be taken for the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, NamedTuple

from tidelog import events as e
from tidelog.errors import Gone, SourceError
from tidelog.head import Head
from tidelog.log import run_log
from tidelog.run import Run, current
from tidelog.seams import Store
from tidelog.sources.openai_shapes import get
from tidelog.stitch import LEAST, OVERLAP

log = logging.getLogger("tidelog")

NAME: Final = "openai.response"
"""The name of the data event that tells which response a run shows."""
ATTEMPTS: Final = 3
"""How often a connection is opened again without an event in between."""
WAIT: Final = 0.25
"""Seconds before it is opened again the first time; twice as long each time."""
CANCEL_TIMEOUT: Final = 5.0
"""Seconds that the provider gets to confirm that it stops."""
LONGEST_CHAIN: Final = 16
"""How many runs back a response is looked for, where one after the other died before it could tell."""

_TEXTS: Final = ("response.output_text.delta", "response.refusal.delta")
_ENDS: Final = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
_CUTS: Final = ("APIConnectionError", "APITimeoutError")


class Position(NamedTuple):
    """Where to attach to a response again. `text` characters of what comes then are stored already."""

    id: str
    at: int
    text: int = 0


def position(events: Iterable[e.Event]) -> Position | None:
    """Where the response of this log goes on. None where it has told of none, or where a stop has cancelled it."""
    found: Position | None = None
    for event in events:
        if isinstance(event, e.Data) and event.name == NAME:
            found = _read(event.data)
        elif isinstance(event, e.TextDelta) and found is not None:
            found = found._replace(text=found.text + len(event.text))
        elif isinstance(event, e.RunEnded) and event.outcome == "stopped":
            return None
    return found


async def background(client: Any, store: Store, /, **request: Any) -> AsyncIterator[Any]:
    """The events of a background response, for a run to yield; `request` is that of `client.responses.create`.

    `client` is an `openai.AsyncOpenAI`, `store` that of the Tidelog (`tide.runner.store`). Raises what the client raises, and
    `SourceError` where the provider has forgotten the response (it keeps one for about ten minutes) or cuts it again and again.
    """
    run = current.get()
    place = _Place(client, request, await _before(store, run.head))
    rest = Rest(place.stored)
    if place.id is not None:
        yield place.told()
    try:
        while not place.over:
            try:
                async with await place.open() as stream:
                    async for event in stream:
                        if place.take(event):
                            yield place.told()
                        yield rest.of(event)
            except Exception as error:
                await place.may_go_on(error)
            else:
                await place.may_go_on(None)
    finally:
        if _stopped(run):
            await place.cancel()


class Rest:
    """What is new in a response that is told again from its beginning: all of it but the first `stored` characters of text.

    A little of the stored text is left in front of the new one. The run joins both by it (see `stitch`), and would otherwise take
    it for a repetition where the new text happens to begin as the stored one ends.
    """

    def __init__(self, stored: int) -> None:
        self._left = stored
        self._part: tuple[Any, Any] | None = None
        self._end = ""

    def of(self, event: Any) -> Any:
        """The event, its text cut by what is stored."""
        if not self._left or get(event, "type") not in _TEXTS:
            return event
        part = (get(event, "item_id"), get(event, "content_index"))
        if part != self._part:
            self._part, self._end = part, ""
        text = get(event, "delta")
        known, new = text[: self._left], text[self._left :]
        self._left -= len(known)
        self._end = (self._end + known)[-OVERLAP:]
        if not self._left and len(self._end) >= LEAST:
            new = self._end + new
        return {**event, "delta": new} if isinstance(event, dict) else event.model_copy(update={"delta": new})


class _Place:
    """A response and how far it has been read."""

    def __init__(self, client: Any, request: Mapping[str, Any], before: Position | None) -> None:
        self.id: str | None = before.id if before is not None else None
        self.stored = before.text if before is not None else 0
        self.over = False
        self._client = client
        self._request = request
        self._start = self._at = before.at if before is not None else 0
        self._tried = 0

    async def open(self) -> Any:
        """The stream of the response: of a new one, or the rest of one that is known."""
        if self.id is None:
            return await self._client.responses.create(**self._request, background=True, stream=True)
        return await self._client.responses.retrieve(self.id, stream=True, starting_after=self._at)

    def take(self, event: Any) -> bool:
        """Note where the stream is; whether this event is the first to tell which response it is."""
        self._tried = 0
        number = get(event, "sequence_number")
        self._at = number if number is not None else self._at
        self.over = get(event, "type") in _ENDS
        id = get(get(event, "response"), "id")
        if self.id is not None or not id:
            return False
        self.id, self._start = id, self._at
        return True

    def told(self) -> e.Data:
        return e.Data(name=NAME, data={"id": self.id, "at": self._start, "text": self.stored})

    async def may_go_on(self, error: Exception | None) -> None:
        """Wait before the stream is opened again after this error, or its early end. Raises where that would not help."""
        if self.over and error is None:
            return
        status = get(error, "status_code")
        if status == 404 and self.id is not None:
            raise SourceError("The provider no longer has this answer: ask again.") from error
        transient = error is None or type(error).__name__ in _CUTS or (isinstance(status, int) and status >= 500)
        self._tried += 1
        if self.id is None or not transient or self._tried > ATTEMPTS:
            raise error or SourceError("The connection to the model server was cut.")
        log.info("the response %s was cut; attaching to it again", self.id)
        await asyncio.sleep(WAIT * 2 ** (self._tried - 1))

    async def cancel(self) -> None:
        """Tell the provider that nobody wants the rest, as well as it can be told."""
        if self.id is None or self.over:
            return
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self._client.responses.cancel(self.id)
        except Exception as error:
            log.warning("the response %s could not be cancelled: %r", self.id, error)


def _stopped(run: Run) -> bool:
    """Whether the run is ending because somebody stopped it: `outcome` tells so only once that is stored."""
    return run._reason is not None and run._reason[0] == "stopped"


async def _before(store: Store, head: Head) -> Position | None:
    """Where the response goes on that the run before this one has shown; None for a run that continues none."""
    of, mode = head.of, head.mode
    for _ in range(LONGEST_CHAIN):
        if of is None or mode != "continue":
            return None
        events = await _log(store, of)
        if any(not isinstance(event, e.RunStarted) for event in events):
            return position(events)
        first = next(iter(events), None)  # it died before it could tell
        of, mode = (first.of, first.mode) if isinstance(first, e.RunStarted) else (None, None)
    return None


async def _log(store: Store, run: str) -> list[e.Event]:
    """What of a run's log tells about its response: its beginning, the response, its text, and whether it was stopped."""
    kept: list[e.Event] = []
    after, more = 0, True
    with contextlib.suppress(Gone):
        while more:
            page = await store.read(run_log(run), after)
            found = (e.decode(record.data) for record in page.records)
            kept += [event for event in found if event is not None and _tells(event)]
            more = page.more and bool(page.records)
            after = page.records[-1].seq if page.records else after
    return kept


def _tells(event: e.Event) -> bool:
    if isinstance(event, e.Data):
        return event.name == NAME
    return isinstance(event, e.RunStarted | e.TextDelta) or (
        isinstance(event, e.RunEnded) and event.outcome == "stopped"
    )


def _read(data: Any) -> Position | None:
    id, at, text = (get(data, name) for name in Position._fields)
    return Position(id, at, text or 0) if isinstance(id, str) and isinstance(at, int) else None
