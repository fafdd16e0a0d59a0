"""`native`: every record is a frame that explains itself, `seq` and `type` inside (spec §6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tidelog.frame import Frame, Why
from tidelog.log import Record


class Native:
    """Implements `seams.Dialect`. The bytes of the log go out as they are."""

    in_band: ClassVar[bool] = False
    stateless: ClassVar[bool] = True
    verbatim: ClassVar[bool] = True
    broken = False

    def __init__(self, run: str) -> None:
        self._run = run.encode()

    def encode(self, record: Record) -> Iterable[Frame]:
        """One frame a record."""
        seq = record.seq
        data = b'{"seq":%d,%b' % (seq, record.data[1:])
        return (Frame(data, None, b"%b.%d.%d" % (self._run, record.epoch, seq)),)

    def prelude(self) -> Iterable[Frame]:
        """Nothing: any suffix of a native stream is legal."""
        return ()

    def farewell(self, retry: int, why: Why) -> Iterable[Frame]:
        """A frame of its own type, which readers that do not know it ignore."""
        return (Frame(b'{"type":"%b","retry":%d}' % (why.encode(), retry)),)
