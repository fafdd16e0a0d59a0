"""The routes of outside producers (spec §8, §14): a run is reserved under an id of the producer's, and its events are posted.

Any process takes them: they go into the run's feed, and the process that owns the run pulls them from there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tidelog import events as e
from tidelog import head as heads
from tidelog.errors import Conflict, InvalidBatch, InvalidRequest, Mismatch, NotFound, TooLarge
from tidelog.feed import Batch, End, EndOutcome
from tidelog.head import Head
from tidelog.launch import Launch
from tidelog.limits import Limits
from tidelog.log import RUN_ID, run_log
from tidelog.posting import Posted, Posting
from tidelog.server.access import target_of, verb_of
from tidelog.server.guard import check_site
from tidelog.server.options import MAX_BODY_BYTES
from tidelog.server.response import NO_STORE, Edge
from tidelog.server.status import json_response
from tidelog.sources.pushed import pushed

MOST_EVENTS: Final = 1000
"""Events of one batch."""
MOST_WORDS: Final = 2000
"""Characters of an error's message."""
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_NUMBER: Final = re.compile(r"[0-9]{1,15}")


class Producers:
    """The two routes over one Tidelog."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._posting = Posting(edge.runner.store)

    async def reserve(self, request: Request) -> Response:
        """Reserve a run under an id of the producer's own. Once more is no error: it tells where the run stands."""
        check_site(request.scope, self._edge.origins)
        await self._edge.ready()
        run = request.path_params["run"]
        if RUN_ID.fullmatch(run) is None:
            raise InvalidRequest("A run's id is 1 to 64 of A-Z a-z 0-9 _ -.")
        principal = await self._edge.access.start(request)
        found = await self._find(request, run)
        caller, thread = _caller(request), _thread(request)
        if found is None:
            launch = Launch(
                pushed(self._edge.runner.store, run), thread, principal, id=run, producer=caller.id, limits=self._edge.limits
            )  # fmt: skip
            try:
                await self._edge.runner.launch(launch)
            except Conflict:  # somebody else was first
                found = await self._find(request, run)
        if found is not None:
            _check_theirs(found, caller)
        posted = await self._posting.post(run, Batch(caller.epoch, 1))  # its epoch holds from here on
        return self._answer(request, posted, 200 if found is not None else 201)

    async def post(self, request: Request) -> Response:
        """Add a batch of events to a run that was reserved. A batch that is known already adds nothing."""
        check_site(request.scope, self._edge.origins)
        await self._edge.ready()
        run = request.path_params["run"]
        head = await self._find(request, run)
        if head is None:
            raise NotFound
        caller = _caller(request)
        limits = _check_theirs(head, caller)
        events, end = _batch(await _body(request), limits.max_event_bytes)
        end = _wish(request) or end
        if caller.seq is None and (events or end is not None):
            raise InvalidRequest("Producer-Seq is missing: the number of the batch's first event, from 1.")
        batch = Batch(caller.epoch, caller.seq or 1, tuple(events), end)
        return self._answer(request, await self._posting.post(run, batch), 200)

    async def _find(self, request: Request, run: str) -> Head | None:
        """The run, if there is one. Raises `NotFound` for one that the caller may not write."""
        await self._edge.access.caller(request)  # nobody hears what is there
        tail = await self._edge.runner.store.tail(run_log(run))
        head = heads.decode(tail.head) if tail is not None else None
        if head is not None:
            await self._edge.access.check(request, target_of(head), verb_of(request.scope))
        return head

    def _answer(self, request: Request, posted: Posted, status: int) -> Response:
        head = posted.head
        place = self._edge.links.run(request.scope, head.run)
        found = {
            "run": head.run, "thread": head.thread, "state": head.state, "outcome": head.outcome,
            "epoch": posted.epoch, "expected": posted.expected, "events": f"{place}/events",
        }  # fmt: skip
        headers = {"Location": place, "Run-Id": head.run, "Thread-Id": head.thread, "Cache-Control": NO_STORE}
        return json_response(found, status, headers)


class _Caller(NamedTuple):
    id: str
    epoch: int
    seq: int | None


