"""What may follow what in a log: one table, and the state that it needs.

Parts and tool calls go from absent to open to closed. The run itself goes from nothing to started to ended. Whatever ends a run,
`closing` names the events that make its log legal first, so that no reader ever needs clean-up code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from tidelog import events as e
from tidelog.errors import InvalidEvent

State = Literal["absent", "open", "given", "closed"]
Kind = Literal["text", "reasoning", "call", "question"]

LIMIT_PARTS: Final = 10_000
"""Parts and calls that one run may open: the state of a run must be bounded."""


class Rule(NamedTuple):
    """The event concerns the `kind` named by its field `key`, needs it in one of `before`, and leaves it `after`."""

    kind: Kind
    key: str
    before: tuple[State, ...]
    after: State


RULES: Final[dict[type[e.Event], Rule | None]] = {
    e.TextDelta: Rule("text", "part", ("absent", "open"), "open"),
    e.TextSnapshot: Rule("text", "part", ("absent",), "open"),
    e.TextEnded: Rule("text", "part", ("open",), "closed"),
    e.ReasoningDelta: Rule("reasoning", "part", ("absent", "open"), "open"),
    e.ReasoningEnded: Rule("reasoning", "part", ("open",), "closed"),
    e.ToolStarted: Rule("call", "call", ("absent",), "open"),
    e.ToolInputDelta: Rule("call", "call", ("open",), "open"),
    e.ToolInput: Rule("call", "call", ("open",), "given"),
    e.ToolEnded: Rule("call", "call", ("open", "given"), "closed"),
    e.QuestionAsked: Rule("question", "question", ("absent",), "open"),
    e.QuestionAnswered: Rule("question", "question", ("open",), "closed"),
    e.RunState: None,
    e.Sources: None,
    e.Progress: None,
    e.Data: None,
    e.Usage: None,
    e.Finish: None,
}
"""The grammar. `run.started` and `run.ended` are the writer's own and stand outside it."""


class Grammar:
    """The state of one log under the rules."""

    __slots__ = ("_count", "_states", "ended", "started")

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self._count = 0
        self._states: dict[Kind, dict[str, State]] = {"text": {}, "reasoning": {}, "call": {}, "question": {}}

    def accept(self, event: e.Event) -> None:
        """Take the event, or raise `InvalidEvent` and change nothing."""
        try:
            rule = RULES[type(event)]
        except KeyError:
            return self._accept_frame(event)
        if self.ended or not self.started:
            raise InvalidEvent(f"{_name(event)} {'after run.ended' if self.ended else 'before run.started'}")
        if rule is None:
            return None
        states = self._states[rule.kind]
        key = getattr(event, rule.key)
        state = states.get(key, "absent")
        if state not in rule.before:
            raise InvalidEvent(f"{_name(event)}: {rule.kind} {key!r} is {state}")
        if state != rule.after:
            self._change(states, key, rule.after, new=state == "absent")
        return None

    def copy(self) -> Grammar:
        """The same state, for events that may yet be refused."""
        made = Grammar()
        made.started, made.ended, made._count = self.started, self.ended, self._count
        made._states = {kind: dict(states) for kind, states in self._states.items()}
        return made

    @property
    def asked(self) -> int:
        """How many questions were asked."""
        return len(self._states["question"])

    def closing(self, outcome: e.Outcome) -> Iterator[e.Event]:
        """The events that close all that is open, for a run that ends with this outcome."""
        yield from self.closing_text()
        for question, state in self._states["question"].items():
            if state == "open":
                yield e.QuestionAnswered(question=question, outcome="withdrawn")
        how: e.ToolOutcome = "stopped" if outcome == "stopped" else "failed"
        for call, state in self._states["call"].items():
            if state in ("open", "given"):
                yield e.ToolEnded(call=call, outcome=how, error="The run ended first.")

    def closing_text(self) -> Iterator[e.Event]:
        """The events that close open text and reasoning alone, for a run that another process goes on with."""
        for part, state in self._states["reasoning"].items():
            if state == "open":
                yield e.ReasoningEnded(part=part)
        for part, state in self._states["text"].items():
            if state == "open":
                yield e.TextEnded(part=part)

    def _change(self, states: dict[str, State], key: str, after: State, *, new: bool) -> None:
        if new:
            if self._count >= LIMIT_PARTS:
                raise InvalidEvent(f"more than {LIMIT_PARTS} parts and calls in one run")
            self._count += 1
        states[key] = after

    def _accept_frame(self, event: e.Event) -> None:
        if isinstance(event, e.RunStarted) and not self.started:
            self.started = True
        elif isinstance(event, e.RunEnded) and self.started and not self.ended:
            if next(self.closing(event.outcome), None) is not None:
                raise InvalidEvent("run.ended with open parts")
            self.ended = True
        else:
            raise InvalidEvent(f"{_name(event)} is not allowed here")


def _name(event: object) -> str:
    tag = getattr(getattr(event, "__struct_config__", None), "tag", None)
    return str(tag or type(event).__name__)
