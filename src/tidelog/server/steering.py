"""What a viewer says over its WebSocket: verbs of the run and of its view, each answered with a frame that names it (spec §13).

Frames are read one after the other, and each is answered before the next is read: a viewer that asks faster than it reads is
held back by its own answers, and nothing is queued here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from starlette.types import Message

from tidelog import answering, asking
from tidelog import events as e
from tidelog.errors import CursorAhead, Gone, InvalidRequest, TidelogError
from tidelog.log import run_log
from tidelog.runner import Runner
from tidelog.transports.steered import Steered

log = logging.getLogger("tidelog")

FRAME_BYTES: Final = 16 * 1024
"""The largest frame that a viewer may send."""
MOST_ERRORS: Final = 16
"""Frames without sense after which a connection is closed."""
REF_CHARS: Final = 64

Said = Mapping[str, Any]
Check = Callable[[str], Awaitable[object]]
"""Raises `TidelogError` where the viewer may not do this with the run."""


class Verdict(NamedTuple):
    """Why a connection is closed by what was read from it."""

    code: int
    reason: str


class Steering:
    """Reads the frames of one viewer until it leaves. `read` is the work of a task of its own."""

    def __init__(
        self, runner: Runner, run: str, view: Steered, *,
        by: str | None, check: Check, receive: Callable[[], Awaitable[Message]],
    ) -> None:  # fmt: skip
        self.runner = runner
        self.store = runner.store
        self.run = run
        self.view = view
        self.by = by
        """Who the viewer is."""
        self.check = check
        self.verdict: Verdict | None = None
        """Why the connection must be closed."""
        self.late: list[bytes] = []
        """Answers that came when the view was over: who closes the connection writes them."""
        self.idle = asyncio.Event()
        """Whether every frame that was read is answered."""
        self._receive = receive
        self._errors = 0

    async def read(self) -> None:
        """Do what the viewer asks; when it leaves, or must, its view ends."""
        try:
            while self.verdict is None:
                self.idle.set()
                message = await self._receive()
                self.idle.clear()
                if message["type"] == "websocket.disconnect":
                    return
                await self._answer(message)
        except Exception:
            log.exception("tidelog: a frame of a WebSocket could not be answered")
            self.verdict = Verdict(1011, "internal")
        finally:
            self.idle.set()
            self.view.leave()

    async def _answer(self, message: Message) -> None:
        text = message.get("text")
        if text is None:
            text = message.get("bytes") or b""
        if len(text) > FRAME_BYTES or (isinstance(text, str) and len(text.encode()) > FRAME_BYTES):
            self.verdict = Verdict(1009, f"a frame may hold {FRAME_BYTES} bytes")
            return
        named: dict[str, Any] = {}
        try:
            said = _parse(text)
            named = _named(said)
            answer = {"type": "reply", **named, **await _verb(said)(self, said)}
        except TidelogError as error:
            self._count(error)
            told = {"code": error.code, "message": error.message, "retryable": error.retryable, **error.fields}
            answer = {"type": "error", **named, **told}
        data = e.encode_json(answer) + b"\n"
        if not await self.view.tell(data):
            self.late.append(data)

    def _count(self, error: TidelogError) -> None:
        if isinstance(error, InvalidRequest):
            self._errors += 1
            if self._errors >= MOST_ERRORS:
                self.verdict = Verdict(1008, "too many frames without sense")


def _parse(text: str | bytes) -> Said:
    if isinstance(text, bytes):
        raise InvalidRequest("Frames are text.")
    try:
        said = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidRequest("A frame is a JSON object.") from None
    if not isinstance(said, dict):
        raise InvalidRequest("A frame is a JSON object.")
    return said


def _named(said: Said) -> dict[str, Any]:
    """What an answer repeats of its request, so that the viewer knows which one it is."""
    found: dict[str, Any] = {}
    kind, ref = said.get("type"), said.get("ref")
    if isinstance(kind, str) and kind in VERBS:
        found["to"] = kind
    if isinstance(ref, str) and len(ref) <= REF_CHARS:
        found["ref"] = ref
    return found


def _verb(said: Said) -> Verb:
    kind = said.get("type")
    verb = VERBS.get(kind) if isinstance(kind, str) else None
    if verb is None:
        raise InvalidRequest(f"The type of a frame is one of {', '.join(VERBS)}.")
    if "ref" in said and not (isinstance(said["ref"], str) and len(said["ref"]) <= REF_CHARS):
        raise InvalidRequest(f"ref is a text of at most {REF_CHARS} characters.")
    return verb


async def _of_run(verb: Verb, at: Steering, said: Said) -> dict[str, Any]:
    """A verb of the run: who may read it may not yet do this."""
    await at.check(said["type"])
    return await verb(at, said)


async def _stop(at: Steering, said: Said) -> dict[str, Any]:
    return {"result": await asking.stop(at.store, at.run, wake=at.runner.wake)}


async def _pause(at: Steering, said: Said) -> dict[str, Any]:
    return {"result": await asking.pause(at.store, at.run)}


async def _resume(at: Steering, said: Said) -> dict[str, Any]:
    return {"result": await asking.resume(at.store, at.run)}


async def _answer(at: Steering, said: Said) -> dict[str, Any]:
    question, value = answering.named(said)
    found: dict[str, Any] = msgspec.to_builtins(await at.runner.answer(at.run, question, value, by=at.by))
    return found


async def _hold(at: Steering, said: Said) -> dict[str, Any]:
    at.view.hold()
    return {"result": "held"}


async def _go(at: Steering, said: Said) -> dict[str, Any]:
    at.view.go()
    return {"result": "going"}


async def _seek(at: Steering, said: Said) -> dict[str, Any]:
    seq = said.get("seq")
    if type(seq) is not int or seq < 0:
        raise InvalidRequest("seq must be a sequence number.")
    tail = await at.store.tail(run_log(at.run))
    if tail is None:
        raise Gone
    if seq > tail.last:
        raise CursorAhead
    at.view.seek(seq)
    return {"result": "moved", "after": seq}


Verb = Callable[[Steering, Said], Awaitable[dict[str, Any]]]
"""Does what a frame asks; what it gives stands in the answer. Raises `TidelogError` for what cannot be done."""

VERBS: Final[dict[str, Verb]] = {
    "stop": partial(_of_run, _stop),
    "pause": partial(_of_run, _pause),
    "resume": partial(_of_run, _resume),
    "answer": partial(_of_run, _answer),
    "hold": _hold,
    "go": _go,
    "seek": _seek,
}
"""By the type of the frame. Verbs of the run first; hold, go and seek are the view's."""