def _caller(request: Request) -> _Caller:
    """Who posts, from the `Producer-…` headers. Raises `InvalidRequest`."""
    identity = request.headers.get("producer-id", "")
    if RUN_ID.fullmatch(identity) is None:
        raise InvalidRequest("Producer-Id is missing or malformed: 1 to 64 of A-Z a-z 0-9 _ -.")
    epoch, seq = _number(request, "Producer-Epoch"), _number(request, "Producer-Seq")
    if seq == 0:
        raise InvalidRequest("Producer-Seq counts from 1.")
    return _Caller(identity, epoch or 0, seq)


def _number(request: Request, name: str) -> int | None:
    text = request.headers.get(name)
    if text is not None and _NUMBER.fullmatch(text) is None:
        raise InvalidRequest(f"{name} must be a number.")
    return int(text) if text is not None else None


def _thread(request: Request) -> str | None:
    thread = request.headers.get("thread-id") or request.query_params.get("thread")
    if thread and RUN_ID.fullmatch(thread) is None:
        raise InvalidRequest("A thread id is 1 to 64 of A-Z a-z 0-9 _ -.")
    return thread or None


def _check_theirs(head: Head, caller: _Caller) -> Limits:
    """The limits of the caller's run. Raises `Mismatch` (`run_taken`) for one that another producer feeds, or none."""
    if head.producer is None or head.producer.id != caller.id:
        raise Mismatch(code="run_taken")
    return head.producer.limits


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"The body is over max_body_bytes ({MAX_BODY_BYTES}).")
    return bytes(body)


def _batch(body: bytes, most_bytes: int) -> tuple[list[bytes], End | None]:
    """The events of a JSON array, or of lines of JSON, and how they end the run, if they do."""
    events, end = list[bytes](), None
    for index, item in enumerate(_items(body)):
        if index >= MOST_EVENTS:
            raise TooLarge(f"A batch holds at most {MOST_EVENTS} events.")
        if len(item) > most_bytes:
            raise TooLarge(f"Event {index} of {len(item)} bytes is over max_event_bytes ({most_bytes}).")
        if end is not None:
            raise InvalidBatch("Nothing follows run.ended.", index=index)
        if (end := _ending(item, index)) is None:
            event = e.decode(item)
            if event is None:
                raise InvalidBatch("This is no event of this protocol, or has a field of a wrong type.", index=index)
            events.append(e.encode(event))
    return events, end


def _items(body: bytes) -> Iterator[bytes]:
    if not body.lstrip().startswith(b"["):
        yield from (line for line in body.split(b"\n") if line.strip())
        return
    try:
        found = json.loads(body)  # which also takes lone surrogates
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is neither a JSON array nor lines of JSON.") from None
    yield from map(e.encode_json, found)


class _Ended(msgspec.Struct, tag_field="type", tag="run.ended"):
    outcome: EndOutcome
    error: e.Error | None = None


_ended: msgspec.json.Decoder[_Ended] = msgspec.json.Decoder(_Ended)


def _ending(item: bytes, index: int) -> End | None:
    """The end that this event tells; None for any other event."""
    if b'"run.ended"' not in item:
        return None
    try:
        found = _ended.decode(item)
    except (msgspec.DecodeError, RecursionError, ValueError):
        kind: Any = _loose(item)
        if kind != "run.ended":
            return None
        raise InvalidBatch(f"run.ended needs an outcome: {', '.join(get_args(EndOutcome))}.", index=index) from None
    error = found.error
    if error is not None and (_CODE.fullmatch(error.code) is None or len(error.message) > MOST_WORDS):
        raise InvalidBatch("run.ended: its error has a code of a-z 0-9 _ and a short message.", index=index)
    return End(found.outcome, error)


def _loose(item: bytes) -> Any:
    try:
        found = msgspec.json.decode(item)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return found.get("type") if isinstance(found, dict) else None


def _wish(request: Request) -> End | None:
    """`?end=`."""
    outcome = request.query_params.get("end")
    if outcome is None:
        return None
    try:
        return msgspec.convert({"outcome": outcome}, End)
    except msgspec.ValidationError:
        raise InvalidRequest(f"end must be one of {', '.join(get_args(EndOutcome))}.") from None
