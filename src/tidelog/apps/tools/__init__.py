"""The tools of the agent: small functions that read and compute, and change nothing.

What a tool raises as `ToolFailed` is meant to be read, by the model and by people. A tool takes texts alone: that is what the
smallest models get right.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tidelog import Source


class ToolFailed(Exception):
    """The tool cannot do it, for the reason that its text tells."""


class Found(NamedTuple):
    """What a tool gives: `value` is JSON; `sources` are those that it rests on, which `value` numbers from 1 on."""

    value: Any
    sources: tuple[Source, ...] = ()


class Call(NamedTuple):
    """A call as somebody asked for it. `input` None: what was asked is no JSON object."""

    id: str
    name: str
    input: dict[str, Any] | None


class Said(NamedTuple):
    """What a model is told of a call: its result as text, or why there is none."""

    call: Call
    text: str
    failed: bool = False


@dataclass(frozen=True)
class Tool:
    """One tool: `parameters` names its arguments, all texts, and says what they are; `work` takes them by name.

    `work` may raise `ToolFailed`.
    """

    name: str
    description: str
    parameters: Mapping[str, str]
    required: tuple[str, ...]
    work: Callable[..., Awaitable[Found]]

    @property
    def schema(self) -> dict[str, Any]:
        """Its arguments as a JSON schema."""
        texts = {name: {"type": "string", "description": what} for name, what in self.parameters.items()}
        return {"type": "object", "properties": texts, "required": list(self.required)}

    async def run(self, given: dict[str, Any] | None) -> Found:
        """Call it. Raises `ToolFailed` for arguments that it does not take, and what `work` raises."""
        if given is None:
            raise ToolFailed("The arguments are no JSON object.")
        if unknown := sorted(set(given) - set(self.parameters)):
            raise ToolFailed(f"There is no argument {', '.join(unknown)}; there are {', '.join(self.parameters)}.")
        if missing := [name for name in self.required if not str(given.get(name, "") or "").strip()]:
            raise ToolFailed(f"The argument {', '.join(missing)} is missing.")
        return await self.work(**{name: str(value) for name, value in given.items() if value is not None})
