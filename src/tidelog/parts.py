"""What the translators of one run share: the names of its parts, and the tokens that its model calls used.

Two calls in one run, one after the other or at once, must not write into the same part, and the usage of a run is that of all.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tidelog import events as e

CHARS_A_TOKEN = 4
"""For estimates: characters below U+2E80 that make one token; every other character counts as one."""


_WIDE: Final = re.compile("[^\0-\u2e7f]")  # said the other way round it takes five times as long to compile


class Chunk(NamedTuple):
    """A chunk that does not tell by its class whose it is: `library` names a row of the table of sources."""

    library: str
    value: object


class OpenCall(NamedTuple):
    """A tool call that an earlier source of the run has begun and not ended."""

    name: str
    given: bool = False
    input: object = None


class Parts:
    """Names parts and calls anew, and adds up usage. One for each run."""

    def __init__(self) -> None:
        self._text = 0
        self._reasoning = 0
        self._call = 0
        self._begun: str | None = None
        self._snapshot: str | None = None
        self._taken: set[str] = set()
        self.open_calls: dict[str, OpenCall] = {}
        """By the name of the call."""
        self._input = 0
        self._output = 0
        self._estimated = False
        self._heard = 0
        """What was said and not told, in characters of which CHARS_A_TOKEN make a token."""

    @property
    def unclaimed(self) -> bool:
        """Whether a snapshot has opened a part that nobody has gone on with."""
        return self._begun is not None

    @property
    def upcoming(self) -> str:
        """What `text` will give."""
        return self._begun or f"p{self._free('p', self._text)}"

    @property
    def snapshot(self) -> str | None:
        """The part that a snapshot has opened, claimed or not, until it is ended."""
        return self._snapshot

    def text(self) -> str:
        """The name of a text part that nobody has: the part that a snapshot has opened, else `p1`, `p2` …"""
        if self._begun is not None:
            found, self._begun = self._begun, None
            return found
        self._text = self._free("p", self._text)
        return f"p{self._text}"

    def begun(self) -> None:
        """The upcoming text part was opened by a snapshot; whoever writes text next goes on in it."""
        self._begun = self._snapshot = self.text()

    def again(self) -> None:
        """Another attempt begins, and the first wrote nothing: a snapshot's part that it claimed is unclaimed again."""
        self._begun = self._snapshot

    def taken(self, name: str) -> None:
        """The application itself, or a provider, uses this name for a part or a call: nobody else is given it."""
        self._taken.add(name)

    def ended(self, name: str) -> None:
        """The application itself ended this part."""
        if name == self._snapshot:
            self._begun = self._snapshot = None

    def reasoning(self) -> str:
        """The name of a new reasoning part: `r1`, `r2` …"""
        self._reasoning = self._free("r", self._reasoning)
        return f"r{self._reasoning}"

    def call(self) -> str:
        """The name of a tool call whose provider gives none: `c1`, `c2` …"""
        self._call = self._free("c", self._call)
        return f"c{self._call}"

    def hear(self, text: str) -> None:
        """Note what a model said, so that a call that is cut before it tells its usage can be estimated."""
        self._heard += len(text)
        if not text.isascii():
            self._heard += len(_WIDE.findall(text)) * (CHARS_A_TOKEN - 1)

    def used(self, tokens_in: int, tokens_out: int) -> e.Usage:
        """The usage of the run, now that a provider has told that of one more call."""
        self._heard = 0
        self._input += tokens_in
        self._output += tokens_out
        return e.Usage(input=self._input, output=self._output, source="estimated" if self._estimated else "provider")

    def told(self, usage: e.Usage) -> None:
        """The application itself told the usage of the run: it replaces what was known, and there is nothing to guess."""
        self._heard = 0
        self._input, self._output = usage.input, usage.output
        self._estimated = usage.source != "provider"

    def estimate(self) -> e.Usage | None:
        """The usage of the run with an estimate for what no provider has told; None if nothing was said since."""
        if not self._heard:
            return None
        self._output += max(1, round(self._heard / CHARS_A_TOKEN))
        self._heard, self._estimated = 0, True
        return e.Usage(input=self._input, output=self._output, source="estimated")

    def _free(self, kind: str, last: int) -> int:
        """The next number of this kind that nobody took by name."""
        number = last + 1
        while f"{kind}{number}" in self._taken:
            number += 1
        return number
