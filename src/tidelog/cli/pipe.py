"""What a shell pipe says becomes a run: text as it comes, or events as lines of JSON."""

from __future__ import annotations

import codecs
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tidelog import events as e
from tidelog.cli import remote, show
from tidelog.client import Producer, Stopped, connect
from tidelog.errors import SourceError
from tidelog.log import new_id

CHUNK: Final = 64 * 1024
MAX_LINE: Final = 1024 * 1024
"""Bytes of one line of JSON."""
LOOK: Final = 0.1
"""Seconds after which it is seen that somebody has stopped the run while the pipe is silent."""


def publish(
    run: str | None, url: str, headers: Sequence[str], *, lines: bool, pipe: int, patience: float
) -> str:  # fmt: skip
    """Read the pipe to its end; how the run ended. Ctrl-C and SIGTERM stop it and raise `KeyboardInterrupt`.

    Raises `Trouble`, and `TidelogError` where the server refuses, or what is read makes no sense.
    """
    base, _, identity = remote.run_address(run or new_id(), url).rpartition("/runs/")
    signal.signal(signal.SIGTERM, _interrupt)
    with connect(base, identity, headers=dict(map(remote.header, headers)), patience=patience) as writing:
        show.note(f"tidelog tail {writing.url}")
        reading = _Reading(writing, pipe, lines)
        while reading.thread.is_alive() and not writing.stopped:
            reading.thread.join(LOOK)
        if reading.error is not None:
            raise reading.error
        if writing.stopped:
            raise Stopped
    return writing.outcome or "completed"


class _Reading:
    """Reads the pipe in a thread: one that blocks there must not keep anybody from hearing that the run was stopped."""

    def __init__(self, run: Producer, pipe: int, lines: bool) -> None:
        self.error: BaseException | None = None
        self._run = run
        self._pipe = pipe
        self._read = self._read_lines if lines else self._read_text
        self.thread = threading.Thread(target=self._work, name="tidelog-pipe", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self.error = error

    def _read_text(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := os.read(self._pipe, CHUNK):
            self._run.text(decoder.decode(data))
        self._run.text(decoder.decode(b"", True))

    def _read_lines(self) -> None:
        for number, line in enumerate(_lines(self._pipe), 1):
            if not line.strip():
                continue
            event = e.decode(line)
            if event is None:
                raise SourceError(f"Line {number} is no event.", code="invalid_request")
            if not self._write(event):
                return

    def _write(self, event: Any) -> bool:
        """Write the event, which may come from the log of another run; whether more may follow."""
        match event:
            case e.RunStarted() | e.RunState() | e.QuestionAsked() | e.QuestionAnswered():
                pass
            case e.TextSnapshot(part=part, text=text):
                self._run.text(text, part)
            case e.RunEnded(outcome="completed"):
                return False
            case e.RunEnded(outcome=outcome, error=error):
                error = error or e.Error.of("internal", f"What was read ended as {outcome}.")
                raise SourceError(error.message, code=error.code, retryable=error.retryable)
            case _:
                self._run.event(event)
        return True


def _lines(pipe: int) -> Iterator[bytes]:
    rest = b""
    while data := os.read(pipe, CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_LINE:
            raise SourceError("A line is too long.", code="too_large")
        yield from lines
    yield rest


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
