"""What the terminal shows of a run: the text on stdout, so that it can be redirected; everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TextIO

from tidelog.cli.follow import Frame

EXIT_CODES: Final = {"completed": 0, "failed": 3, "stopped": 4, "timed_out": 5, "interrupted": 6}
WIDTH: Final = 100
"""Characters of a short line."""

# What a model writes must not steer the terminal.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen(Protocol):
    """Shows frames; `finish` tells the exit code."""

    def show(self, frame: Frame) -> None: ...

    def finish(self) -> int: ...


def note(text: str) -> None:
    """A short line on stderr."""
    _write(sys.stderr, f"{_short(text)}\n")


class Lines:
    """Every event as a line of JSON."""

    def __init__(self) -> None:
        self._outcome = ""

    def show(self, frame: Frame) -> None:
        """The JSON text as it came."""
        self._outcome = frame.event.get("outcome", "") if frame.event["type"] == "run.ended" else ""
        _write(sys.stdout, f"{frame.text}\n")

    def finish(self) -> int:
        """The exit code of the outcome."""
        return EXIT_CODES.get(self._outcome, 1)


class Terminal:
    """The text as it comes; sources, tools, progress and data as short lines between."""

    def __init__(self) -> None:
        self._outcome = ""
        self._clean = True
        self._tools: dict[str, str] = {}

    def show(self, frame: Frame) -> None:
        """Show one event; types that this version does not know are passed over."""
        event = frame.event
        if event["type"] in ("text.delta", "text.snapshot"):
            self._text(sys.stdout, event["text"])
        elif event["type"] == "reasoning.delta":
            self._text(sys.stderr, event["text"])
        elif event["type"] in ("text.ended", "reasoning.ended"):
            self._fresh_line()
        elif (lines := self._lines(event)) is not None:
            self._fresh_line()
            for line in lines:
                note(line)

    def finish(self) -> int:
        """The exit code of the outcome."""
        self._fresh_line()
        return EXIT_CODES.get(self._outcome, 1)

    def _lines(self, event: Mapping[str, Any]) -> Sequence[str] | None:
        match event["type"]:
            case "sources":
                return [_source(one) for one in event["sources"]]
            case "tool.started":
                self._tools[event["call"]] = event["name"]
            case "tool.input":
                return [f"tool {self._tools.get(event['call'])} {_json(event['input'])}"]
            case "tool.ended":
                found = event.get("error") or _json(event.get("output"))
                return [f"tool {self._tools.pop(event['call'], '?')} {event['outcome']}: {found}"]
            case "run.state":
                return [_doing(event)]
            case "progress":
                return [_progress(event)]
            case "data":
                return [f"{event.get('name') or 'data'} {_json(event['data'])}"]
            case "question.asked":
                allowed = f" [{' / '.join(event['options'])}]" if event.get("options") else ""
                return [f"question {event['question']}: {event['prompt']}{allowed}"]
            case "question.answered":
                return [f"question {event['question']} {event['outcome']}: {_json(event.get('value'))}"]
            case "run.ended":
                self._outcome = event["outcome"]
                return [_ending(event)]
        return None

    def _text(self, stream: TextIO, text: str) -> None:
        if text:
            self._clean = text.endswith("\n")
            _write(stream, _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if stream.isatty() else text)

    def _fresh_line(self) -> None:
        if not self._clean:
            self._clean = True
            _write(sys.stdout, "\n")


def table(runs: Sequence[Mapping[str, Any]], now: float | None = None) -> str:
    """A table of runs: id, state, outcome, age, route."""
    now = time.time() if now is None else now
    rows = [("RUN", "STATE", "OUTCOME", "AGE", "ROUTE")]
    for run in runs:
        age = _age(now - run["created"])
        rows.append((run["run"], run["state"], run["outcome"] or "-", age, run.get("route") or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(_CONTROL.sub("?", line) for line in lines)


def _source(source: Mapping[str, Any]) -> str:
    place = " > ".join(source.get("heading", ()))
    return " ".join(filter(None, (f"[{source['id']}]", source["title"], place and f"({place})", source.get("url"))))


def _progress(event: Mapping[str, Any]) -> str:
    done = f"{event['done']:g}" + (f"/{event['total']:g}" if event.get("total") is not None else "")
    return " ".join(filter(None, (f"progress {event['task']} {done}", event.get("note"))))


def _doing(event: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (event["state"], str(event.get("position") or ""))))


def _ending(event: Mapping[str, Any]) -> str:
    error = event.get("error")
    return f"{event['outcome']}: {error['message']} ({error['code']})" if error else str(event["outcome"])


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    line = _CONTROL.sub(" ", text.replace("\n", " "))
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _write(stream: TextIO, text: str) -> None:
    """Lone surrogates, and what the terminal's encoding lacks, become question marks."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
