"""Live logs as sources: a file that is followed as `tail -F` follows it, and Python's own `logging`.

A path is not a file: log files are renamed, created anew and truncated while they are read. The old file is read on as long
as the new one is empty, because whoever writes it may not have turned to the new one yet. What a copy and truncate loses between
the two, and a file that comes and goes between two looks, nobody can see.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, BinaryIO, Final, Literal, NamedTuple, TypedDict

import msgspec

from tidelog.errors import InvalidRequest, NotFound
from tidelog.events import Data

LAST: Final = 10
"""Lines of a file that is there already, as `tail` gives them."""
POLL: Final = 0.25
"""Seconds between two looks at a file that has nothing new."""
MAX_LINE_BYTES: Final = 32 * 1024
"""Even if JSON escapes each byte, a line stays under the `max_event_bytes` of a run."""
STEP_BYTES: Final = 64 * 1024
"""The most that one look reads."""
BACK_BYTES: Final = 16 * 1024 * 1024
"""How far back the last lines are looked for."""
MARK_BYTES: Final = 64
"""What was read last, by which a file is known that was truncated and has grown again."""
BUFFER: Final = 1000
"""Records of `logging` that may wait for the run."""

LogFormat = Literal["data", "json", "text"]


class FileArgs(TypedDict, total=False):
    """The keywords of `logs`."""

    last: int | None
    format: LogFormat
    follow: bool
    poll: float
    max_line_bytes: int
    name: str


class TapArgs(TypedDict, total=False):
    """The keywords of `records`."""

    logger: logging.Logger | str | None
    level: int | str
    format: Literal["data", "text"]
    buffer: int
    name: str


class Line(NamedTuple):
    """A line without its end. `cut`: bytes over the limit, which are lost."""

    text: str
    cut: int = 0


def logs(
    path: str | os.PathLike[str],
    *,
    last: int | None = LAST,
    format: LogFormat = "data",
    follow: bool = True,
    poll: float = POLL,
    max_line_bytes: int = MAX_LINE_BYTES,
    name: str = "log",
) -> AsyncGenerator[Data | str, None]:
    """The last lines of a file and all that come, through rotation by renaming or truncation; a missing file is waited for.

    `last`: how many lines of the file as it is, 0 for new ones only, None for all. `format`: `data` gives `{"line": …}` as an
    event named `name`, `json` the line's own object where it is one, `text` the line as text. A line counts once its end is
    written. `follow=False` ends with the file, its unfinished line included. `poll` is in seconds.
    Raises `InvalidRequest` for options that make no sense and, in the run, for what is no regular file; without `follow`
    `NotFound`.
    """
    if format not in _SHAPES or (last is not None and last < 0) or poll <= 0 or max_line_bytes < 1:
        raise InvalidRequest("logs() takes format data, json or text, last from 0 on, poll and max_line_bytes over 0.")
    file = _File(os.fspath(path), last, max_line_bytes)
    return _follow(file, lambda line: _SHAPES[format](name, line), poll if follow else None)


def records(
    *,
    logger: logging.Logger | str | None = None,
    level: int | str = logging.NOTSET,
    format: Literal["data", "text"] = "data",
    buffer: int = BUFFER,
    name: str = "log",
) -> AsyncGenerator[Data | str, None]:
    """What a logger of this process (None: the root) and those below it log while the run lives, from any thread.

    Each record is an event `{time, level, logger, message}`, with `error` where there was an exception; `text` gives a line.
    `level` is the lowest that is taken; what the loggers' own levels stop never comes here. Nobody who logs ever waits: of more
    than `buffer` records that the run has not taken the oldest are dropped, and `{"dropped": n}` stands where they were.
    """
    if format not in ("data", "text") or buffer < 1:
        raise InvalidRequest("logging() takes format data or text, and a buffer of at least 1.")
    tapped = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)
    return _listen(tapped, _Tap(level, buffer), name if format == "data" else None)


async def _follow(file: _File, shape: Callable[[Line], Data | str], poll: float | None) -> AsyncGenerator[Data | str]:
    loop = asyncio.get_running_loop()
    looking: asyncio.Future[tuple[list[Line], bool]] | None = None
    try:
        while True:
            looking = loop.run_in_executor(None, file.look)
            lines, more = await asyncio.shield(looking)
            for line in lines:
                yield shape(line)
            if not more and poll is None:
                break
            if not more:
                await asyncio.sleep(poll or 0)
        for line in file.rest():
            yield shape(line)
    finally:
        if looking is not None and not looking.done():
            await asyncio.wait([looking])  # a look is short, and the file must not be closed under it
        file.close()


async def _listen(logger: logging.Logger, tap: _Tap, name: str | None) -> AsyncGenerator[Data | str]:
    tap.bind(asyncio.get_running_loop())
    logger.addHandler(tap)
    try:
        while True:
            await tap.wait()
            dropped, entries = tap.take()
            if dropped:
                yield Data(name=name, data={"dropped": dropped}) if name else f"({dropped} log records were dropped)\n"
            for entry in entries:
                yield Data(name=name, data=entry) if name else _as_text(entry)
    finally:
        logger.removeHandler(tap)
        tap.close()


class _File:
    """Whatever file the path means at the moment. `look` blocks: call it in a thread, one call at a time."""

    def __init__(self, path: str, last: int | None, most: int) -> None:
        self._path = path
        self._last = last
        self._lines = _Lines(most)
        self._file: BinaryIO | None = None
        self._at = 0
        self._mark = b""
        self._first = True

    def look(self) -> tuple[list[Line], bool]:
        """The lines that the next STEP_BYTES complete, and whether there may be more at once."""
        if self._file is None and not self._open():
            return [], False
        lines = self._lines.flush() if self._was_rewritten() else []
        if data := self._read():
            return lines + self._lines.split(data), len(data) == STEP_BYTES
        if not self._was_replaced():
            return lines, False
        if data := self._read():  # written between the two looks
            return lines + self._lines.split(data), True
        self.close()
        return lines + self._lines.flush(), True

    def rest(self) -> list[Line]:
        """The line that is not finished. Raises `NotFound` if there never was a file."""
        if self._file is None:
            raise NotFound(f"There is no file {os.path.basename(self._path)}.")
        return self._lines.flush()

    def close(self) -> None:
        """Let go of the file; the next look opens the one that is there then."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        first, self._first = self._first, False
        try:
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise InvalidRequest(f"{os.path.basename(self._path)} is no regular file.")
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 (it lives as long as the run)
        except FileNotFoundError:
            return False
        self._at, self._mark = (self._start() if first and self._last is not None else 0), b""
        return True

    def _start(self) -> int:
        """Where the last lines begin; an unfinished line is none of them, and comes when it is whole."""
        assert self._file is not None and self._last is not None
        end = at = self._file.seek(0, os.SEEK_END)
        left = self._last + 1
        while at > max(0, end - BACK_BYTES):
            size = min(STEP_BYTES, at)
            at -= size
            self._file.seek(at)
            block = self._file.read(size)
            if (found := block.count(b"\n")) >= left:
                for _ in range(left):
                    size = block.rindex(b"\n", 0, size)
                return at + size + 1
            left -= found
        return at

    def _read(self) -> bytes:
        assert self._file is not None
        self._file.seek(self._at)
        data = self._file.read(STEP_BYTES)
        self._at += len(data)
        self._mark = (self._mark + data)[-MARK_BYTES:]
        return data

    def _was_rewritten(self) -> bool:
        """Whether what was read last is no longer there: then the file begins anew, however long it is by now."""
        assert self._file is not None
        self._file.seek(self._at - len(self._mark))
        if self._file.read(len(self._mark)) == self._mark:
            return False
        self._at, self._mark = 0, b""
        return True

    def _was_replaced(self) -> bool:
        """Whether the path means another file by now, which somebody writes already."""
        assert self._file is not None
        try:
            new = os.stat(self._path)
        except FileNotFoundError:
            return False
        return new.st_size > 0 and not os.path.samestat(new, os.fstat(self._file.fileno()))


