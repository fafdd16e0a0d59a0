"""The log: one line at the start and one at the end of each run, and lines as JSON for `tidelog serve --log-format json`.

Fields travel as `extra={"tidelog": {...}}` of the standard library: under one name, because a record has names of its own
(`thread` is one), and so that any formatter finds them. Nothing that a user or a provider said is ever a field: a route is
a template, a principal is a keyed hash.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from traceback import format_tb
from typing import Any, Final

import msgspec

from tidelog.head import Head
from tidelog.server.witness import Ended, Started

log = logging.getLogger("tidelog")

FIELDS: Final = "tidelog"
"""The name under which a record carries its fields."""
CODE: Final = re.compile(r"[a-z0-9_.-]{1,64}")
CAUSES: Final = 8
"""How far a chain of exceptions is followed."""


class RunLines:
    """Implements `witness.Listener`: level INFO, nothing at all where that is not wanted."""

    def __init__(self) -> None:
        self._key = os.urandom(16)

    def started(self, fact: Started) -> None:
        if log.isEnabledFor(logging.INFO):
            head = fact.head
            fields = {"event": "run.started", **self._who(fact), "of": head.of, "mode": head.mode}
            _say(fields, "run %s started%s", head.run, _at(fact.route))

    def first_event(self, route: str, seconds: float) -> None:
        """Told in the line of the end."""

    def ended(self, fact: Ended) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        code = fact.code if fact.code is None or CODE.fullmatch(fact.code) else "other"
        fields = {
            "event": "run.ended", **self._who(fact), "outcome": fact.outcome, "code": code, "records": fact.records,
            "bytes": fact.bytes, "duration_ms": _ms(fact.seconds), "first_event_ms": _ms(fact.first_event),
            "usage": {"input": fact.usage.input, "output": fact.usage.output, "source": fact.usage.source},
        }  # fmt: skip
        said = fact.outcome if code is None else f"{fact.outcome} ({code})"
        _say(
            fields, "run %s ended: %s, %d records, %d bytes, %.3f s%s",
            fact.head.run, said, fact.records, fact.bytes, fact.seconds, _at(fact.route),
        )  # fmt: skip

    def parked(self, head: Head) -> None:
        if log.isEnabledFor(logging.INFO):
            said, event = ("is parked", "run.parked") if head.parkable else ("is left to another process", "run.left")
            _say({"event": event, "run": head.run}, "run %s %s", head.run, said)

    def again(self, head: Head, route: str) -> None:
        if log.isEnabledFor(logging.INFO):
            fields = {"event": "run.again", "run": head.run, "route": route}
            _say(fields, "run %s goes on%s", head.run, _at(route))

    def _who(self, fact: Started | Ended) -> dict[str, Any]:
        head = fact.head
        return {"run": head.run, "thread": head.thread, "route": fact.route, "principal": self._hidden(head.principal)}

    def _hidden(self, principal: str | None) -> str | None:
        """The same for all runs of a principal while the process lives; nobody can tell from it who that is."""
        if principal is None:
            return None
        return hashlib.blake2b(principal.encode("utf-8", "surrogatepass"), key=self._key, digest_size=6).hexdigest()


class TextLines(logging.Formatter):
    """Lines of text, with the time as `logging` writes it: what it says of a second is made once in that second."""

    _second = 0
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime(self.default_time_format, self.converter(record.created))
        return f"{self._text},{int(record.msecs):03d}"


class JsonLines(logging.Formatter):
    """Each record as one line of JSON: `time` (UTC), `level`, `logger`, `message`, its fields, `exception`.

    Of exceptions it tells class and place, never the message: an exception may quote what a user asked or a model said.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        fields = getattr(record, FIELDS, None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in fields.items() if name not in line}
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = list(_places(record.exc_info[1]))
        return msgspec.json.encode(line, enc_hook=str).decode()


def _places(error: BaseException) -> Iterator[str]:
    """Where each exception of the chain was raised, the last one first."""
    following: BaseException | None = error
    for _ in range(CAUSES):
        if following is None:
            return
        kind = type(following)
        yield f"{kind.__module__}.{kind.__qualname__}\n{''.join(format_tb(following.__traceback__))}".rstrip()
        hidden = following.__suppress_context__
        following = following.__cause__ or (None if hidden else following.__context__)


def _say(fields: dict[str, Any], text: str, *args: object) -> None:
    """Log it with those of the fields that are known. From here: who looks for the caller pays as much as for all else."""
    known = {name: value for name, value in fields.items() if value not in (None, "")}
    log.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, text, args, None, extra={FIELDS: known}))


def _at(route: str) -> str:
    return f" at {route}" if route else ""


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
