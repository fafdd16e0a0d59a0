"""Runs the calls of one round, all at once, within limits; what came of each goes into the log and to the model."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tidelog import Event, Source, Sources, TidelogError, ToolEnded
from tidelog.apps.tools import Call, Found, Said, Tool, ToolFailed
from tidelog.apps.tools.toolbox import behind

log = logging.getLogger("tidelog")

CALLS: Final = 16
"""Calls of one round that are answered; more are refused."""
TOOL_SECONDS: Final = 10.0
OUTPUT_CHARS: Final = 16_000
"""Of what a tool gives, as JSON, for the log and for the model. More is cut."""


class Done(NamedTuple):
    """What came of a call: its value, or why there is none."""

    call: Call
    value: Any
    error: str | None = None
    sources: Sequence[Source] = ()

    @property
    def said(self) -> Said:
        """For the model."""
        text = self.error if self.error is not None else capped(self.value)
        return Said(self.call, text, failed=self.error is not None)


async def worked(tools: Mapping[str, Tool], calls: Sequence[Call], cited: int = 0) -> list[Done]:
    """Run these calls at once. Sources that they find are numbered behind the `cited` ones that the run has told."""
    outcomes = await asyncio.gather(*(_outcome(tools, call, at) for at, call in enumerate(calls)))
    done: list[Done] = []
    for call, outcome in zip(calls, outcomes, strict=True):
        if isinstance(outcome, str):
            done.append(Done(call, None, outcome))
        else:
            found = behind(outcome, cited)
            cited += len(found.sources)
            done.append(Done(call, found.value, sources=found.sources))
    return done


def ended(done: Sequence[Done]) -> Iterator[Event]:
    """The events of these calls, in order."""
    for one in done:
        if one.sources:
            yield Sources(one.sources)
        if one.error is not None:
            yield ToolEnded(call=one.call.id, outcome="failed", error=one.error)
        else:
            text = capped(one.value)
            yield ToolEnded(call=one.call.id, output=one.value if len(text) < OUTPUT_CHARS else text)


def capped(value: Any) -> str:
    """The value as JSON, its end cut off where it is too long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < OUTPUT_CHARS else f"{text[: OUTPUT_CHARS - 1]}…"


async def _outcome(tools: Mapping[str, Tool], call: Call, at: int) -> Found | str:
    """What the tool gives, or in words why it gives nothing. Raises nothing."""
    tool = tools.get(call.name)
    if tool is None:
        return f"There is no tool {call.name[:64]!r}; there are {', '.join(tools)}."
    if at >= CALLS:
        return f"Only {CALLS} calls at once are answered: call again."
    try:
        async with asyncio.timeout(TOOL_SECONDS):
            return await tool.run(call.input)
    except (ToolFailed, TidelogError) as failed:
        return str(failed)
    except TimeoutError:
        return f"The tool takes longer than {TOOL_SECONDS:g} s."
    except Exception:
        log.exception("the tool %s failed", tool.name)
        return "The tool failed."