class _Lines:
    """Bytes become lines; of a line no more than `most` bytes are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._line = bytearray()
        self._cut = 0

    def split(self, data: bytes) -> list[Line]:
        """The lines that this completes."""
        *whole, rest = data.split(b"\n")
        lines = []
        for piece in whole:
            self._grow(piece)
            lines.append(self._take())
        self._grow(rest)
        return lines

    def flush(self) -> list[Line]:
        """The line so far, which nobody will finish."""
        return [self._take()] if self._line or self._cut else []

    def _grow(self, piece: bytes) -> None:
        room = self._most - len(self._line)
        self._line += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> Line:
        line, cut = bytes(self._line), self._cut
        self._line.clear()
        self._cut = 0
        if cut:  # a character in halves is left out
            return Line(codecs.utf_8_decode(line, "replace", False)[0], cut)
        return Line(line.removesuffix(b"\r").decode("utf-8", "replace"))


class _Tap(logging.Handler):
    """Keeps the newest records for one run."""

    def __init__(self, level: int | str, most: int) -> None:
        super().__init__(level)
        self._entries: deque[dict[str, Any]] = deque()
        self._most = most
        self._dropped = 0
        self._rung = False
        self._guard = threading.RLock()  # a finalizer may log in the middle of `take`
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake whoever waits on this loop."""
        self._loop = loop

    async def wait(self) -> None:
        """Until there is a record."""
        await self._bell.wait()
        self._bell.clear()

    def take(self) -> tuple[int, deque[dict[str, Any]]]:
        """How many were dropped, and the records since then."""
        with self._guard:
            found = self._dropped, self._entries
            self._dropped, self._entries, self._rung = 0, deque(), False
        return found

    def emit(self, record: logging.LogRecord) -> None:
        try:
            entry = self._entry(record)
        except Exception:
            self.handleError(record)
            return
        with self._guard:
            if len(self._entries) == self._most:
                self._entries.popleft()
                self._dropped += 1
            self._entries.append(entry)
            wake, self._rung = not self._rung, True
        if wake and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it the run
                self._loop.call_soon_threadsafe(self._bell.set)

    def _entry(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is told of a record: made at once, because its arguments may change."""
        entry: dict[str, Any] = {"time": record.created, "level": record.levelname, "logger": record.name}
        entry["message"] = _clipped(record.getMessage())
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = _clipped(logging.Formatter().formatException(record.exc_info))
        return entry


def _clipped(text: str) -> str:
    data = text.encode("utf-8", "replace")
    return codecs.utf_8_decode(data[: MAX_LINE_BYTES // 2], "replace", False)[0]


def _as_data(name: str, line: Line) -> Data:
    return Data(name=name, data={"line": line.text, "cut": line.cut} if line.cut else {"line": line.text})


def _as_json(name: str, line: Line) -> Data:
    try:
        found = msgspec.json.decode(line.text) if not line.cut else None
    except msgspec.DecodeError:
        found = None
    return Data(name=name, data=found) if isinstance(found, dict) else _as_data(name, line)


def _as_line(name: str, line: Line) -> str:
    return f"{line.text} (and {line.cut} bytes)\n" if line.cut else f"{line.text}\n"


def _as_text(entry: dict[str, Any]) -> str:
    error = f"\n{entry['error']}" if "error" in entry else ""
    return f"{entry['level']} {entry['logger']}: {entry['message']}{error}\n"


_SHAPES: Final[dict[str, Callable[[str, Line], Data | str]]] = {"data": _as_data, "json": _as_json, "text": _as_line}
