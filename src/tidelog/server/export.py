"""`return tide.export(make)`: text as a download. A small one is one document; a large one is a run that its viewer paces.

What is small shows only when it is read. So the source is opened in the request first and read up to `whole_bytes` and for
`whole_seconds`; if that is not all of it, it is closed, and a run opens it anew. A source that fails on the way fails again in
the run, which knows how to tell it; one that takes longer than `close_timeout` to close goes on closing while the run is at
work. The log of the run is the buffer between source and viewer: it lies in the store, not in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Unpack
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from tidelog import registry
from tidelog.asking import head_of
from tidelog.closing import close
from tidelog.errors import InvalidRequest, StoreError, TidelogError
from tidelog.run import Opener
from tidelog.runner import Runner
from tidelog.server.guard import check_start
from tidelog.server.negotiate import Form, negotiate, resume_position
from tidelog.server.options import OptionArgs, cancel_after, make_options
from tidelog.server.response import NO_STORE, REPEAT, TideResponse
from tidelog.server.view import WHOLE

if TYPE_CHECKING:
    from tidelog.server.app import Tidelog

log = logging.getLogger("tidelog")

WHOLE_BYTES: Final = 10_000_000
"""What is smaller is one document."""
WHOLE_SECONDS: Final = 5.0
"""A client should not wait longer for the first byte."""
LOCKSTEP: Final = 1024 * 1024
EXPORT_BYTES: Final = 4 * 1024**3
"""The `max_run_bytes` of an export, as JSON in the log: it needs a store on disk."""
EXPORT_RECORDS: Final = 10_000_000
EXPORT_SECONDS: Final = 6 * 3600.0
EXPORT_LEAVE: Final = 60.0
"""Seconds for which a download that broke off can be taken up again before its run is stopped."""
DROP_AFTER: Final = 10.0
"""Seconds after the end of a download until its log is dropped: who lost the last bytes may come back, and the store has moved
all of the log to where it is dropped piece by piece."""
PIECE: Final = 32 * 1024
"""Characters in one event: even where JSON escapes each, it stays under `max_event_bytes`."""


class ExportArgs(OptionArgs, total=False):
    """The keywords of `export`: its own, and the options of `tide.response`."""

    filename: str | None
    media_type: str
    whole_bytes: int
    whole_seconds: float
    drop_after: float | None


def export(
    tide: Tidelog,
    opener: Callable[[Any], Opener],
    make: Callable[[], Any],
    *,
    filename: str | None = None,
    media_type: str = "text/csv; charset=utf-8",
    whole_bytes: int = WHOLE_BYTES,
    whole_seconds: float = WHOLE_SECONDS,
    drop_after: float | None = DROP_AFTER,
    **options: Unpack[OptionArgs],
) -> Response:
    """The answer of an endpoint that exports the text, `str` or UTF-8 `bytes`, of the source that `make` makes.

    Less than `whole_bytes` within `whole_seconds` is one document with Content-Length, and no run. The rest is a run under
    `lockstep` (1 MiB) with room for 4 GiB and 6 h, stopped 60 s after its last viewer has left; `options` change that. Its body
    is the same text; SSE and JSON lines are given to whoever asks for them, `Prefer: respond-async` starts it in the background.
    `drop_after` seconds after a completed run was sent to its end its log is dropped; None leaves it to retention. `filename`
    makes browsers save the answer.
    Raises `InvalidRequest` if `make` is no function: a source may be opened twice.
    """
    if not callable(make):
        raise InvalidRequest("export() takes a function that makes the source, because it may be opened twice.")
    given: OptionArgs = {
        "default": "text", "lockstep": LOCKSTEP, "max_run_bytes": EXPORT_BYTES, "max_run_records": EXPORT_RECORDS,
        "total_timeout": EXPORT_SECONDS, "on_leave": cancel_after(EXPORT_LEAVE), **options,
    }  # fmt: skip
    headers = {"Content-Type": media_type}
    if filename is not None:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"

    close_timeout = make_options(tide.limits, given).limits.close_timeout

    async def whole() -> bytes | None:
        reading = _whole(opener(make), whole_bytes, whole_seconds)
        return await _within(tide.runner, reading, whole_seconds + close_timeout)

    streamed = tide.response(lambda: _cut(opener(make)), **given)
    return _Export(tide, streamed, whole, headers=headers, drop_after=drop_after)


class _Export(Response):
    """Answers with the document, or as the run does, under the media type of the export."""

    def __init__(
        self, tide: Tidelog, streamed: TideResponse, whole: Any, *, headers: dict[str, str], drop_after: float | None
    ) -> None:
        super().__init__()
        self._tide = tide
        self._streamed = streamed
        self._whole = whole
        self._named = headers
        self._drop_after = drop_after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = negotiate(Request(scope), "text", "native")
        if not self._is_plain(form):
            await self._streamed(scope, receive, send)
            return
        if _begins(scope) and await self._may_start(scope) and (found := await self._whole()) is not None:
            answer = Response(found, headers={**self._named, "Cache-Control": NO_STORE, "Vary": "Accept"})
            await answer(scope, receive, send)
            return
        sent = _Sent(send, self._named)
        await self._streamed(_asking_for_text(scope), receive, sent)
        if self._drop_after is not None and sent.complete:
            _Dropping(self._tide.runner, sent.run, self._drop_after)

    async def _may_start(self, scope: Scope) -> bool:
        """Whether a run may start; the answer of the run tells why not."""
        if self._tide.runner.draining.rung:
            return False
        try:
            check_start(Request(scope), self._tide.origins)
            await self._tide.ready()
            await self._tide.access.start(Request(scope))
        except TidelogError:
            return False
        return True

    def _is_plain(self, form: Form) -> bool:
        """Whether the client takes the text itself: all but those who name a form of events do."""
        if form.kind == "async":
            return False
        name = next(name for name in registry.FRAMINGS if registry.framing(name) is form.framing)
        return form.kind != "stream" or name == "text" or (name == "lines" and "ndjson" in self._named["Content-Type"])


class _Dropping:
    """Drops a completed run after some seconds, unless the server goes before: its bell holds this until then."""

    def __init__(self, runner: Runner, run: str, seconds: float) -> None:
        self._runner = runner
        self._run = run
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin)
        runner.draining.add(self._cancel)

    def _cancel(self) -> None:
        self._timer.cancel()

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._drop())

    async def _drop(self) -> None:
        runner = self._runner
        try:
            if not runner.draining.rung and (await head_of(runner.store, self._run)).outcome == "completed":
                await runner.drop(self._run)
        except StoreError as error:  # somebody else has deleted it; else retention will
            log.debug("export: %s is not dropped", self._run, exc_info=error)
        finally:
            runner.draining.discard(self._cancel)


class _Sent:
    """An ASGI `send` that gives a stream its media type, and knows whether its body was sent to the end."""

    def __init__(self, send: Send, named: dict[str, str]) -> None:
        self.run = ""
        self.complete = False
        self._send = send
        self._named = named

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = MutableHeaders(raw=list(message["headers"]))
            self.run = headers.get("run-id", "")
            for name, value in self._named.items():
                headers[name] = value
            message = {**message, "headers": headers.raw}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.complete = bool(self.run)


def _begins(scope: Scope) -> bool:
    """Whether this request is a first one: it neither resumes nor repeats, and wants a body."""
    return scope["method"] != "HEAD" and REPEAT not in scope and resume_position(Request(scope)) is None


def _asking_for_text(scope: Scope) -> Scope:
    headers = MutableHeaders(raw=list(scope["headers"]))
    headers["Accept"] = "text/plain"
    return {**scope, "headers": headers.raw, WHOLE: True}


async def _within(runner: Runner, reading: Coroutine[Any, Any, bytes | None], seconds: float) -> bytes | None:
    """What the reading gives within so many seconds. Later it is left to end by itself, until the server goes."""
    task = asyncio.get_running_loop().create_task(reading)

    def cancel() -> None:
        task.cancel()

    def ended(_: object) -> None:
        runner.draining.discard(cancel)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("export: reading it as one document failed", exc_info=error)

    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        cancel()
        raise
    finally:
        if not task.done():
            runner.draining.add(cancel)
            task.add_done_callback(ended)
    return task.result() if task.done() else None


async def _whole(opener: Opener, most: int, seconds: float) -> bytes | None:
    """All of the text, if it is less than `most` bytes and there within so many seconds."""
    chunks = opener().chunks
    try:
        async with asyncio.timeout(seconds):
            return await _collected(chunks, most)
    except Exception as error:
        log.debug("export: not one document", exc_info=error)
        return None
    finally:
        await close(chunks)


async def _collected(chunks: AsyncIterator[Any], most: int) -> bytes | None:
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        piece = _text(chunk).encode() if not isinstance(chunk, bytes) else chunk
        size += len(piece)
        if size >= most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


async def _cut(opener: Opener) -> AsyncGenerator[str | bytes]:
    """The text in pieces that fit into events."""
    chunks = opener().chunks
    try:
        async for chunk in chunks:
            text = chunk if isinstance(chunk, bytes) else _text(chunk)
            for at in range(0, len(text), PIECE):
                yield text[at : at + PIECE]
    finally:
        await close(chunks)


def _text(chunk: Any) -> str:
    if isinstance(chunk, str):
        return chunk
    raise InvalidRequest(f"export() takes text, not {type(chunk).__name__}.")
