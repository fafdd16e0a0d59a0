"""`text`: the bare text of the answer, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tidelog import events as e
from tidelog.frame import Frame, Why, utf8
from tidelog.log import Record


class Text:
    """Implements `seams.Dialect`. A run that fails leaves it `broken`: text has no words for an error."""

    in_band: ClassVar[bool] = False
    stateless: ClassVar[bool] = True
    verbatim: ClassVar[bool] = False

    def __init__(self, run: str) -> None:
        self._run = run.encode()
        self.broken = False

    def encode(self, record: Record) -> Iterable[Frame]:
        """The text of a delta or snapshot."""
        event = e.decode(record.data)
        if isinstance(event, e.TextDelta | e.TextSnapshot):
            return (Frame(utf8(event.text), None, b"%b.%d.%d" % (self._run, record.epoch, record.seq), True),)
        if isinstance(event, e.RunEnded):
            self.broken = event.outcome not in ("completed", "stopped")
        return ()

    def prelude(self) -> Iterable[Frame]:
        """Nothing."""
        return ()

    def farewell(self, retry: int, why: Why) -> Iterable[Frame]:
        """Nothing: bare text cannot say it."""
        return ()
